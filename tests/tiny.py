"""Small runs on real images, for the tests of training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softhebb_fast import sealed
from softhebb_fast.data import load, sets, sources
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.run_folder import CONFIG_FILE
from softhebb_fast.training.trainer import Trainer
from tests.data.writers import idx_bytes

# Two Hebbian layers of 5 and 19 neurons, 10 and then 2 x 5 steps.
CONFIG = {
    "preset": "3SoftHebbCnnCIFAR",
    "dataset": "mnist",
    "neuron_factor": 0.05,
    "limit": 160,
    "unsup_batch": 16,
    "probe_batch": 32,
    "probe_epochs": 2,
}


def write_mnist_subset(root: Path, count: int = 300) -> Path:
    """A data root with the first ``count`` images of each split of MNIST; returns ``root``."""
    raw = root / sets.DATA_SETS["mnist"].folder
    raw.mkdir(parents=True)
    for split, files in sets.IDX_FILES.items():
        part = load("mnist", split, root=sources.EMBEDDED, download=False, limit=count)
        for file, tensor in zip(files, (part.images[:, 0], part.labels), strict=True):
            (raw / file).write_bytes(idx_bytes(tensor.numpy()))
    return root


def trainer(out: Path, root: Path, reporter: Reporter | None = None, **changes: Any) -> Trainer:
    return Trainer(RunConfig(**CONFIG | changes), out, root=root, reporter=reporter)


def edit_config(folder: Path, edit: Callable[[dict], object]) -> None:
    """Edit the configuration of the run in ``folder``, as one from before there were digests."""
    content = sealed.read_json(folder / CONFIG_FILE)
    edit(content)
    (folder / CONFIG_FILE).write_text(json.dumps(content))


def snapshot(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The names of the entries that differ in any bit."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}
