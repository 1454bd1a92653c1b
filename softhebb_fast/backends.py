"""Which backends exist, which can run here, and why not the others."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType

import torch

from softhebb_fast import cpp, reference

BACKENDS = ("auto", "reference", "cpp", "triton")
PREFERENCE = {"cpu": ("cpp", "reference"), "cuda": ("triton", "reference")}

_log = logging.getLogger(__name__)
_NOT_YET = "this version of softhebb_fast does not contain it"


def why_not(backend: str, device: torch.device | str) -> str | None:
    """The reason why ``backend`` cannot run on ``device``, or None if it can."""
    _check_name(backend)
    if backend in ("auto", "reference"):
        return None
    return cpp.why_not(torch.device(device).type) if backend == "cpp" else _NOT_YET


def resolve(backend: str, device: torch.device | str) -> ModuleType:
    """The implementation of ``backend`` on ``device``: a module with ``conv2d`` and ``linear``.

    Raises:
        ValueError: unknown backend.
        RuntimeError: a backend chosen by name that cannot run here, with the reason.
    """
    if backend == "auto":
        return _implementation(choose(torch.device(device).type))
    reason = why_not(backend, device)
    if reason is not None:
        raise RuntimeError(
            f"backend={backend!r} cannot run on device {torch.device(device).type!r}: {reason}. "
            "Use backend='auto' or 'reference'."
        )
    return _implementation(backend)


def serves(name: str, backend: str, device: torch.device) -> bool:
    """Whether the choice ``backend`` (a name or ``"auto"``) means ``name`` on ``device``."""
    chosen = choose(device.type) if backend == "auto" else backend
    return chosen == name and why_not(name, device) is None


def choose(device_type: str) -> str:
    """The backend that ``"auto"`` stands for on a type of device; logged once at debug level."""
    candidates = PREFERENCE.get(device_type, ("reference",))
    chosen = next(name for name in candidates if why_not(name, device_type) is None)
    if not torch.compiler.is_compiling():
        _announce(device_type, chosen)
    return chosen


@cache
def _announce(device_type: str, chosen: str) -> None:
    candidates = PREFERENCE.get(device_type, ("reference",))
    for name in candidates[: candidates.index(chosen)]:
        _log.debug("auto passes over %s on %s: %s", name, device_type, why_not(name, device_type))
    _log.debug("auto is %s on %s", chosen, device_type)


def _check_name(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}")


def _implementation(name: str) -> ModuleType:
    return {"reference": reference, "cpp": cpp}[name]
