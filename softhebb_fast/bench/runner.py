"""Runs cases: a process for every provider of each, and samples by turns."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from softhebb_fast.bench import machine
from softhebb_fast.bench.cases import Case
from softhebb_fast.bench.provider import Provider
from softhebb_fast.bench.rows import Row
from softhebb_fast.bench.worker import Plan, Ready, Refused, serve
from softhebb_fast.training import memory

LEAST_ROUNDS = 5
MEMORY_SHARE = 0.8  # of what is free: the rest is for the system


@dataclass(frozen=True)
class Failure:
    """A provider that was not timed. ``wrong``: it failed the gate."""

    case: str
    provider: str
    reason: str
    wrong: bool


def by_turns(cases: Iterable[Case]) -> list[list[Case]]:
    """The cases in their order, those that are to be compared together."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.turn or case.name, []).append(case)
    return list(groups.values())


def run(
    cases: Sequence[Case], providers: Sequence[Provider], plan: Plan, say: Callable[[str], None]
) -> tuple[list[Row], list[Failure]]:
    """Time the providers on the cases by turns; ``say`` hears of what is going on."""
    failures: list[Failure] = []
    workers: dict[tuple[Case, Provider], _Worker] = {}
    took: list[float] = []
    with ExitStack() as stack:
        started: dict[tuple[Case, Provider], _Worker] = {}
        for case, provider in product(cases, providers):
            reason = provider.why_not(case, torch.device(plan.device))
            if reason is not None:
                failures.append(Failure(case.name, provider.name, reason, wrong=False))
            else:
                worker = stack.enter_context(_Worker(case, provider.name, plan))
                started[case, provider] = worker
        if torch.device(plan.device).type == "cuda":  # they compile side by side
            for worker in started.values():
                worker.approach()
        for (case, provider), worker in started.items():
            held = sum(p.memory(c) for c, p in workers)
            reason = _too_large(held + provider.memory(case), plan.device)
            if reason is not None:
                failures.append(Failure(case.name, provider.name, reason, wrong=False))
                continue
            say(f"{case.name}: {provider.name} at the gate")
            match worker.admit():
                case Ready(seconds):
                    workers[case, provider] = worker
                    took.append(case.min_calls * seconds)
                case Refused(reason, wrong):
                    failures.append(Failure(case.name, provider.name, reason, wrong))
        rounds = _rounds(took, plan)
        say(f"{cases[0].turn or cases[0].name}: {rounds} rounds")
        samples: dict[tuple[Case, Provider], list[float]] = {own: [] for own in workers}
        for _ in range(rounds):
            for own, worker in workers.items():
                samples[own].append(worker.sample())
        rows = [_row(*own, plan, samples[own], worker.finish()) for own, worker in workers.items()]
    return rows, failures


def spread(row: Row) -> float:
    """How far the quantiles are apart, relative to the median."""
    return (row.q80 - row.q20) / row.median


class _Worker:
    """A process that serves one provider. All of a case start together and are admitted in turn."""

    def __init__(self, case: Case, provider: str, plan: Plan) -> None:
        context = _context(plan.device)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, case, provider, plan), daemon=True
        )
        self.process.start()
        self.approached = False
        theirs.close()

    def approach(self) -> None:
        """Let it go to the gate, without waiting for what is said there."""
        if not self.approached:
            self.approached = True
            # one that has ended may have said why before it was asked
            with suppress(BrokenPipeError):
                self.pipe.send(True)

    def admit(self) -> Ready | Refused:
        """Let it pass the gate, if it does."""
        self.approach()
        return self._answer()

    def sample(self) -> float:
        self.pipe.send(True)
        return self._answer()

    def finish(self) -> int | None:
        """The peak memory; ends the process."""
        self.pipe.send(False)
        return self._answer()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _answer(self):
        try:
            return self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            raise RuntimeError(f"the process of a provider ended with status {code}") from None


def _context(device: str) -> multiprocessing.context.BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods() or device != "cpu":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["softhebb_fast.bench.worker"])
    return context


def _too_large(needed: float, device: str) -> str | None:
    free = memory.free_bytes(device) if torch.device(device).type == "cpu" else None
    if free is None or needed <= MEMORY_SHARE * free:
        return None
    return f"would need about {needed / 2**30:.1f} GiB in all, and {free / 2**30:.1f} GiB are free"


def _rounds(seconds: list[float], plan: Plan) -> int:
    if not seconds:
        return 0
    each = sum(max(s, 0.05) for s in seconds)
    return max(LEAST_ROUNDS, min(plan.rounds, int(plan.seconds / each)))


def _row(case: Case, provider: Provider, plan: Plan, times: list[float], peak: int | None) -> Row:
    own = case.own_calls if provider.backend else 0
    calls = own or provider.part(case).calls
    q20, median, q80 = (calls * quantile(times, q) for q in (0.2, 0.5, 0.8))
    return Row(
        case=case.name,
        provider=provider.name,
        device=plan.device,
        precision=provider.precision,
        threads=plan.threads,
        median=median,
        q20=q20,
        q80=q80,
        samples=len(times),
        calls=calls,
        bytes=peak,
        flops=case.flops,
        **machine.facts(plan.device),
    )


def quantile(values: list[float], q: float) -> float:
    """Between the two nearest of the sorted values, linearly."""
    return float(np.quantile(values, q))
