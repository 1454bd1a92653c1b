"""Checkpoints: everything a run needs to go on bit by bit, in one file that is whole or absent."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from softhebb_fast import sealed
from softhebb_fast.training.config import Config
from softhebb_fast.training.ranks import Ranks

FILE = "checkpoint.pt"
FORMAT = 2
UNSEALED = 1  # the format of checkpoints without a digest


def save(folder: str | Path, config: Config, state: dict[str, Any]) -> None:
    """Write ``state`` and torch's random state to ``folder / "checkpoint.pt"``, atomically, with
    a digest."""
    folder = Path(folder)
    content = {"format": FORMAT, "config": config.to_dict(), "rng": rng_state(), **state}
    sealed.write(folder / FILE, lambda file: torch.save(content, file))


def load(folder: str | Path, config: Config | None = None) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are unpickled. Random state is returned
    under ``"rng"``, not restored.

    The file must fit its digest. An older one of format 1 has none: its members must fit their
    check sums.

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
            whole = sealed.is_sealed(file)
            if not whole:
                sealed.check_zip(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
        except sealed.Damaged as error:
            raise _damaged(path, str(error)) from error
        except Exception as error:
            raise _damaged(path, type(error).__name__) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found == FORMAT and not whole:
        raise _damaged(path, "its digest is missing")
    if found not in (FORMAT, UNSEALED):
        raise ValueError(f"the checkpoint {path} is not of format {FORMAT}, which this reads")
    if config is not None:
        _check_config(path, content["config"], config)
    return content


def rng_state() -> dict[str, Any]:
    """Torch's random state, as ``restore_rng`` takes it: of all devices, or of the one that this
    process has where several make a run together."""
    rng: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        several = Ranks.here().several
        states = [torch.cuda.get_rng_state()] if several else torch.cuda.get_rng_state_all()
        rng["cuda"] = states
    return rng


def restore_rng(rng: dict[str, Any]) -> None:
    """Set torch's random state to a checkpoint's."""
    torch.set_rng_state(rng["cpu"])
    if "cuda" in rng and torch.cuda.is_available():
        if Ranks.here().several:
            torch.cuda.set_rng_state(rng["cuda"][0])
        else:
            torch.cuda.set_rng_state_all(rng["cuda"][: torch.cuda.device_count()])


def _damaged(path: Path, how: str) -> ValueError:
    return ValueError(f"the checkpoint {path} is damaged ({how}); remove it to start the run over")


def _check_config(path: Path, saved: dict[str, Any], config: Config) -> None:
    # A checkpoint older than an option, or than a setting in one, was made with its default.
    known = {f.name for f in fields(config)}
    older = type(config).from_dict({key: saved[key] for key in saved if key in known})
    saved, wanted = saved | older.to_dict(), config.to_dict()
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
