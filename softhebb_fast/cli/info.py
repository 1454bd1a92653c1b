"""What is installed and usable here, as text."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import torch

from softhebb_fast import __version__, precision
from softhebb_fast.backends import BACKENDS, choose, why_not
from softhebb_fast.data import ROOT_VARIABLE, data_root
from softhebb_fast.training import provenance

VARIABLES = {
    ROOT_VARIABLE: "folder of the data sets",
    "SOFTHEBB_FAST_BUILD": "auto, 0 or 1: whether installing builds the native kernels",
    "SOFTHEBB_FAST_TORCH": "the torch that they are built with where none is installed",
    "SOFTHEBB_FAST_AUTOTUNE": "0 or 1: whether the Triton kernels are tuned to this GPU",
    "SOFTHEBB_FAST_WAIT": "0 or 1: whether programs of a Triton kernel may wait for each other",
    "SOFTHEBB_FAST_GRAPHS": "0 or 1: whether training on CUDA replays its steps from a CUDA graph",
    provenance.VARIABLE: "the commit that results name, of a copy without its history",
    precision.VARIABLE: f"{', '.join(precision.PRECISIONS)}: how float32 products are taken",
}


def report() -> str:
    """Versions, devices, backends with the reasons against them, and the environment."""
    lines = [
        f"softhebb_fast {__version__}, Python {platform.python_version()}, {platform.platform()}",
        "packages: " + ", ".join(_versions("torch", "triton", "numpy", "matplotlib", "optuna")),
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
    lines.append(f"programs of a launch on cuda: {_waiting()}")
    lines.append(f"data sets: {_data()}")
    lines.append("environment:")
    for name, meaning in VARIABLES.items():
        lines.append(f"  {name}={os.environ.get(name, '')} ({meaning})")
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


def _waiting() -> str:
    """Whether programs wait for each other, and how many at most."""
    if why_not("triton", "cuda") is not None or not torch.cuda.is_available():
        return "none run here"
    from softhebb_fast.kernels import configs

    device = torch.device("cuda")
    reason = configs.why_not_wait(device)
    if reason is not None:
        return f"never wait for each other: {reason}"
    return f"wait for each other, for at most {configs.most_tiles(device)} tiles of neurons"


def _data() -> str:
    try:
        return f"in {data_root()}"
    except ValueError as error:
        return str(error)
