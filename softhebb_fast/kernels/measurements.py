"""The cache of measured configurations: one file a device and Triton version, read and written."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import platformdirs
import torch
import triton
from filelock import FileLock

from softhebb_fast import sealed
from softhebb_fast.kernels.configs import Choice, Config

FORMAT = 1
# In the order in which they are tried; ``last_wave`` is how plasticity ends.
KERNELS = ("forward", "plasticity", "last_wave", "activity", "one_pass")
LEFT_OUT = {"one_pass", "last_wave"}  # if None
PATCHLESS = {"activity"}  # no tile of patch elements


@functools.cache
def of_device(device: torch.device) -> Measurements:
    """The measurements of ``device`` under this version of Triton, in the user's cache."""
    folder = Path(platformdirs.user_cache_dir("softhebb_fast"), "autotune")
    return Measurements(folder, torch.cuda.get_device_name(device), triton.__version__)


class Measurements:
    """The choices measured on one device, by name; every one is written as soon as it is made.

    A file that does not fit its digest, of another format or of another device is ignored with
    one warning and replaced at the next measurement. What this process has measured it believes
    in any case. Processes that write at the same time keep each other's.
    """

    def __init__(self, folder: Path, device: str, version: str) -> None:
        self.origin: dict[str, int | str] = {"format": FORMAT, "device": device, "triton": version}
        name = re.sub(r"[^A-Za-z0-9]+", "-", device).strip("-").lower()
        self.path: Path = folder / f"{name}-triton-{version}.json"
        self.warned: bool = False
        self.choices: dict[str, Choice] = self._read()

    def get(self, name: str) -> Choice | None:
        return self.choices.get(name)

    def put(self, name: str, choice: Choice) -> None:
        """Keep ``choice``; a cache that cannot be written is a warning.

        Raises ValueError for a choice that no process could read.
        """
        self.choices[name] = _choice(choice)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock")):
                self.choices = self._read() | self.choices
                content = self.origin | {"choices": self.choices}
                sealed.write_json(self.path, content, indent=1)
        except OSError as error:
            warnings.warn(
                f"the measured launch configurations cannot be kept in {self.path} ({error}): "
                "the next process measures again",
                stacklevel=2,
            )

    def _read(self) -> dict[str, Choice]:
        try:
            content = sealed.read_json(self.path)
            origin = {name: content[name] for name in self.origin}
            if origin != self.origin:
                raise ValueError(f"it is of {origin}")
            return {name: _choice(value) for name, value in content["choices"].items()}
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if not self.warned:
                warnings.warn(
                    f"{self.path} is ignored, it holds no launch configurations of this device "
                    f"({type(error).__name__}: {error}); it is written anew",
                    stacklevel=4,
                )
            self.warned = True
            return {}


def _choice(value: Mapping[str, Any]) -> Choice:
    if not value.keys() <= set(KERNELS) or any(value[k] is None for k in value.keys() - LEFT_OUT):
        raise ValueError(f"unknown kernels in {value}")
    if value.get("last_wave") is not None:
        raise ValueError(f"last_wave has no configuration; got {value['last_wave']}")
    return {kernel: None if c is None else _config(kernel, c) for kernel, c in value.items()}


def _config(kernel: str, values: Sequence[int]) -> Config:
    config = Config(*values)
    tile = config[:2] if kernel in PATCHLESS else config[:3]
    powers = (*((n, 16, 1024) for n in tile), (config.warps, 1, 32))
    sound = all(type(n) is int for n in config) and all(
        low <= n <= high and (n & (n - 1)) == 0 for n, low, high in powers
    )
    if not sound or not 1 <= config.stages <= 8 or (kernel in PATCHLESS and config.BP != 0):
        raise ValueError(f"{values} is no configuration of {kernel}")
    return config
