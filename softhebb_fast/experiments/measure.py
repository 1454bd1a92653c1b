"""The row of results that a finished run gives."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from softhebb_fast.data import ImageSet
from softhebb_fast.init.diversity import distinct_filters
from softhebb_fast.models import Selection, SoftHebbNet, build
from softhebb_fast.presets import PRESETS
from softhebb_fast.training import checkpoint
from softhebb_fast.training.config import SOLVERS, RunConfig
from softhebb_fast.training.metrics import (
    LAYER_FIGURES,
    SAMPLE,
    MetricsRow,
    classifier_rows,
    layer_rows,
)
from softhebb_fast.training.run_folder import Run, is_finished, load_run, read_provenance

LOG_EVERY = {"mnist": 5}  # epochs between two lines of the published logs
LOG_EVERY_ELSEWHERE = 10


def finished(folder: Path) -> Run:
    """The run in ``folder``. Raises ValueError if it has not come to its end."""
    if not is_finished(folder):
        raise ValueError(f"the run in {str(folder)!r} has not come to its end; resume it first")
    return load_run(folder)


def made(run: Run, folder: Path) -> dict[str, Any]:
    """The columns of results about what made a run, and when."""
    made_by = read_provenance(folder)
    return {
        "minutes": run.rows[-1]["seconds"] / 60,
        **{name: made_by.get(name) for name in ("commit", "torch", "threads")},
        **{name: made_by[name] for name in ("backend",) if name in made_by},
        "finished": finished_at(folder),
    }


def finished_at(folder: Path) -> str:
    """When the run in ``folder`` was last written, in UTC."""
    moment = datetime.fromtimestamp((folder / checkpoint.FILE).stat().st_mtime, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def describe(config: RunConfig) -> dict[str, Any]:
    """The columns of results that the configuration of a run decides."""
    config = config.resolved()
    named = config.preset in PRESETS
    return {
        "dataset": config.dataset,
        "preset": config.network().name if named else config.preset,
        "init": config.init if isinstance(config.init, str) else _json(config.init),
        "tie_rule": config.tie_rule,
        "mode": config.mode,
        "seed": config.seed,
        "protocol": _protocol(config),
        "limit": config.limit,
        "backend": config.backend_used(),
        "precision": config.precision + " autocast" * config.autocast,
    }


def measure(folder: Path, root: str | Path | None = None) -> dict[str, Any]:
    """The columns of results of the finished run in ``folder``.

    Losses are means a sample, and under ``logged_*`` in the unit of the published logs: divided
    by the batch size, training figures averaged over the epochs since the last line of the log.
    Layers are measured as during training, and once more as they were before it.

    Raises ValueError for a run that has not come to its end, and as ``load_run`` and
    ``data.load`` do.
    """
    run = finished(folder)
    first = initial(run)
    layers = final_layers(run, root)
    row = describe(run.config) | _classifier(run)
    row |= {name: _joined(layer[name] for layer in layers) for name in LAYER_FIGURES}
    weights = [block.layer.weight for block in first.blocks]
    return row | {
        "initial_nonzeros": _joined(int(w.count_nonzero()) for w in weights),
        "initial_distinct": _joined(distinct_filters(w) for w in weights),
        **made(run, folder),
    }


def initial(run: Run) -> SoftHebbNet:
    """The network as it was before training."""
    torch.manual_seed(run.config.seed)
    net = run.net
    shape, classes = run.image_shape, net.head[-1].weight.shape[0]
    return build(net.preset, shape, classes, init=run.config.init).eval()


def final_layers(run: Run, root: str | Path | None = None) -> list[MetricsRow]:
    """The figures of each Hebbian layer after training."""
    return layer_rows(run.net, _sample(run, root), run.net.hebbian_blocks, "hebbian", 1)


def curves(folder: Path, root: str | Path | None = None) -> list[dict[str, Any]]:
    """The figures of each Hebbian layer over its training, its start (epoch 0) included.

    Where the run has not recorded its start, that is measured behind the trained layers below.
    """
    run = load_run(folder)
    rows = [row for row in run.rows if row["phase"] == "hebbian"]
    start, sample = initial(run), _sample(run, root)
    recorded = {row["layer"] for row in rows if row["epoch"] == 0}
    for i in run.net.hebbian_blocks:
        if i + 1 in recorded:
            continue
        layer = run.net.blocks[i].layer
        trained = {name: value.clone() for name, value in layer.state_dict().items()}
        layer.load_state_dict(start.blocks[i].layer.state_dict())
        rows += layer_rows(run.net, sample, [i], "hebbian", 0.0)
        layer.load_state_dict(trained)
    rows.sort(key=lambda row: (row["layer"], row["epoch"]))
    return [{**row, "seed": run.config.seed, "limit": run.config.limit} for row in rows]


def _sample(run: Run, root: str | Path | None) -> ImageSet:
    """The images on which layers are measured, beside the network."""
    return run.load("train", root, SAMPLE)


def _classifier(run: Run) -> dict[str, Any]:
    config, last = run.config, run.rows[-1]
    if config.solver is not None:
        return {"test_accuracy": last["test_accuracy"]}
    every = LOG_EVERY.get(config.dataset, LOG_EVERY_ELSEWHERE)
    logged = [row for row in classifier_rows(run.rows) if "train_loss" in row][-every:]
    return {
        "test_accuracy": last["test_accuracy"],
        "test_loss": last["test_loss"],
        "train_accuracy": last["train_accuracy"],
        "train_loss": last["train_loss"],
        "logged_train_accuracy": _mean(logged, "train_accuracy"),
        "logged_train_loss": _mean(logged, "train_loss") / config.probe_batch,
        "logged_test_loss": last["test_loss"] / config.test_batch,
    }


def _mean(rows: list[MetricsRow], column: str) -> float:
    return sum(row[column] for row in rows) / len(rows)


def _protocol(config: RunConfig) -> str:
    hebbian = f"{config.unsup_epochs} x {config.unsup_batch}" if config.unsup_epochs else "none"
    probe = f"{config.probe_epochs} x {config.probe_batch}"
    parts = [hebbian, f"{config.classifier} {probe}" if config.solver else probe]
    for name, kind in {**SOLVERS, "features": Selection}.items():
        settings, usual = getattr(config, name) or {}, kind().to_dict()
        parts += [f"{name} {k}={v}" for k, v in settings.items() if v != usual[k]]
    parts += [f"crops {k}={v}" for k, v in (config.crops or {}).items()]
    augmented = config.augment and config.crops is None
    parts += ["augmented"] * augmented + ["flips"] * config.flips
    parts += [f"shifts {config.shifts}"] * (config.shifts > 0)
    return ", ".join(parts)


def _json(value: Any) -> str:
    return "" if value is None else json.dumps(value, sort_keys=True)


def _joined(values: Any) -> str:
    return " ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)
