# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Why ZerO collapses
#
# ZerO starts a network from zeros and ones, without random numbers. In backpropagation that works.
# In SoftHebb networks the accuracy falls apart. The reason can be seen before any training.

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

from softhebb_fast import SoftHebbConv2d, init
from softhebb_fast.data import batches, load, permutation

starts = {
    "normal": "normal",
    "ZerO": {"name": "zerO", "radius": 25},
    "ZerO and 1 % noise": {"name": "zerO", "radius": 25, "noise": 0.01},
    "Hadamard patches": "hadamard_patches",
}


def layer(start):
    torch.manual_seed(0)
    options = {"t_invert": 3.0, "lr": 0.2, "update": "in_place"}
    return SoftHebbConv2d(1, 64, 7, padding=3, init=start, **options)


layers = {name: layer(start) for name, start in starts.items()}
before = {name: init.distinct_filters(one.weight.detach()) for name, one in layers.items()}
for name, count in before.items():
    print(f"{name:20} {count:2} distinct filters of 64")

# %% [markdown]
# ZerO cuts a Hadamard matrix to as many columns as there are input channels. Digits have one. So
# all 64 filters are the same: one pixel in the middle.
#
# Equal neurons see equal patches and ask for equal updates. One thing alone parts them. Of equal
# neurons the first one wins the competition, and the winner learns while the others unlearn.

# %%
digits = load("mnist", limit=6000)
norm = nn.BatchNorm2d(1, affine=False)
for x, _ in batches(digits, 10, order=permutation(len(digits), seed=0)):
    x = norm(x)
    for one in layers.values():
        one(x)
after = {name: init.distinct_filters(one.weight.detach()) for name, one in layers.items()}

# %% [markdown]
# Now count who wins. The entropy of the wins is 6 bits if 64 neurons share them evenly, and 0 if
# one takes all.

# %%


def entropy(one):
    one.eval()
    u = one(norm(digits.batch(slice(0, 500))[0]))
    share = u.argmax(1).flatten().bincount(minlength=64).double()
    share = share[share > 0] / share.sum()
    return -(share * share.log2()).sum().item() + 0.0


bits = {name: entropy(one) for name, one in layers.items()}
for name in starts:
    print(f"{name:20} {after[name]:2} distinct, entropy of the wins {bits[name]:.2f} bits")

# %% [markdown]
# By count all filters of ZerO have parted. By wins few of them take part. The pictures say why:
# nearly all are still one pixel, and noise of 1 % does not change that.

# %%
figure, axes = plt.subplots(2, 2, figsize=(6, 6.4), layout="constrained")
for axis, (name, one) in zip(axes.flat, layers.items(), strict=True):
    weight = one.weight.detach()[:, 0]
    weight = weight / weight.abs().amax((1, 2), keepdim=True)
    rows = [torch.cat(list(nn.functional.pad(w, (1, 1, 1, 1))), 1) for w in weight.split(8)]
    axis.imshow(torch.cat(rows), cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set_title(name, fontsize=9)
    axis.set_axis_off()

# %% [markdown]
# `hadamard_patches` is as deterministic as ZerO and has no random number either. Its filters differ
# from the start, and that is enough. Accuracies of whole networks are in
# [the results](../results.md), the general story in [One symmetry from two sides](../symmetry.md).
