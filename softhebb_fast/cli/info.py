"""What is installed and usable here, as text."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Callable

import torch

from softhebb_fast import __version__, precision
from softhebb_fast.backends import BACKENDS, choose, why_not
from softhebb_fast.data.sets import DATA_SETS
from softhebb_fast.data.sources import holder, roots
from softhebb_fast.environment import VARIABLES, complaint


def command(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    print(report())
    return 0


def report() -> str:
    """Versions, devices, backends with the reasons against them, and the environment."""
    lines = [
        f"softhebb_fast {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"packages: torch {torch.__version__}, "
        + ", ".join(_versions("triton", "numpy", "matplotlib", "optuna")),
        f"threads: {torch.get_num_threads()}",
        "devices: " + ", ".join(_devices()),
    ]
    for device in ("cpu", "cuda"):
        lines.append(f"backends on {device} (auto is {choose(device)}):")
        for backend in BACKENDS[1:]:
            reason = why_not(backend, device)
            if reason is None and device == "cuda" and not torch.cuda.is_available():
                reason = "no CUDA device is here"
            lines.append(f"  {backend}: {reason or 'available'}")
        lines.append(f"precisions of float32 products on {device}:")
        for name in precision.PRECISIONS:
            lines.append(f"  {name}: {precision.why_not(name, device) or 'available'}")
    taken = (f"{layer} {precision.of_torch(layer)}" for layer in ("conv2d", "linear"))
    lines.append(f"on cuda, where none is named, as torch takes its own: {', '.join(taken)}")
    for what, say in (("programs of a launch", _waiting), ("launches", _overlapping)):
        lines.append(f"{what} on cuda: {_of_kernels(say)}")
    lines += _data()
    lines.append("environment:")
    for name, variable in VARIABLES.items():
        meaning = f"{', '.join(variable.values)}: {variable.meaning}".removeprefix(": ")
        wrong = complaint(name)
        lines.append(f"  {name}={os.environ.get(name, '')} ({wrong or meaning})")
    return "\n".join(lines)


def _versions(*packages: str) -> list[str]:
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} not installed")
    return versions


def _devices() -> list[str]:
    cuda = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return ["cpu", *cuda]


def _of_kernels(say: Callable[[torch.device], str]) -> str:
    """What there is to ``say`` of the Triton kernels on a CUDA device, if they run here."""
    if why_not("triton", "cuda") is not None or not torch.cuda.is_available():
        return "none run here"
    try:
        return say(torch.device("cuda"))
    except ValueError as error:
        return str(error)


def _waiting(device: torch.device) -> str:
    """Whether programs wait for each other, and how many at most."""
    from softhebb_fast.kernels import configs

    reason = configs.why_not_wait(device)
    if reason is not None:
        return f"never wait for each other: {reason}"
    return f"wait for each other, for at most {configs.most_tiles(device)} tiles of neurons"


def _overlapping(device: torch.device) -> str:
    """Whether a launch may begin before the one ahead of it ends."""
    from softhebb_fast.kernels import launch

    reason = launch.why_not_overlap(device)
    return "begin before the one ahead ends" if reason is None else f"never overlap: {reason}"


def _data() -> list[str]:
    """Where each data set was found."""
    try:
        searched = ", ".join(map(str, roots()))
        found = {name: holder(data) for name, data in DATA_SETS.items()}
    except ValueError as error:
        return [f"data sets: {error}"]
    lines = [f"data sets, looked for in {searched}:"]
    return [*lines, *(f"  {name}: {folder or 'not found'}" for name, folder in found.items())]
