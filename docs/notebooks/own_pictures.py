# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # A folder of your own pictures
#
# Pictures in folders, one a class, are all that is needed: `PATH/train/<class>/*.png` and the same
# below `test`. This page first makes such a folder, so that it runs anywhere. The classes are
# textures that differ in the angle of their stripes alone. Colour and place tell nothing.

# %%
import math
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image
from torch import nn

from softhebb_fast import SoftHebbBlock
from softhebb_fast.data import batches, load, permutation
from softhebb_fast.plots import filter_grid
from softhebb_fast.training.features import cache_features

folder = Path(tempfile.mkdtemp())
torch.manual_seed(0)
generator = torch.Generator().manual_seed(0)


def texture(degrees):
    """A noisy coloured picture of stripes at an angle."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    angle = math.radians(degrees)
    along = columns * math.cos(angle) + rows * math.sin(angle)
    phase, period = 6.28 * torch.rand((), generator=generator), 5
    stripes = torch.sin(2 * math.pi * along / period + phase)
    colour = torch.rand(3, generator=generator)
    noise = 0.5 * torch.randn(32, 32, 3, generator=generator)
    pixels = 0.5 + 0.3 * stripes.unsqueeze(2) * colour + 0.2 * noise
    return Image.fromarray((255 * pixels.clamp(0, 1)).byte().numpy())


angles = (0, 45, 90, 135)
for split, count in (("train", 150), ("test", 50)):
    for degrees in angles:
        place = folder / split / f"stripes_{degrees}"
        place.mkdir(parents=True)
        for i in range(count):
            texture(degrees).save(place / f"{i}.png")

figure, axes = plt.subplots(1, 4, figsize=(8, 2.2), layout="constrained")
for axis, degrees in zip(axes, angles, strict=True):
    axis.imshow(Image.open(folder / "train" / f"stripes_{degrees}" / "0.png"))
    axis.set(title=f"stripes_{degrees}")
    axis.set_axis_off()

# %% [markdown]
# `imagefolder:PATH` is the name of such a data set, here and on the command line.

# %%
pictures = load(f"imagefolder:{folder}", "train", image_size=32)
print(len(pictures), "pictures,", pictures.image_shape, pictures.classes)

# %% [markdown]
# Why not put a linear classifier on the pixels? Because the phase of the stripes is random.
# Averaged over the pictures of a class every pixel is grey, so no pixel speaks for an angle. A
# layer whose filters are stripes does, wherever the stripes lie.

# %%
options = {"t_invert": 1.0, "lr": 0.05, "update": "in_place"}
block = SoftHebbBlock(3, 16, 7, pool=nn.AvgPool2d(26), **options)
for epoch in range(2):
    for x, _ in batches(pictures, 10, order=permutation(len(pictures), seed=0, epoch=epoch)):
        block(x)
block.eval()
filter_grid(block.layer.weight.detach(), "what the pictures are made of")

# %%
test = load(f"imagefolder:{folder}", "test", image_size=32)


def accuracy(modules):
    """Of the linear classifier of least squares, per cent."""

    def columns(images):
        features = cache_features(images, modules).images.flatten(1).double()
        return torch.cat([features, torch.ones(len(features), 1)], dim=1)

    a, b = columns(pictures), columns(test)
    targets = nn.functional.one_hot(pictures.labels).double()
    shrink = 1e-3 * (a * a).mean() * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
    answers = b @ torch.linalg.solve(a.T @ a + shrink, a.T @ targets)
    return 100 * (answers.argmax(1) == test.labels).double().mean().item()


pixels, features = accuracy([]), accuracy([block])
print(f"on {3 * 32 * 32} pixels {pixels:.0f} %, on 16 features {features:.0f} %; chance is 25 %")

# %% [markdown]
# Sixteen numbers a picture, learned without a label, beat 3072 pixels. A whole run on such a
# folder, with checkpoints and pictures, is one command:
# `softhebb-fast train 3SoftHebbCnnImNet --dataset imagefolder:PATH`. It takes the pictures at
# 160 x 160.
