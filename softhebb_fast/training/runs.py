"""Runs of any kind: begun from a configuration, or gone on with from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softhebb_fast.training.backprop import BackpropTrainer
from softhebb_fast.training.config import Config
from softhebb_fast.training.loop import Loop
from softhebb_fast.training.run_folder import read_config
from softhebb_fast.training.trainer import Trainer

TRAINERS: dict[str, type[Loop]] = {"softhebb": Trainer, "backprop": BackpropTrainer}


def begin(config: Config, out: str | Path, **options: Any) -> Loop:
    """The run of ``config`` in ``out``; options and errors are those of ``Loop``."""
    return TRAINERS[config.kind](config, out, **options)


def resume(out: str | Path, **options: Any) -> Loop:
    """The run in ``out``, where it stopped. ``options`` and errors are those of ``Loop.resume``."""
    config, _ = read_config(Path(out))
    return TRAINERS[config.kind].resume(out, **options)
