"""One call: what becomes of it, in a word, or the fault."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from benchmarks.fire.calls import subjects
from benchmarks.fire.calls.arguments import ACTIVATIONS, MODULES, Call
from benchmarks.fire.calls.balls import Ball
from benchmarks.fire.calls.others import OTHERS
from benchmarks.fire.calls.subjects import INITS
from benchmarks.fire.calls.tensors import Drawn

OUTCOMES = ("in bound", "refused", "out of range", "no digit")
FAULTS = ("wrong value", "wrong shape", "not refused", "wrong error", "argument changed", "crash")


class Fault(AssertionError):
    """What must not be: a word of ``FAULTS``, and more."""

    def __init__(self, word: str, more: str) -> None:
        super().__init__(f"{word}: {more}")
        self.word = word


def verdict(call: Call) -> str:
    """One of ``OUTCOMES``. Raises Fault."""
    subject = subjects.subject(call)
    tensors = {name: made(drawn) for name, drawn in call.tensors.items()}
    kept = {name: t for name, t in tensors.items() if isinstance(t, Tensor)}
    before = {name: t.clone() for name, t in kept.items()}
    memory = {name: _bits(t) for name, t in kept.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = subject.run(call, tensors)
    except Exception as error:
        _unchanged(kept, memory, before, ())
        return _refused(call, error)
    if call.spoilt:
        raise Fault("not refused", f"{' or '.join(call.spoilt)} does not fit")
    _unchanged(kept, memory, before, subject.writes)
    words = {"in bound"}
    infinite = any(t.isinf().any() for t in before.values())
    for name, ball in subject.judge(call, before).items():
        words.add(compared(name, found.get(name), ball, infinite))
    return max(words, key=OUTCOMES.index)


def made(drawn: Any) -> Any:
    return drawn.make() if isinstance(drawn, Drawn) else drawn


def _refused(call: Call, error: Exception) -> str:
    said = f"{type(error).__name__}: {error}".split("\n")[0]
    if not call.spoilt:
        raise Fault("wrong error", f"valid arguments, {said}") from error
    promised = isinstance(error, (ValueError, TypeError)) or (
        isinstance(error, RuntimeError) and str(error).startswith("backend=")
    )
    if not promised or not any(name in str(error) for name in call.spoilt):
        raise Fault("wrong error", f"of {' or '.join(call.spoilt)}: {said}") from error
    return "refused"


def _bits(t: Tensor) -> Tensor:
    memory = t.untyped_storage()
    return torch.tensor([], dtype=torch.uint8).set_(memory).clone()


def _unchanged(
    tensors: dict[str, Tensor],
    memory: dict[str, Tensor],
    before: dict[str, Tensor],
    writes: Iterable[str],
) -> None:
    for name, tensor in tensors.items():
        now = tensor
        if name in writes:  # what lies beside it in memory
            now = tensor.clone()
            tensor.copy_(before[name])
        if not torch.equal(_bits(tensor), memory[name]):
            raise Fault("argument changed", name)
        if name in writes:
            tensor.copy_(now)


def compared(
    name: str, found: Tensor | float | None, ball: Ball | None, infinite: bool = False
) -> str:
    """One of ``OUTCOMES``: how much of an output is known.

    Of ``infinite`` arguments follows what is finite, and not which of infinity and NaN the rest is.
    """
    if found is None or ball is None:
        if (found is None) != (ball is None):
            raise Fault("wrong shape", f"{name} is {found!r}, {ball!r} expected")
        return "in bound"
    if not isinstance(found, Tensor):
        found = torch.tensor(found, dtype=torch.float64)
    found = found.detach()
    if found.shape != ball.mid.shape:
        shapes = f"{tuple(found.shape)}, not {tuple(ball.mid.shape)}"
        raise Fault("wrong shape", f"{name} is of shape {shapes}")
    if not found.numel():
        return "in bound"
    found, mid, rad = found.double(), ball.mid, ball.rad
    fits = (found - mid).abs() <= rad
    fits |= (found == mid) | (found.isnan() & mid.isnan()) | rad.isinf()
    if infinite:
        fits |= ~found.isfinite() & ~mid.isfinite()
    if not fits.all():
        place = tuple(int(i) for i in torch.nonzero(~fits)[0])
        raise Fault(
            "wrong value",
            f"{name}{list(place)} is {float(found[place])!r}, "
            f"{float(mid[place])!r} ± {float(rad[place]):.3g} expected",
        )
    if rad.isinf().any():
        return "out of range"
    known = mid.isfinite()
    size = torch.where(known, mid.abs(), 0).max()
    return "no digit" if (rad[known] > size / 2).any() else "in bound"


def reproduction(call: Call) -> str:
    """A program that makes the call."""
    tensors = [
        f"{name} = {drawn!r}{'.make()' if isinstance(drawn, Drawn) else ''}"
        for name, drawn in call.tensors.items()
    ]
    passed = [f"{name}={name}" for name in call.tensors]
    options = [f"{name}={value!r}" for name, value in call.options.items()]
    lines = ["import torch", "from benchmarks.fire.calls.tensors import Drawn"]
    lines += ["from softhebb_fast import functional, init, nn, optim"]
    lines += ["from softhebb_fast.options import Epilogue", "inf, nan = float('inf'), float('nan')"]
    lines += tensors
    if call.name in MODULES:
        own = [o for o in options if not o.startswith("train=")]
        lines += [f"layer = nn.{call.name}({', '.join(own)}, backend={call.backend!r})"]
        lines += ["layer.to(weight.dtype).weight.data.copy_(weight.reshape(layer.weight.shape))"]
        lines += [f"layer.train({call.options.get('train')})"]
        others = [p for p in passed if p[:2] != "x=" and not p.startswith("weight=")]
        lines += [f"print(layer({', '.join(['x', *others])}), layer.weight, layer.weight.grad)"]
    elif call.name in ACTIVATIONS:
        lines += [f"print(nn.{call.name}({', '.join(options)})(u))"]
    elif call.name in INITS:
        lines += [f"print(init.INITS[{call.name!r}]({', '.join(passed + options)}))"]
    elif call.name in OTHERS:
        lines += ["from benchmarks.fire.calls.arguments import Call"]
        lines += ["from benchmarks.fire.calls.others import OTHERS"]
        tensors = ", ".join(f"{name!r}: {name}" for name in call.tensors)
        lines += [f"call = {call!r}", f"print(OTHERS[call.name].run(call, {{{tensors}}}))"]
    else:
        if call.name.partition("_")[0] in ("softhebb", "hebbian") and "delta_w" not in call.tensors:
            options += [f"backend={call.backend!r}"] if call.name != "hebbian_update" else []
        lines += [f"print(functional.{call.name}({', '.join(passed + options)}))"]
    return "\n".join(lines)
