"""The rows of results that a finished run of backpropagation gives."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from softhebb_fast.experiments.measure import finished, made
from softhebb_fast.training import checkpoint
from softhebb_fast.training.backprop_config import BackpropConfig
from softhebb_fast.training.metrics import classifier_rows
from softhebb_fast.training.run_folder import load_run

BREAKERS = ("weight_noise", "gradient_noise", "deterministic")


def describe(config: BackpropConfig) -> dict[str, Any]:
    """The columns of results that the configuration of a run decides."""
    defaults = {f.name: f.default for f in fields(config)}
    broken = {n: v for n in BREAKERS if (v := getattr(config, n)) != defaults[n]}
    optimizer = f"{config.optimizer} {config.lr:g}"
    return {
        "dataset": config.dataset,
        "network": config.network,
        "options": _json(config.options),
        "init": config.init if isinstance(config.init, str) else _json(config.init),
        "breakers": _json(broken),
        "images": config.images,
        "seed": config.seed,
        "protocol": f"{config.epochs} x {config.batch}, {optimizer}",
        "limit": config.limit,
        "backend": config.backend_used(),
        "precision": "autocast" if config.autocast else "ieee",
    }


def measure(folder: Path, root: str | Path | None = None) -> dict[str, Any]:
    """The columns of results of the finished run in ``folder``.

    ``change_ranks`` are those of all weights in their order, at the last step they were recorded.

    Raises ValueError for a run that has not come to its end, and as ``load_run`` does.
    """
    run = finished(folder)
    rows = [row for row in classifier_rows(run.rows) if "test_accuracy" in row]
    names = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
    traced = symmetry(folder)
    last = [row for row in traced if row["step"] == traced[-1]["step"]]
    return describe(run.config) | {
        **{name: rows[-1][name] for name in names},
        "first_epoch": rows[0]["test_accuracy"],
        "change_ranks": " ".join(str(row["change_rank"]) for row in last),
        **made(run, folder),
    }


def curves(folder: Path, root: str | Path | None = None) -> list[dict[str, Any]]:
    """What was recorded of the run in ``folder``, in its order."""
    run = load_run(folder)
    own = {"seed": run.config.seed, "limit": run.config.limit}
    return [{**row, **own} for row in classifier_rows(run.rows)]


def symmetry(folder: Path) -> list[dict[str, Any]]:
    """The symmetry of each weight at the recorded steps of the run in ``folder``, of any kind."""
    saved = checkpoint.load(folder)
    own = {"seed": saved["config"]["seed"], "limit": saved["config"]["limit"]}
    return [{**row, **own} for row in saved.get("symmetry", [])]


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if value else ""
