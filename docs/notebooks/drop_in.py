# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # A drop-in replacement
#
# You have a model in PyTorch, or the loop of the published SoftHebb example. What has to change?
# In the first case one call, in the second one import. This page does both, and checks that the
# numbers stay what they were.

# %%
import torch
from torch import nn

from softhebb_fast import SoftHebbConv2d, convert, optim
from softhebb_fast.data import batches, load

digits = load("mnist", limit=2000)
torch.manual_seed(0)

# %% [markdown]
# ## A model of your own
#
# `convert` replaces the layers of a model by ones that learn. It tries each new layer on random
# inputs beside the old one, and says what it did.

# %%
model = nn.Sequential(
    nn.Conv2d(1, 32, 5, padding=2, padding_mode="reflect", bias=False),
    nn.ReLU(),
    nn.MaxPool2d(4),
    nn.Flatten(),
    nn.Linear(32 * 7 * 7, 10),
).eval()
x, _ = digits.batch(slice(0, 100))
before = model(x)

converted = convert(model, update="in_place", lr=0.05)
print(converted)

# %% [markdown]
# The weights are the same tensors, so in evaluation mode the model computes what it did.

# %%
after = model(x)
kept = torch.equal(before, after)
print("the same bits:", kept)

# %% [markdown]
# In training mode a forward pass now changes the first layer, and nothing else. The classifier
# waits for labels.

# %%
first, last = model[0].weight.clone(), model[4].weight.clone()
model.train()
with torch.no_grad():
    model(x)
moved = [bool((old != new.weight).any()) for old, new in ((first, model[0]), (last, model[4]))]
print("changed: first layer", moved[0], "- classifier", moved[1])

# %% [markdown]
# ## The loop of the published example
#
# There an optimizer makes the steps. The layer assigns its direction to `weight.grad`, and the
# optimizer ascends. The rate of each neuron depends on the norm of its filter.

# %%


def layer(**options):
    generator = torch.Generator().manual_seed(1)
    return SoftHebbConv2d(1, 32, 5, padding=2, t_invert=1.0, generator=generator, **options)


by_optimizer = layer(update="grad")
optimizer = torch.optim.SGD(by_optimizer.parameters(), lr=0.08, maximize=True)
optim.norm_dependent(optimizer, lr_power=0.5)
for x, _ in batches(digits, 10):
    optimizer.zero_grad()
    with torch.no_grad():
        by_optimizer(x)
    optimizer.step()

# %% [markdown]
# `update="in_place"` makes the same steps by itself, without an optimizer. The sums are rounded in
# another order, and such differences grow a little with every step. This is after 200 of them.

# %%
by_itself = layer(update="in_place", lr=0.08, lr_power=0.5)
for x, _ in batches(digits, 10):
    by_itself(x)

difference = (by_itself.weight - by_optimizer.weight).abs().max().item()
size = by_itself.weight.abs().max().item()
print(f"largest difference {difference:.1e}, largest weight {size:.2f}")

# %% [markdown]
# Take `"grad"` where you want momentum, Adam or a schedule of PyTorch. Take `"in_place"` for speed.
