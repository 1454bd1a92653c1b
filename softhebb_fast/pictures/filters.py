"""Filters as a picture: the busiest first, equal ones once, those that have not learned marked."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from softhebb_fast.pictures.style import GREY, WIDTH, styled

COLUMNS = 12
MOST = 96
GAP, LETTERS = 0.12, 0.3  # of a tile: between tiles, and above each for its text
STILL = 1e-3  # a filter whose norm has changed by less than this share has not learned
UNLEARNED, IDLE = "#D55E00", GREY
COLOUR_MAP = "RdBu_r"


class Tile(NamedTuple):
    """One picture of the grid: a filter, and what is known of all that equal it.

    Attributes:
        filter: its index.
        copies: how many equal it, itself included.
        wins: of all of them, None if that is not known.
        unlearned: whether none of them has learned.
    """

    filter: int
    copies: int
    wins: int | None
    unlearned: bool


def unlearned(norms: Tensor, start_norms: Tensor) -> Tensor:
    """Which filters have the norm they started with, to 0.1 %: bool ``[K]`` of two of ``[K]``."""
    return (norms - start_norms).abs() <= STILL * start_norms.abs()


def tiles(filters: Tensor, wins: Tensor | None = None, still: Tensor | None = None) -> list[Tile]:
    """What `filter_grid` shows of filters ``[K, ...]``, in its order.

    Equal filters (entry by entry, without tolerance) make one tile. The first are those that win
    most often, and of equally many wins those of the lowest index.
    """
    _, group = torch.unique(filters.flatten(1), dim=0, return_inverse=True)
    members: dict[int, list[int]] = {}
    for k, g in enumerate(group.tolist()):
        members.setdefault(g, []).append(k)
    found = [
        Tile(
            own[0],
            len(own),
            None if wins is None else int(wins[own].sum()),
            still is not None and bool(still[own].all()),
        )
        for own in members.values()
    ]
    return sorted(found, key=lambda tile: (-(tile.wins or 0), tile.filter))


def filter_grid(
    filters: Tensor,
    title: str,
    *,
    wins: Tensor | None = None,
    still: Tensor | None = None,
    most: int = MOST,
) -> Figure:
    """Filters ``[K, C, R, S]`` as `tile_grid` draws them in the order of `tiles`, up to ``most``.

    Args:
        wins: how often each neuron won, ``[K]``.
        still: which filters have not learned, bool ``[K]``.

    Raises ValueError for filters of another shape, or ``wins`` or ``still`` of another length.
    """
    if filters.dim() != 4 or 0 in filters.shape:
        raise ValueError(f"filters must be [K, C, R, S], none of them 0; got {filters.shape}")
    for name, values in (("wins", wins), ("still", still)):
        if values is not None and values.shape != filters.shape[:1]:
            raise ValueError(f"{name} must have shape [{len(filters)}]; got {values.shape}")
    filters = filters.detach().float().cpu()
    every = tiles(filters, wins, still)
    shown = every[: max(1, most)]
    return tile_grid(filters[[tile.filter for tile in shown]], shown, every, title)


@styled
def tile_grid(
    images: Tensor, shown: list[Tile], every: list[Tile], title: str, what: str = "weight"
) -> Figure:
    """The images ``[T, C, R, S]`` of ``shown`` tiles, each scaled to its own largest magnitude.

    One channel is drawn from blue (negative) over white to red; two stand side by side; three are
    colours around grey; of more, their mean is drawn as one channel. Above each stands how many
    filters are equal, and their share of the wins. Frames mark filters that never win or have not
    learned. ``every`` tile of the layer is counted in the title; ``what`` is a number of an image.
    """
    drawn = [_image(image) for image in images]
    across = min(COLUMNS, len(shown))
    lines = -(-len(shown) // across)
    tall = drawn[0].shape[0] / drawn[0].shape[1]
    total = None if every[0].wins is None else max(1, sum(tile.wins for tile in every))

    inch = WIDTH / (COLUMNS * (1 + GAP))
    figure = Figure(figsize=(WIDTH, lines * (tall + LETTERS) * inch + 1.0), layout="constrained")
    axes, left = figure.subplots(), (COLUMNS - across) / 2 * (1 + GAP)
    for i, (tile, image) in enumerate(zip(shown, drawn, strict=True)):
        x, y = left + i % across * (1 + GAP), i // across * (tall + LETTERS)
        _draw(axes, image, (x, x + 1, y + tall, y))
        _mark(axes, tile, (x, y), tall, total)
    axes.set(
        xlim=(-0.05, COLUMNS * (1 + GAP)), ylim=(lines * (tall + LETTERS), -LETTERS), aspect="equal"
    )
    axes.set_axis_off()
    figure.suptitle(f"{title}\n{_summary(every, shown)}")
    _explain(figure, axes, images.shape[1], shown, what)
    return figure


def _image(weight: Tensor) -> np.ndarray:
    """``[R, S]`` from -1 to 1, or ``[R, S, 3]`` from 0 to 1, of ``[C, R, S]``; NaN stays NaN."""
    weight = weight.mean(dim=0, keepdim=True) if len(weight) > 3 else weight
    finite = weight[weight.isfinite()]
    weight = weight / (finite.abs().max().clamp_min(1e-30) if len(finite) else 1.0)
    if len(weight) == 3:
        return ((weight.permute(1, 2, 0).nan_to_num(0, 1, -1) + 1) / 2).clamp(0, 1).numpy()
    if len(weight) == 2:
        between = weight.new_full((weight.shape[1], max(1, weight.shape[2] // 8)), float("nan"))
        return torch.cat([weight[0], between, weight[1]], dim=1).numpy()
    return weight[0].numpy()


def _draw(axes: Axes, image: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    colours = colormaps[COLOUR_MAP].with_extremes(bad="0.8")
    axes.imshow(image, cmap=colours, vmin=-1, vmax=1, extent=extent, interpolation="nearest")


def _mark(axes: Axes, tile: Tile, at: tuple[float, float], tall: float, total: int | None) -> None:
    words = [] if tile.copies == 1 else [f"×{tile.copies}"]
    if total is not None:
        words.append(_share(tile.wins / total))
    axes.text(at[0] + 0.5, at[1] - 0.05, " ".join(words), ha="center", va="bottom", fontsize=6)
    if colour := _frame(tile):
        axes.add_patch(Rectangle(at, 1, tall, fill=False, ec=colour, lw=1.6, zorder=3))
    else:
        axes.add_patch(Rectangle(at, 1, tall, fill=False, ec="0.8", lw=0.4, zorder=3))


def _frame(tile: Tile) -> str | None:
    if tile.unlearned:
        return UNLEARNED
    return IDLE if tile.wins == 0 else None


def _share(share: float) -> str:
    if share == 0:
        return "0"
    return f"{100 * share:.1f} %" if share >= 0.0005 else "<0.1 %"


def _summary(every: list[Tile], shown: list[Tile]) -> str:
    count = sum(tile.copies for tile in every)
    parts = [f"{count} filter{'s' * (count != 1)}"]
    if len(every) < count:
        parts = [f"{len(every)} distinct of {count} filters (×n: n equal ones)"]
    if len(shown) < len(every):
        parts.append(f"{len(shown)} drawn")
    if every[0].wins is not None:
        parts.append("the busiest first, with their share of the wins")
    return ", ".join(parts)


def _explain(figure: Figure, axes: Axes, channels: int, shown: list[Tile], what: str) -> None:
    """The colour bar, or what colours mean, and what frames mean."""
    frames = [
        (UNLEARNED, "not learned: norm as at the start, to 0.1 %"),
        (IDLE, "never wins"),
    ]
    used = {_frame(tile) for tile in shown}
    handles = [Patch(fill=False, ec=c, lw=1.6, label=text) for c, text in frames if c in used]
    if channels == 3:
        handles.append(Patch(color="0.5", label=f"grey: {what} 0; colours: three channels"))
    else:
        bar = figure.colorbar(
            ScalarMappable(Normalize(-1, 1), COLOUR_MAP),
            ax=axes,
            location="bottom",
            fraction=0.04,
            pad=0.01,
            aspect=40,
            shrink=0.5,
            ticks=[-1, 0, 1],
        )
        of = {1: what, 2: f"{what} of channel 1 | 2"}.get(
            channels, f"{what}, mean of {channels} channels"
        )
        bar.set_label(f"{of}, relative to the largest magnitude in its picture", fontsize=7)
        bar.ax.tick_params(labelsize=7)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
