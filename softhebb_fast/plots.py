"""Pictures of a run: first-layer filters, receptive fields of deeper layers, curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from softhebb_fast.files import write_atomically
from softhebb_fast.models import SoftHebbNet, evaluation_mode
from softhebb_fast.training.metrics import MetricsRow, classifier_rows
from softhebb_fast.training.reporter import Reporter

COLUMNS = 12
NEARLY_BLACK = 1e-4


def save(figure: Figure, path: str | Path) -> Path:
    """Write ``figure`` as PNG to ``path``, atomically."""
    path = Path(path)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=120))
    return path


def filter_grid(filters: Tensor, title: str) -> Figure:
    """Filters ``[K, C, R, S]`` side by side, each scaled to its own largest magnitude.

    One channel is drawn from blue (negative) over white to red; three are drawn as colours around
    grey; of any other number, their mean is drawn as one channel.
    """
    scale = filters.flatten(1).abs().amax(dim=1).clamp_min(1e-30)
    filters = filters / scale.view(-1, 1, 1, 1)
    columns = min(COLUMNS, len(filters))
    rows = -(-len(filters) // columns)
    figure = Figure(figsize=(0.62 * columns, 0.62 * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=9)
    for i, axis in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axis.set_axis_off()
        if i >= len(filters):
            continue
        if filters.shape[1] == 3:
            axis.imshow((filters[i].permute(1, 2, 0).numpy() + 1) / 2)
        else:
            axis.imshow(filters[i].mean(dim=0).numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
    return figure


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
    channels = stack[0].layer.in_channels
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
        layer, pool = net.blocks[i].layer, net.blocks[i].pool
        size += (layer.kernel_size[0] - 1) * layer.dilation[0] * jump
        jump *= layer.stride[0]
        if pool is not None and i < block:
            size += (pool.kernel_size - 1) * jump
            jump *= pool.stride
    return size


def curves(rows: list[MetricsRow]) -> Figure:
    """Accuracy of the classifier by epoch, and the figures of each Hebbian layer while it learns.

    Raises ValueError if there is nothing to draw.
    """
    if not rows:
        raise ValueError("rows must hold recorded figures; got none")
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    accuracy, norms, shares = figure.subplots(1, 3)
    judged = classifier_rows(rows)
    for name in ("train", "test"):
        points = [(r["epoch"], r[f"{name}_accuracy"]) for r in judged if f"{name}_accuracy" in r]
        if points:
            accuracy.plot(*zip(*points, strict=True), marker=".", label=name)
    accuracy.set(xlabel="epoch of the classifier", ylabel="accuracy (%)")
    for layer in sorted({r["layer"] for r in rows if "layer" in r}):
        own = [r for r in rows if r.get("layer") == layer]
        epochs = [r["epoch"] for r in own]
        norms.plot(epochs, [r["norm_mean"] for r in own], marker=".", label=f"layer {layer:g}")
        shares.plot(epochs, [r["winner_probability"] for r in own], marker=".")
    norms.set(xlabel="epoch of the layer", ylabel="mean filter norm")
    shares.set(xlabel="epoch of the layer", ylabel="mean winner probability")
    for axis in (accuracy, norms):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    return figure


def learning(rows: list[MetricsRow], symmetry: list[dict[str, Any]]) -> Figure:
    """Accuracy and loss of an ordinary network by epoch; by step the deviation of each weight's
    channels, if it was recorded.

    Raises ValueError if there is nothing to draw.
    """
    if not rows:
        raise ValueError("rows must hold recorded figures; got none")
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    accuracy, loss, deviation = figure.subplots(1, 3)
    for name in ("train", "test"):
        for axis, what in ((accuracy, "accuracy"), (loss, "loss")):
            column = f"{name}_{what}"
            points = [(r["epoch"], r[column]) for r in rows if column in r]
            axis.plot(*zip(*points, strict=True), marker=".", label=name)
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)")
    accuracy.legend(frameon=False)
    loss.set(xlabel="epoch", ylabel="loss")
    for weight in dict.fromkeys(row["weight"] for row in symmetry):
        points = [(r["step"], r["deviation"]) for r in symmetry if r["weight"] == weight]
        deviation.plot(*zip(*points, strict=True), marker=".", label=weight)
    deviation.set(xlabel="step", ylabel="largest deviation between channels")
    if symmetry:
        deviation.legend(frameon=False, fontsize=6)
    return figure


def plot_run(
    net: nn.Module,
    rows: list[MetricsRow],
    folder: str | Path,
    symmetry: list[dict[str, Any]] = (),
    *,
    neurons: int = 72,
    fields: bool = True,
    reporter: Reporter | None = None,
) -> list[Path]:
    """Draw everything there is to draw of a run into ``folder``; returns the files written.

    ``filters.png`` (up to 96 filters of the first layer), ``receptive_fields_N.png`` for deeper
    convolutional layers (``neurons`` of each; ``reporter`` hears of the steps), ``curves.png``.
    An ordinary network has the last alone, with the ``symmetry`` that was recorded.
    """
    folder = Path(folder)
    if not isinstance(net, SoftHebbNet):
        return [save(learning(rows, list(symmetry)), folder / "curves.png")] if rows else []
    written = []
    conv = [i for i in net.hebbian_blocks if hasattr(net.blocks[i].layer, "kernel_size")]
    if conv and conv[0] == 0:
        weight = net.blocks[0].layer.weight.detach().float().cpu()
        title = f"{net.preset.name}: filters of layer 1"
        written.append(save(filter_grid(weight[:96], title), folder / "filters.png"))
    elif net.hebbian_blocks and hasattr(net.blocks[0].layer, "in_features"):
        images = _as_images(net.blocks[0].layer.weight.detach().float().cpu()[:96])
        if images is not None:
            title = f"{net.preset.name}: weights of layer 1"
            written.append(save(filter_grid(images, title), folder / "filters.png"))
    for block in conv if fields else []:
        if block == 0:
            continue
        chosen = list(range(min(neurons, net.blocks[block].layer.out_channels)))
        grid = filter_grid(
            receptive_fields(net, block, chosen, reporter=reporter),
            f"{net.preset.name}: receptive fields of layer {block + 1}",
        )
        written.append(save(grid, folder / f"receptive_fields_{block + 1}.png"))
    if rows:
        written.append(save(curves(rows), folder / "curves.png"))
    return written


def _pre_activations(stack: list[nn.Module], x: Tensor) -> Tensor:
    for block in stack[:-1]:
        x = block(x)
    top = stack[-1]
    return top.layer(x if top.norm is None else top.norm(x))


class _unpadded:
    """Take the padding of convolutions and pools away for a while."""

    def __init__(self, stack: list[nn.Module]) -> None:
        self.layers = [
            (block.layer, block.layer.padding, block.layer.padding_mode) for block in stack
        ]
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
