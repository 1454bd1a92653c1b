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
from softhebb_fast.functional import hebbian_linear_step_
from softhebb_fast.kinds import RULES
from softhebb_fast.pictures.filters import COLOUR_MAP

FOLDER = Path(__file__).parents[2] / "docs/figures/rules"
COLUMNS, ZOOM = 8, 5
MEMORY = 0.99  # of a running mean, a step


@dataclass(frozen=True)
class Recipe:
    """How a rule learns here.

    Attributes:
        form: of the inputs, see ``patches.FORMS``.
        lr: base rate, which falls to 0 along a line, if ``falls``.
        start: norm of the filters at the start; None for filters that are inputs.
        neurons, steps, batch: how many.
        options: of the step.
    """

    form: str
    lr: float
    start: float | None = 1.0
    neurons: int = 64
    steps: int = 4000
    batch: int = 100
    falls: bool = True
    options: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "softhebb": Recipe("white", 0.05, 5.0, falls=False, options={"t_invert": 1.0}),
    "krotov": Recipe("white", 0.02),
    "instar": Recipe("white", 3.0, None, options={"wta": "soft", "t_invert": 1.0}),
    "kmeans": Recipe("white", 1.0, None, falls=False),
    "hebb": Recipe("patches", 0.01, options={"unit_norm": True}),
    "oja": Recipe("patches", 0.01),
    "sanger": Recipe("patches", 0.03, 0.3, steps=10_000),
    "bcm": Recipe("on_and_off", 0.003, steps=10_000),
    "teacher": Recipe("images", 0.0003, 0.01, neurons=10),
    "delta_rule": Recipe("images", 0.001, 0.01, neurons=10, options={"t_invert": 1.0}),
    "similarity": Recipe("patches", 0.005, 0.3, neurons=16, steps=8000),
    "nonnegative_similarity": Recipe("white", 0.02),
}


def learned(rule: str, inputs: Inputs) -> Tensor:
    """The filters ``[K, S]`` after the recipe's steps."""
    recipe = RECIPES[rule]
    x = inputs.form(recipe.form)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(x), (recipe.neurons,), generator=generator)
    weight = x[drawn].clone()
    if recipe.start is not None:
        weight = torch.randn(weight.shape, generator=generator)
        weight *= recipe.start / weight.shape[1] ** 0.5
    state = _state(rule, recipe.neurons)
    for step in range(recipe.steps):
        rows = torch.randint(len(x), (recipe.batch,), generator=generator)
        lr = recipe.lr * (1 - step / recipe.steps if recipe.falls else 1)
        if RULES[rule].activity in ("target", "error"):
            state["target"] = inputs.set.labels[rows]
        out = hebbian_linear_step_(x[rows], weight, rule=rule, lr=lr, **state, **recipe.options)
        _advance_(rule, state, out.statistic, lr, recipe.batch)
    return weight


def _state(rule: str, neurons: int) -> dict[str, Tensor]:
    kind = RULES[rule]
    if kind.activity == "threshold":
        return {"threshold": torch.ones(neurons)}
    if kind.normalise == "count":
        return {"counts": torch.zeros(neurons)}
    if kind.gain == "square":
        return {"lateral": torch.zeros(neurons, neurons)}
    return {}


def _advance_(
    rule: str, state: dict[str, Tensor], statistic: Tensor | None, lr: float, batch: int
) -> None:
    """What a layer does to its state after a step."""
    if "threshold" in state:
        state["threshold"].lerp_(statistic / batch, 1 - MEMORY)
    if "counts" in state:
        state["counts"] += statistic
    if "lateral" in state:
        both = statistic / batch
        state["lateral"] += 2 * lr * (both - both.diag().unsqueeze(1) * state["lateral"])
        state["lateral"].fill_diagonal_(0)


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
