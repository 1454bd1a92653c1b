"""Pictures of a run: first-layer filters, receptive fields of deeper layers, curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from softhebb_fast.files import write_atomically
from softhebb_fast.models import SoftHebbNet, evaluation_mode
from softhebb_fast.pictures.curves import curves, learning
from softhebb_fast.pictures.filters import filter_grid, tile_grid, tiles, unlearned
from softhebb_fast.pictures.paths import (
    LINEAR,
    SLIDING,
    field_of,
    filters_of,
    is_convolution,
    numbered,
    path_to,
    unpadded,
)
from softhebb_fast.pictures.style import DPI
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.reporter import Reporter

NEARLY_BLACK = 1e-4
STATE = "State"  # the key of the note in a PNG


def save(figure: Figure, path: str | Path, state: str | None = None) -> Path:
    """Write ``figure`` as PNG to ``path``, atomically, with a note of what ``state`` it shows."""
    path, note = Path(path), {STATE: state} if state else {}
    options = {"format": "png", "dpi": DPI, "metadata": note}
    write_atomically(path, lambda file: figure.savefig(file, **options))
    return path


def state_of(path: str | Path) -> str | None:
    """The ``state`` that a picture was saved with; None without one, or without the picture."""
    try:
        with Image.open(path) as picture:
            return picture.info.get(STATE)
    except (OSError, SyntaxError):  # Pillow's, of a damaged PNG
        return None


def receptive_fields(
    net: SoftHebbNet | nn.Sequential,
    block: int,
    neurons: list[int],
    steps: int = 500,
    step_size: float = 1e-3,
    reporter: Reporter | None = None,
) -> Tensor:
    """What each neuron of a convolution responds to most, ``[len(neurons), C, F, F]``.

    Gradient ascent on one pre-activation from a nearly black image of the size of the receptive
    field, projected onto the unit ball, through what is below without its padding.

    Args:
        net: of blocks, or a stack of modules as ``training.train_layers`` takes it.
        block: of a stack, which SoftHebb layer: the first is 0.

    Source: Journé et al. 2023 (arXiv 2209.11883), figure 2.

    Raises ValueError if ``block`` is not convolutional or has no such neurons.
    """
    path = path_to(net, block)
    layer, name = path[-1], f"block {block}"
    if not is_convolution(layer) or any(isinstance(part, LINEAR) for part in path):
        raise ValueError(f"block must be convolutional up to its bottom; got {name}")
    if not all(0 <= neuron < layer.out_channels for neuron in neurons):
        raise ValueError(f"neurons must lie in 0..{layer.out_channels - 1}; got {neurons}")
    device = layer.weight.device
    channels = next(part for part in path if isinstance(part, SLIDING)).in_channels
    # At exactly black every Triangle of a net without batch norm would be flat.
    shape = (len(neurons), channels, *field_of(path))
    x = torch.full(shape, NEARLY_BLACK, device=device).requires_grad_()
    index = torch.tensor(neurons, device=device).view(-1, 1)
    heard = reporter or Reporter()
    heard.begin(f"receptive fields of layer {block + 1}", steps, unit="step")
    with evaluation_mode(net), unpadded(path):
        for _ in range(steps):
            u = x
            for part in path:
                u = part(u)
            (gradient,) = torch.autograd.grad(u.flatten(1).gather(1, index).sum(), x)
            with torch.no_grad():
                x += step_size * gradient
                x /= x.flatten(1).norm(dim=1).clamp_min(1).view(-1, 1, 1, 1)
            heard.advance(1)
    heard.end()
    return x.detach().cpu()


def receptive_field_size(net: SoftHebbNet | nn.Sequential, block: int) -> int:
    """Rows (and columns) of the image that one unit of a block's convolution sees.

    Of a stack of modules ``block`` counts its SoftHebb layers, as in `receptive_fields`.
    """
    return field_of(path_to(net, block))[0]


def plot_run(
    net: nn.Module,
    rows: list[MetricsRow],
    folder: str | Path,
    symmetry: list[dict[str, Any]] = (),
    *,
    neurons: int = 72,
    fields: bool = True,
    reporter: Reporter | None = None,
    recorded: dict[int, dict[str, Any]] | None = None,
    state: str | None = None,
) -> list[Path]:
    """Draw everything there is to draw of a run into ``folder``; returns the files written.

    ``net`` may also be a stack of modules, as ``training.train_layers`` takes it.

    ``filters.png`` (up to 96 filters of the first layer), ``receptive_fields_N.png`` for deeper
    convolutional layers (``neurons`` of each; ``reporter`` hears of the steps), ``curves.png``.
    With what was ``recorded`` of the neurons (`Run.neurons`) those that win most come first, and
    those that have not learned are marked. An ordinary network has the last alone, with the
    ``symmetry`` that was recorded. The pictures keep a note of the ``state``, see `state_of`.
    """
    folder, layers = Path(folder), numbered(net)
    if not layers:
        if not rows:
            return []
        return [save(learning(rows, list(symmetry)), folder / "curves.png", state)]
    name = f"{net.preset.name}: " if isinstance(net, SoftHebbNet) else ""
    written = []
    for block, layer in layers.items():
        weight = filters_of(net, block).float().cpu()
        known, convolution = _known(recorded, block + 1), is_convolution(layer)
        if block == 0:
            images = weight if convolution else _as_images(weight)
            if images is not None:
                title = f"{name}{'filters' if convolution else 'weights'} of layer 1"
                grid = filter_grid(images, title, **known)
                written.append(save(grid, folder / "filters.png", state))
        elif convolution and fields:
            every = tiles(weight, **known)
            shown = every[:neurons]
            title = f"{name}receptive fields of layer {block + 1}"
            chosen = [tile.filter for tile in shown]
            found = receptive_fields(net, block, chosen, reporter=reporter)
            grid = tile_grid(found, shown, every, title, "pixel")
            written.append(save(grid, folder / f"receptive_fields_{block + 1}.png", state))
    if rows:
        written.append(save(curves(rows), folder / "curves.png", state))
    return written


def _known(recorded: dict[int, dict[str, Any]] | None, layer: int) -> dict[str, Tensor]:
    """What `tiles` takes of a layer, counted from 1: nothing where nothing was recorded."""
    found = (recorded or {}).get(layer)
    if not found:
        return {}
    known = {"wins": torch.tensor(found["wins"])}
    if "start_norm" in found:
        norms = (torch.tensor(found[name]) for name in ("norm", "start_norm"))
        known["still"] = unlearned(*norms)
    return known


def _as_images(weight: Tensor) -> Tensor | None:
    """Weights ``[K, N]`` as square images of one or three channels, if N allows it."""
    if weight.dim() != 2:
        return None
    for channels in (1, 3):
        side = round((weight.shape[1] / channels) ** 0.5)
        if channels * side * side == weight.shape[1]:
            return weight.view(-1, channels, side, side)
    return None
