"""What a run records: one row an epoch, kept with the checkpoint and written as CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from softhebb_fast import files
from softhebb_fast.backends import serves
from softhebb_fast.functional import competition_statistics
from softhebb_fast.init.diversity import distinct_filters
from softhebb_fast.models import SoftHebbNet, evaluation_mode, features
from softhebb_fast.nn import SoftHebbLinear
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.plain import plain
from softhebb_fast.reference import winners
from softhebb_fast.training.features import Samples

FILE = "metrics.csv"
COLUMNS = (
    "phase",
    "layer",
    "epoch",
    "seconds",
    "norm_mean",
    "r1",
    "winner_probability",
    "busiest_share",
    "winner_entropy",
    "competition_entropy",
    "distinct_filters",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "penalty",
    "gcv",
    "holdout_accuracy",
    "holdout_squared_error",
    "test_squared_error",
)
SOLVED_FIGURES = ("test_squared_error", "penalty")
# of these, what tells whether a layer's filters have come apart
LAYER_FIGURES = ("distinct_filters", "norm_mean", "winner_entropy", "winner_probability")

NEURONS_FILE = "neurons.csv"
NEURON_COLUMNS = ("layer", "neuron", "epoch", "wins", "norm", "start_norm")

MetricsRow = dict[str, Any]
SAMPLE = 100  # images on which the layers' figures are measured
LINEAR_SAMPLE = 1000  # where a layer is linear, and has one position an image


def classifier_rows(rows: list[MetricsRow]) -> list[MetricsRow]:
    """Those of ``rows`` that tell of the classifier, one an epoch."""
    phases = ("probe", "ridge", "softmax", "simultaneous", "backprop")
    return [row for row in rows if row["phase"] in phases and "layer" not in row]


def last_figures(rows: list[MetricsRow]) -> dict[str, Any]:
    """The last test accuracy and loss, None without a test, and each layer's last figures; of a
    classifier that is solved its test error and penalty as well."""
    last = next((row for row in reversed(rows) if "test_accuracy" in row), {})
    layers = {row["layer"]: row for row in rows if "layer" in row}
    tested = {name: last.get(name) for name in ("test_accuracy", "test_loss")}
    tested |= {name: last[name] for name in SOLVED_FIGURES if name in last}
    return {**tested, "layers": list(layers.values())}


@torch.no_grad()
def layer_rows(
    net: SoftHebbNet, sample: Samples, blocks: list[int], phase: str, epoch: float
) -> list[MetricsRow]:
    """The figures of Hebbian blocks, measured on the first images of ``sample``.

    Beside `layer_metrics` a row has ``neurons``: the ``wins`` of each neuron there, and its
    ``norm``.
    """
    linear = any(isinstance(net.blocks[i].layer, SoftHebbLinear) for i in blocks)
    x, _ = sample.batch(slice(0, LINEAR_SAMPLE if linear else SAMPLE))
    rows, below = [], 0
    with evaluation_mode(net):
        for i in blocks:
            x, below = features(list(net.blocks[below:i]), x), i
            row = {"phase": phase, "layer": i + 1, "epoch": epoch}
            figures, wins = _measured(net.blocks[i], x)
            norms = net.blocks[i].layer.norms().tolist()
            rows.append({**row, **figures, "neurons": {"wins": wins.tolist(), "norm": norms}})
    return rows


@torch.no_grad()
def measured_layers(
    modules: list[nn.Module], layers: list[HebbianLayer], sample: Samples
) -> list[MetricsRow]:
    """The figures of ``layers``, wherever they are in ``modules``, as in ``layer_rows``.

    Raises ValueError for a layer that the modules do not call.
    """
    linear = any(isinstance(layer, SoftHebbLinear) for layer in layers)
    x, _ = sample.batch(slice(0, LINEAR_SAMPLE if linear else SAMPLE))
    stack, given = nn.Sequential(*modules), {}
    handles = [
        layer.register_forward_pre_hook(lambda layer, inputs: given.update({layer: inputs[0]}))
        for layer in layers
    ]
    with evaluation_mode(stack):
        try:
            stack(x)
        finally:
            for handle in handles:
                handle.remove()
        if any(layer not in given for layer in layers):
            raise ValueError("every SoftHebb layer of the network must be called by its modules")
        found = [_figures(layer, given[layer]) for layer in layers]
    return [
        {**figures, "neurons": {"wins": wins.tolist(), "norm": layer.norms().tolist()}}
        for layer, (figures, wins) in zip(layers, found, strict=True)
    ]


@torch.no_grad()
def layer_metrics(block: nn.Module, x: Tensor) -> MetricsRow:
    """The state of a Hebbian block, measured on one batch ``x`` in evaluation mode.

    Mean filter norm; R1, the neurons whose norm has come to 1; the mean softmax probability of
    the winner; the share of the busiest neuron; the entropy of the wins over the neurons in bits,
    log2(K) at most; the mean entropy of the softmax at a position in bits; the number of distinct
    filters.
    """
    return _measured(block, x)[0]


def _measured(block: nn.Module, x: Tensor) -> tuple[MetricsRow, Tensor]:
    """`layer_metrics`, and how often each neuron wins."""
    with evaluation_mode(block):
        return _figures(block.layer, block.normalised(x)[0])


def _figures(layer: HebbianLayer, x: Tensor) -> tuple[MetricsRow, Tensor]:
    """The same of a layer in evaluation mode and what it is given."""
    u = _pre_activations(layer, x)
    groups = getattr(layer, "groups", 1)
    options = {"groups": groups, "tie_rule": layer.tie_rule}
    statistics = competition_statistics(u, layer.t_invert, layer.wta, **options)
    wins = _wins(u, groups, layer.tie_rule)
    figures = {
        "norm_mean": float(layer.norms().mean()),
        "r1": layer.convergence()[1],
        "winner_probability": statistics.winner_probability,
        "busiest_share": float(statistics.share.max()),
        "winner_entropy": _entropy(wins),
        "competition_entropy": statistics.entropy,
        "distinct_filters": distinct_filters(layer.weight),
    }
    return figures, wins


def _pre_activations(layer: HebbianLayer, x: Tensor) -> Tensor:
    """``layer(x)``; on a GPU by the kernels that the run uses, as cuDNN takes seconds to load."""
    if serves("triton", layer.backend, x.device) and plain(layer):
        return layer.hebbian_update(x).u
    return layer(x)


def _wins(u: Tensor, groups: int, tie_rule: str) -> Tensor:
    """How often each neuron ``[K]`` wins in its group."""
    found = [winners(part, tie_rule).flatten() for part in u.chunk(groups, dim=1)]
    return torch.cat([won.bincount(minlength=u.shape[1] // groups) for won in found])


def _entropy(counts: Tensor) -> float:
    p = counts[counts > 0].double() / counts.sum()
    return float(-(p * p.log2()).sum()) + 0.0


def write_csv(folder: str | Path, rows: list[MetricsRow]) -> None:
    """Write all rows to ``folder / "metrics.csv"``, atomically; losses are means a sample,
    accuracies per cent, seconds the time since the run began."""
    folder = Path(folder)
    rounded = ({key: _rounded(value) for key, value in row.items()} for row in rows)
    files.write_csv(folder / FILE, COLUMNS, rounded)


def keep_neurons(neurons: dict[int, dict[str, Any]], row: MetricsRow) -> MetricsRow:
    """Take the ``neurons`` of a row out, into those kept by layer; returns the row without them.

    Of each layer the last ``wins`` and ``norm`` are kept, with their ``epoch``, and the
    ``start_norm`` of epoch 0.
    """
    row = dict(row)
    if (found := row.pop("neurons", None)) is not None:
        kept = neurons.setdefault(row["layer"], {})
        if row["epoch"] == 0:
            kept["start_norm"] = found["norm"]
        kept |= {"epoch": row["epoch"], **found}
    return row


def write_neurons(folder: Path, neurons: dict[int, dict[str, Any]]) -> None:
    """Write ``folder / "neurons.csv"``, atomically: a row a neuron, counted from 0; its wins on
    the sample, its norm then and, if that was recorded, at the start. No file if there are none."""
    rows = (
        {
            **{"layer": layer, "neuron": k, "epoch": _rounded(found["epoch"])},
            **{"wins": wins, "norm": _rounded(norm), "start_norm": _rounded(start)},
        }
        for layer, found in sorted(neurons.items())
        for starts in [found.get("start_norm", [None] * len(found["norm"]))]
        for k, (wins, norm, start) in enumerate(
            zip(found["wins"], found["norm"], starts, strict=True)
        )
    )
    if neurons:
        files.write_csv(folder / NEURONS_FILE, NEURON_COLUMNS, rows)


def read_csv(folder: str | Path) -> list[MetricsRow]:
    """The rows of ``folder / "metrics.csv"``: numbers as floats, empty cells left out."""
    folder = Path(folder)
    with open(folder / FILE, newline="", encoding="utf-8") as file:
        return [
            {k: v if k == "phase" else float(v) for k, v in row.items() if v != ""}
            for row in csv.DictReader(file)
        ]


def _rounded(value: Any) -> Any:
    return float(f"{value:.7g}") if isinstance(value, float) else value
