"""One picture a rule: the filters that it learns from patches of natural images.

    python -m benchmarks.rules.pictures                  # all, into docs/figures/rules
    python -m benchmarks.rules.pictures oja --out runs

A rule takes some seconds on one core. The patches are grey, 9x9, of the same contrast, and
decorrelated where the rule looks for more than correlations; rules that learn from labels see whole
images. Blue is negative and red positive, each filter to its own largest magnitude.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.image import imsave
from torch import Tensor

from benchmarks.rules.patches import SIZE, Inputs
from softhebb_fast.kinds import RULES
from softhebb_fast.nn import HebbianLinear
from softhebb_fast.pictures.filters import COLOUR_MAP

FOLDER = Path(__file__).parents[2] / "docs/figures/rules"
COLUMNS, ZOOM = 8, 5


@dataclass(frozen=True)
class Recipe:
    """How a rule learns here.

    Attributes:
        form: of the inputs, see ``patches.FORMS``.
        lr: base rate, which falls to 0 along a line, if ``falls``.
        start: mean norm of the filters at the start.
        samples: whether they start as inputs.
        neurons, steps, batch: how many.
        options: of the layer.
    """

    form: str
    lr: float
    start: float = 1.0
    samples: bool = False
    neurons: int = 64
    steps: int = 4000
    batch: int = 100
    falls: bool = True
    options: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "softhebb": Recipe("white", 0.05, 5.0, falls=False, options={"t_invert": 1.0}),
    "krotov": Recipe("white", 0.02),
    "instar": Recipe("white", 3.0, samples=True, options={"wta": "soft", "t_invert": 1.0}),
    "kmeans": Recipe("white", 1.0, steps=6000, batch=200, falls=False),
    "hebb": Recipe("patches", 0.01, options={"unit_norm": True}),
    "oja": Recipe("patches", 0.01),
    "sanger": Recipe("patches", 0.03, 0.3, steps=10_000),
    "bcm": Recipe("on_and_off", 0.003, steps=10_000, options={"momentum": 0.01}),
    "teacher": Recipe("images", 0.003, 0.01, neurons=10, steps=600),
    "delta_rule": Recipe("images", 0.002, 0.01, neurons=10, steps=1500, options={"t_invert": 1.0}),
    "similarity": Recipe("patches", 0.005, 0.3, neurons=16, steps=8000),
    "nonnegative_similarity": Recipe("white", 0.05, options={"momentum": 0.05}),
}


def learned(rule: str, inputs: Inputs) -> Tensor:
    """The filters ``[K, S]`` after the recipe's steps."""
    recipe = RECIPES[rule]
    x = inputs.form(recipe.form)
    generator = torch.Generator().manual_seed(0)
    layer = HebbianLinear(
        x.shape[1],
        recipe.neurons,
        **{"rule": rule, "radius": recipe.start, "generator": generator},
        **{"update": "in_place", "lr": recipe.lr, **recipe.options},
    )
    if recipe.samples:
        layer.weight.data.copy_(x[torch.randperm(len(x), generator=generator)[: recipe.neurons]])
    taught = RULES[rule].activity in ("target", "error")
    for step in range(recipe.steps):
        rows = torch.randint(len(x), (recipe.batch,), generator=generator)
        if recipe.falls:
            layer.lr = recipe.lr * (1 - step / recipe.steps)
        layer(x[rows], **({"target": inputs.set.labels[rows]} if taught else {}))
    return layer.weight.detach()


def mosaic(filters: Tensor, form: str) -> np.ndarray:
    """The filters side by side, ``[rows, columns, 3]`` from 0 to 1."""
    if form == "images":
        tiles, columns, zoom = filters.unflatten(1, (3, 32, 32)), 5, 3
    else:
        half = filters.shape[1] // 2
        grey = filters[:, :half] - filters[:, half:] if form == "on_and_off" else filters
        tiles, columns, zoom = grey.unflatten(1, (1, SIZE, SIZE)), COLUMNS, ZOOM
    tiles = tiles / tiles.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)
    count, _, high, wide = tiles.shape
    lines = -(-count // columns)
    page = np.ones((lines * (high + 1) - 1, columns * (wide + 1) - 1, 3))
    for i, tile in enumerate(tiles.permute(0, 2, 3, 1).numpy()):
        y, x = i // columns * (high + 1), i % columns * (wide + 1)
        coloured = colormaps[COLOUR_MAP]((tile[..., 0] + 1) / 2)[..., :3]
        page[y : y + high, x : x + wide] = (tile + 1) / 2 if form == "images" else coloured
    return page.repeat(zoom, axis=0).repeat(zoom, axis=1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rules", nargs="*", metavar="RULE", help="all, if none is named")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the pictures")
    parser.add_argument("--data", metavar="DIR", help="folder of the data sets")
    options = parser.parse_args(arguments)
    if unknown := set(options.rules) - set(RECIPES):
        parser.error(f"RULE must be one of {', '.join(RECIPES)}; got {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    inputs = Inputs(options.data)
    for rule in options.rules or RECIPES:
        filters = learned(rule, inputs)
        if not filters.isfinite().all():
            raise RuntimeError(f"the filters of {rule!r} are not finite")
        path = options.out / f"{rule}.png"
        imsave(path, mosaic(filters, RECIPES[rule].form))
        norms = filters.norm(dim=1)
        print(f"{path}: norms from {norms.min():.2f} to {norms.max():.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
