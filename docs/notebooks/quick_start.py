# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Quick start: digits without labels
#
# A SoftHebb layer looks at small patches of images. At every place its neurons compete, and the
# winner moves its filter towards the patch. No labels and no gradients take part. Does such a layer
# learn something that helps to tell digits apart, or are random filters as good?

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

from softhebb_fast import SoftHebbBlock, Triangle
from softhebb_fast.data import batches, load, permutation
from softhebb_fast.training.features import cache_features

digits, test = load("mnist", limit=6000), load("mnist", "test", limit=2000)
print(tuple(digits.images.shape))

# %% [markdown]
# A block is what published networks are made of: batch norm, the layer, an activation, a pool.
# `update="in_place"` makes the forward pass learn, as long as the block is in training mode. The
# second block is there to compare. Its weights are frozen, so it sees the same digits and learns
# nothing but the statistics of its batch norm.

# %%


def new_block():
    torch.manual_seed(0)
    return SoftHebbBlock(
        1,
        24,
        7,
        padding=3,
        t_invert=3.0,
        lr=0.2,
        update="in_place",
        activation=Triangle(1.0),
        pool=nn.AvgPool2d(8, 4, 2),
    )


block, random = new_block(), new_block()
random.layer.weight.requires_grad_(False)
for x, _ in batches(digits, 32, order=permutation(len(digits), seed=0)):
    block(x)
    random(x)

# %% [markdown]
# That was one look at each of 6000 digits. The upper filters are random, as all start. The lower
# ones have learned: strokes and edges at many angles.

# %%
figure, axes = plt.subplots(2, 12, figsize=(9, 2), layout="constrained")
for row, one in zip(axes, (random, block), strict=True):
    for axis, weight in zip(row, one.layer.weight.detach()[:, 0], strict=False):
        largest = weight.abs().max()
        axis.imshow(weight, cmap="RdBu_r", vmin=-largest, vmax=largest)
        axis.set_axis_off()

# %% [markdown]
# A linear classifier judges what comes out. It has labels, and it is the best one in the sense of
# least squares, with a little shrinkage. So no learning rate can favour either side.

# %%


def accuracy(modules):
    def columns(images):
        features = cache_features(images, modules).images.flatten(1).double()
        return torch.cat([features, torch.ones(len(features), 1)], dim=1)

    a, b = columns(digits), columns(test)
    targets = nn.functional.one_hot(digits.labels).double()
    shrink = 1e-3 * (a * a).mean() * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
    answers = b @ torch.linalg.solve(a.T @ a + shrink, a.T @ targets)
    return 100 * (answers.argmax(1) == test.labels).double().mean().item()


scores = {
    "pixels": accuracy([]),
    "random filters": accuracy([random.eval()]),
    "learned filters": accuracy([block.eval()]),
}
for name, score in scores.items():
    print(f"{name:16} {score:.1f} %")

# %% [markdown]
# Both layers help much, and the learned one most. Random filters are a strong opponent: compare
# with them, not with pixels.
