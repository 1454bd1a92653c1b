"""The process of one provider: it passes the gate, then times a sample whenever it is asked to.

A process of its own gives every provider its own floating-point mode, threads, compiled code and
memory, whatever the others do.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from softhebb_fast.bench import gate
from softhebb_fast.bench.cases import Case
from softhebb_fast.bench.inputs import inputs
from softhebb_fast.bench.provider import Provider
from softhebb_fast.bench.providers import PROVIDERS
from softhebb_fast.bench.timing import Memory, enough, sample

WARM = 5.0  # seconds of a first call above which the next ones are not much shorter


@dataclass(frozen=True)
class Plan:
    """How long to look: at most ``rounds`` samples of each provider, and about ``seconds`` of
    samples for all of them together, but never fewer than five rounds; no provider whose call
    takes more than ``longest`` seconds."""

    device: str = "cpu"
    threads: int = 1
    rounds: int = 15
    seconds: float = 60.0
    longest: float = 20.0


class Ready(NamedTuple):
    """The provider may be timed: seconds of a call when it was warm."""

    seconds: float


class Refused(NamedTuple):
    """Why the provider is not timed. ``wrong``: it does not compute what the reference does."""

    reason: str
    wrong: bool


def serve(pipe: Connection, case: Case, name: str, plan: Plan) -> None:
    """Answer a parent: first to True whether the provider is Ready or Refused; then to every True
    the seconds of a call, and to False the peak memory, which is the end."""
    try:
        _serve(pipe, case, PROVIDERS[name], plan)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass
    except Exception as error:
        pipe.send(Refused(f"{type(error).__name__}: {error}", wrong=True))


def _serve(pipe: Connection, case: Case, provider: Provider, plan: Plan) -> None:
    device, case = torch.device(plan.device), provider.part(case)
    torch.set_num_threads(plan.threads)
    # Before the first parallel loop: the threads that it starts inherit the mode.
    torch.set_flush_denormal(not provider.denormals)
    provider.set_precision()
    ones = torch.ones(256, 256, device=device)
    ones @ ones  # BLAS comes with memory of its own
    memory = Memory(device)
    pipe.recv()
    with torch.set_grad_enabled(case.kind not in ("layer", "step")):
        wrong = None if provider.partial else complaint(case, provider, device)
        if wrong is not None:
            pipe.send(Refused(wrong, wrong=True))
            return
        gc.collect()
        memory.forget_peak()
        given = inputs(case, device, provider.layout, provider.dtype)
        start = [w.clone() for w in given.weights]
        torch.manual_seed(0)
        call = provider.make(case, given)
        seconds = sample(call, 1, device)
        if seconds < WARM or provider.compiles:
            seconds = min(sample(call, 1, device) for _ in range(2))
        if seconds > plan.longest:
            reason = f"a call takes {seconds:.0f} s, more than {plan.longest:g}"
            pipe.send(Refused(reason, wrong=False))
            return
        repeats = max(case.min_calls, enough(seconds))
        pipe.send(Ready(seconds))
        while pipe.recv():
            for weight, first in zip(given.weights, start, strict=True):
                weight.copy_(first)
            if repeats > 1:
                call()  # the others have used the caches
            pipe.send(sample(call, repeats, device))
    pipe.send(memory.peak())


def complaint(case: Case, provider: Provider, device: torch.device) -> str | None:
    """What the gate has to say against the provider, or None."""
    small = gate.checked(case)
    given = inputs(small, device, provider.layout, provider.dtype)
    before = [w.clone() for w in given.weights]
    torch.manual_seed(0)
    outputs = provider.make(small, given)()
    wanted = gate.expected(small, given._replace(weights=before), outputs)
    return gate.complaint(small, provider, given, before, outputs, wanted)
