"""Pictures of a run: first-layer filters, receptive fields of deeper layers, curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from softhebb_fast.files import write_atomically
from softhebb_fast.models import SoftHebbNet, evaluation_mode, whitening
from softhebb_fast.pictures.curves import curves, learning
from softhebb_fast.pictures.filters import filter_grid, tile_grid, tiles, unlearned
from softhebb_fast.pictures.style import DPI
from softhebb_fast.training.metrics import MetricsRow
from softhebb_fast.training.reporter import Reporter

NEARLY_BLACK = 1e-4


def save(figure: Figure, path: str | Path) -> Path:
    """Write ``figure`` as PNG to ``path``, atomically."""
    path = Path(path)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=DPI))
    return path


def receptive_fields(
    net: SoftHebbNet,
    block: int,
    neurons: list[int],
    steps: int = 500,
    step_size: float = 1e-3,
    reporter: Reporter | None = None,
) -> Tensor:
    """What each neuron of a convolutional block responds to most, ``[len(neurons), C, F, F]``.

    Gradient ascent on one pre-activation from a nearly black image of the size of the receptive
    field, projected onto the unit ball, through the blocks below without their padding.

    Source: Journé et al. 2023 (arXiv 2209.11883), figure 2.

    Raises ValueError if ``block`` is not convolutional or has no such neurons.
    """
    stack = [net.blocks[i] for i in range(block + 1)]
    if not all(hasattr(part.layer, "kernel_size") for part in stack):
        raise ValueError(f"block must be convolutional up to its bottom; got block {block}")
    if not all(0 <= neuron < stack[-1].layer.out_channels for neuron in neurons):
        raise ValueError(
            f"neurons must lie in 0..{stack[-1].layer.out_channels - 1}; got {neurons}"
        )
    size = receptive_field_size(net, block)
    device = next(net.parameters()).device
    channels = _windowed(stack[0]).in_channels
    # At exactly black every Triangle of a net without batch norm would be flat.
    start = torch.full((len(neurons), channels, size, size), NEARLY_BLACK, device=device)
    x = start.requires_grad_()
    index = torch.tensor(neurons, device=device).view(-1, 1)
    heard = reporter or Reporter()
    heard.begin(f"receptive fields of layer {block + 1}", steps, unit="step")
    with evaluation_mode(net), _unpadded(stack):
        for _ in range(steps):
            u = _pre_activations(stack, x).flatten(1).gather(1, index)
            (gradient,) = torch.autograd.grad(u.sum(), x)
            with torch.no_grad():
                x += step_size * gradient
                x /= x.flatten(1).norm(dim=1).clamp_min(1).view(-1, 1, 1, 1)
            heard.advance(1)
    heard.end()
    return x.detach().cpu()


def receptive_field_size(net: SoftHebbNet, block: int) -> int:
    """Rows (and columns) of the image that one unit of a block's convolution sees."""
    size, jump = 1, 1
    for i in range(block + 1):
        layer, pool = _windowed(net.blocks[i]), net.blocks[i].pool
        size += (layer.kernel_size[0] - 1) * layer.dilation[0] * jump
        jump *= layer.stride[0]
        if pool is not None and i < block:
            size += (pool.kernel_size - 1) * jump
            jump *= pool.stride
    return size


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
) -> list[Path]:
    """Draw everything there is to draw of a run into ``folder``; returns the files written.

    ``filters.png`` (up to 96 filters of the first layer), ``receptive_fields_N.png`` for deeper
    convolutional layers (``neurons`` of each; ``reporter`` hears of the steps), ``curves.png``.
    With what was ``recorded`` of the neurons (`Run.neurons`) those that win most come first, and
    those that have not learned are marked. An ordinary network has the last alone, with the
    ``symmetry`` that was recorded.
    """
    folder = Path(folder)
    if not isinstance(net, SoftHebbNet):
        return [save(learning(rows, list(symmetry)), folder / "curves.png")] if rows else []
    written = []
    conv = [i for i in net.hebbian_blocks if hasattr(net.blocks[i].layer, "kernel_size")]
    if net.hebbian_blocks[:1] == [0]:
        weight = _filters(net.blocks[0])
        images = weight if conv[:1] == [0] else _as_images(weight)
        if images is not None:
            title = f"{net.preset.name}: {'filters' if conv[:1] == [0] else 'weights'} of layer 1"
            grid = filter_grid(images, title, **_known(recorded, 1))
            written.append(save(grid, folder / "filters.png"))
    for block in conv if fields else []:
        if block == 0:
            continue
        known = _known(recorded, block + 1)
        weight = net.blocks[block].layer.weight.detach().cpu()
        every = tiles(weight, **known)
        shown = every[:neurons]
        title = f"{net.preset.name}: receptive fields of layer {block + 1}"
        chosen = [tile.filter for tile in shown]
        found = receptive_fields(net, block, chosen, reporter=reporter)
        grid = tile_grid(found, shown, every, title, "pixel")
        written.append(save(grid, folder / f"receptive_fields_{block + 1}.png"))
    if rows:
        written.append(save(curves(rows), folder / "curves.png"))
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


def _windowed(block: nn.Module) -> nn.Module:
    """The part of a block that has its window: the layer, or the whitening before it."""
    return whitening(block) or block.layer


def _filters(block: nn.Module) -> Tensor:
    """The filters of a block as they meet images, float32 on the CPU: whitening is part of them."""
    weight, before = block.layer.weight.detach(), whitening(block)
    if before is not None:
        weight, _ = before.folded(weight)
    return weight.float().cpu()


def _pre_activations(stack: list[nn.Module], x: Tensor) -> Tensor:
    for block in stack[:-1]:
        x = block(x)
    top = stack[-1]
    return top.layer(x if top.norm is None else top.norm(x))


class _unpadded:
    """Take the padding of convolutions and pools away for a while."""

    def __init__(self, stack: list[nn.Module]) -> None:
        self.layers = [(part, part.padding, part.padding_mode) for part in map(_windowed, stack)]
        self.pools = [(block.pool, block.pool.padding) for block in stack if block.pool is not None]

    def __enter__(self) -> None:
        for layer, _, _ in self.layers:
            # nn.Conv2d would go on padding in another mode than this.
            layer.padding, layer.padding_mode = (0, 0), "zeros"
        for pool, _ in self.pools:
            pool.padding = 0

    def __exit__(self, *_: object) -> None:
        for layer, padding, mode in self.layers:
            layer.padding, layer.padding_mode = padding, mode
        for pool, padding in self.pools:
            pool.padding = padding


def _as_images(weight: Tensor) -> Tensor | None:
    """Weights ``[K, N]`` as square images of one or three channels, if N allows it."""
    for channels in (1, 3):
        side = round((weight.shape[1] / channels) ** 0.5)
        if channels * side * side == weight.shape[1]:
            return weight.view(-1, channels, side, side)
    return None
