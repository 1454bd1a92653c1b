"""Which backends exist, which can run here, and why not the others."""

from __future__ import annotations

import logging
import warnings
from functools import cache
from types import ModuleType

import torch

from softhebb_fast import ops, reference

BACKENDS = ("auto", "reference", "cpp", "triton")
PREFERENCE = {"cpu": ("cpp", "reference"), "cuda": ("triton", "reference")}

_log = logging.getLogger(__name__)


def why_not(
    backend: str,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    tie_rule: str = "first",
) -> str | None:
    """The reason why ``backend`` cannot run there, or by that rule, or None if it can."""
    _check_name(backend)
    if backend in ("auto", "reference"):
        return None
    return ops.why_not(backend, torch.device(device).type, dtype, tie_rule)


def resolve(
    backend: str,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    tie_rule: str = "first",
) -> ModuleType:
    """The implementation of ``backend``: a module with the functions of ``reference``.

    Raises:
        ValueError: unknown backend.
        RuntimeError: a backend chosen by name that cannot run here, with the reason.
    """
    if backend == "auto":
        device_type = torch.device(device).type
        chosen = choose(device_type, dtype, tie_rule)
        if chosen == "reference" and device_type == "cpu" and not torch.compiler.is_compiling():
            _warn_of_missing_kernels()
        return _implementation(chosen)
    reason = why_not(backend, device, dtype, tie_rule)
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


def choose(device_type: str, dtype: torch.dtype | None = None, tie_rule: str = "first") -> str:
    """What ``"auto"`` stands for; logged once for every type of device, at debug level."""
    candidates = PREFERENCE.get(device_type, ("reference",))
    chosen = next(
        name for name in candidates if why_not(name, device_type, dtype, tie_rule) is None
    )
    if not torch.compiler.is_compiling():
        _announce(device_type, dtype, tie_rule, chosen)
    return chosen


@cache
def _announce(device_type: str, dtype: torch.dtype | None, tie_rule: str, chosen: str) -> None:
    where = device_type if dtype is None else f"{device_type}, {dtype}"
    for name in PREFERENCE.get(device_type, ()):
        if name == chosen:
            break
        reason = why_not(name, device_type, dtype, tie_rule)
        _log.debug("auto passes over %s on %s: %s", name, where, reason)
    _log.debug("auto is %s on %s", chosen, where)


@cache
def _warn_of_missing_kernels() -> None:
    """Once a process, when they would have been used first."""
    reason = why_not("cpp", "cpu")
    warnings.warn(
        f"softhebb_fast computes by its reference, which is slow on CPUs: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )


def _check_name(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}")


def _implementation(name: str) -> ModuleType:
    return reference if name == "reference" else ops
