"""What a run is made of, said before it begins."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from softhebb_fast import __version__
from softhebb_fast.data.sets import DATA_SETS
from softhebb_fast.data.sources import holder
from softhebb_fast.training import provenance
from softhebb_fast.training.backprop_config import BackpropConfig
from softhebb_fast.training.config import Config, RunConfig
from softhebb_fast.training.loop import Loop


def of_run(run: Loop) -> str:
    """Data set, protocol, how it is computed, and versions, a line each."""
    shape = "x".join(map(str, run.train_set.image_shape))
    counts = f"{len(run.train_set)} training and {len(run.test_set)} test images of {shape}"
    where = place(run.dataset, run.root)
    together = f", {run.ranks.size} processes" * run.ranks.several
    return "\n".join(
        (
            f"data set: {run.dataset}{where}, {counts}",
            f"protocol: {protocol(run.config)}",
            f"computed: {computed(run.config)}" + together,
            versions(),
        )
    )


def place(dataset: str, root: str | Path | None = None) -> str:
    """``" in FOLDER"`` for a data set that does not name its place itself."""
    folder = holder(DATA_SETS[dataset], root) if dataset in DATA_SETS else None
    return "" if folder is None else f" in {folder}"


def protocol(config: Config) -> str:
    """Epochs and batches of what is trained."""
    if isinstance(config, BackpropConfig):
        text = f"{config.epochs} x {config.batch} (epochs x batch), {config.optimizer}"
        return f"{text} at rate {config.lr:g}{_limited(config)}"
    config = config.resolved()
    layers = f"Hebbian layers {config.unsup_epochs} x {config.unsup_batch} (epochs x batch)"
    augmented = ", augmented" * config.augment
    if config.crops is not None:
        augmented = f", crops {_written(config.crops)}"
    augmented += ", with mirror images" * config.flips
    if config.shifts:
        augmented += f", moved by {config.shifts} in tests"
    return f"{layers}, {_classifier(config)}{augmented}, {config.mode}{_limited(config)}"


def _classifier(config: RunConfig) -> str:
    sees = "" if config.features is None else f" of features {_written(config.features)}"
    if config.classifier == "published":
        return f"classifier {config.probe_epochs} x {config.probe_batch}{sees}"
    given = config.solver.to_dict()
    settings = _written({name: value for name, value in given.items() if name != "factors"})
    passes = f" {config.probe_epochs} passes" * (config.probe_epochs > 1)
    return f"classifier {config.classifier}{passes}{sees} ({settings})"


def _written(settings: dict[str, Any]) -> str:
    shown = {k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in settings.items()}
    return " ".join(f"{name}={value}" for name, value in shown.items() if value not in ("", None))


def computed(config: Config) -> str:
    """Backend, precision, device, threads and seed."""
    precision = getattr(config, "precision", "ieee") + " and autocast" * config.autocast
    return settings(config.backend_used(), precision, config.device, config.seed)


def settings(backend: str, precision: str, device: str, seed: int | None = None) -> str:
    """How something is computed, with the threads of this process."""
    text = f"backend {backend}, precision {precision}, device {device}"
    text += f", threads {torch.get_num_threads()}"
    return text if seed is None else f"{text}, seed {seed}"


def versions() -> str:
    """Of this project, its commit, torch and Python."""
    commit = provenance.commit()
    own = f"softhebb_fast {__version__}" + (f" ({commit})" if commit else "")
    return f"versions: {own}, torch {torch.__version__}, Python {platform.python_version()}"


def _limited(config: Any) -> str:
    return "" if config.limit is None else f"; a trial on {config.limit} images at most"
