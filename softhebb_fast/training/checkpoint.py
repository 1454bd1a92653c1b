"""Checkpoints: everything a run needs to go on bit by bit, in one file that is whole or absent."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch

from softhebb_fast.files import write_atomically
from softhebb_fast.training.config import Config

FILE = "checkpoint.pt"
FORMAT = 1


def save(folder: str | Path, config: Config, state: dict[str, Any]) -> None:
    """Write ``state`` and torch's random state to ``folder / "checkpoint.pt"``, atomically."""
    folder = Path(folder)
    content = {"format": FORMAT, "config": config.to_dict(), "rng": rng_state(), **state}
    write_atomically(folder / FILE, lambda file: torch.save(content, file))


def load(folder: str | Path, config: Config | None = None) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are unpickled. Random state is returned
    under ``"rng"``, not restored.

    Raises:
        FileNotFoundError: no checkpoint in ``folder``.
        ValueError: a damaged file, another format, or, if ``config`` is given, a checkpoint of
            another configuration, with the fields that differ.
    """
    folder = Path(folder)
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint: {path} does not exist")
    with open(path, "rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f"the checkpoint {path} is damaged ({type(error).__name__}); "
                "remove it to start the run over"
            ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"the checkpoint {path} is not of format {FORMAT}, which this reads")
    if config is not None:
        _check_config(path, content["config"], config)
    return content


def rng_state() -> dict[str, Any]:
    """Torch's random state, as ``restore_rng`` takes it."""
    rng: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        rng["cuda"] = torch.cuda.get_rng_state_all()
    return rng


def restore_rng(rng: dict[str, Any]) -> None:
    """Set torch's random state to a checkpoint's."""
    torch.set_rng_state(rng["cpu"])
    if "cuda" in rng and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(rng["cuda"])


def _check_config(path: Path, saved: dict[str, Any], config: Config) -> None:
    # A checkpoint older than an option was made with the option's default.
    defaults = {f.name: f.default for f in fields(config) if f.default is not MISSING}
    saved, wanted = json.loads(json.dumps(defaults)) | saved, config.to_dict()
    different = [
        f"{key}: {saved.get(key)!r} there, {wanted.get(key)!r} here"
        for key in sorted(saved.keys() | wanted.keys())
        if saved.get(key) != wanted.get(key)
    ]
    if different:
        raise ValueError(
            f"the checkpoint {path} belongs to another configuration ({'; '.join(different)}). "
            "Use another folder, or train with the same options"
        )
