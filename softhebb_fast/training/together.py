"""Runs that differ in their seeds alone, whose layers learn in the same steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from softhebb_fast.models import SideBySide
from softhebb_fast.presets import Layer, Preset
from softhebb_fast.training import steps
from softhebb_fast.training.joined import JoinedGraphSteps, JoinedStage, JoinedSteps
from softhebb_fast.training.joined_classifier import JoinedClassifierStage
from softhebb_fast.training.loop import Interrupted
from softhebb_fast.training.plan import PlannedStage
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.stage import Stage
from softhebb_fast.training.trainer import Trainer

CACHED = 0.6  # of a device's memory, for features; the rest is for images, maps and weights
Joint = tuple[list[Stage], Stage]


def learn_together(runs: Sequence[Trainer]) -> None:
    """Bring ``runs`` forward, as far as they can learn in the same steps.

    Those are the Hebbian layers, and on a CUDA device whose memory holds the features of all runs
    the classifiers too. The runs may differ in their seeds, starts, rates and temperatures. Each
    keeps its own order of the images, its own figures and its own folder, fits its own whitenings
    and sampled starts, and learns what it learns alone, up to rounding. All write their checkpoints
    after the same steps, and go on from there together, or alone by ``run``, which also makes what
    is left. Each counts the time of all as its own. Where a stage cannot be made together, the
    reporter of the first run says why, and the runs stop before it. Runs that are at different
    places of their plans stay where they are.

    Each keeps features in its share of ``cache_gib``; on a CUDA device in all of its ``cache_gib``,
    as far as three fifths of the device's memory go round.

    Raises:
        TypeError: what is no ``Trainer``.
        ValueError: fewer than two runs, one that is given twice, runs that differ in more or in
            data, or several processes.
        InUse: another process writes in the folder of one.
        Interrupted: any run was asked to stop; all that had begun to learn have written their
            checkpoints.
    """
    runs = list(runs)
    _check_alike(runs)
    try:
        for run in runs:
            run.take_back()
            run.keep_random_state()
            run.share_cache(_cache_of_each(runs))
            run.beside = runs
            run.start_clock()
        runs[0].reporter.say(f"{_named(runs)} learn in the same steps")
        with runs[0].settings():
            while (planned := _prepared(runs)) is not None:
                joint = _layers(runs, planned) if planned.hebbian else _classifiers(runs)
                if joint is None:
                    return
                _learn(runs, *joint)
    finally:
        for run in runs:
            run.share_cache(run.config.cache_gib)
            run.beside = ()
            run.give_back()


def _named(runs: list[Trainer]) -> str:
    """The runs by their seeds, or by their folders where they differ in more."""
    if all(same_but_for_seed(run, runs[0]) for run in runs):
        return f"seeds {', '.join(str(run.config.seed) for run in runs)}"
    return f"the runs in {', '.join(str(run.out) for run in runs)}"


def same_but_for_seed(run: Trainer, other: Trainer) -> bool:
    """Whether two runs are of one configuration but for the seed."""
    return replace(run.config, seed=other.config.seed) == other.config


def _check_alike(runs: list[Trainer]) -> None:
    if len(runs) < 2:
        raise ValueError(f"runs must be two at least to learn together; got {len(runs)}")
    first = runs[0]
    for run in runs:
        if not isinstance(run, Trainer):
            raise TypeError(f"runs must be Trainers; got {type(run).__name__}")
    if len({id(run) for run in runs}) < len(runs):
        raise ValueError("runs must be different ones to learn together; got one twice")
    for run in runs:
        if run.ranks.several:
            raise ValueError("runs must be made by one process to learn together")
        if not _alike(run, first):
            raise ValueError(
                "runs must differ in their seeds, starts, rates and temperatures alone; "
                f"{run.out} and {first.out} differ in more"
            )
        if run.data != first.data:
            raise ValueError(
                f"runs must have the same data to learn together; {run.out} and {first.out} do not"
            )


def _alike(run: Trainer, other: Trainer) -> bool:
    """Whether two runs are of one configuration but for what layers side by side may differ in."""
    free = {name: getattr(other.config, name) for name in ("seed", "init", "preset")}
    if replace(run.config, **free) != other.config:
        return False
    return _fixed(run.net.preset) == _fixed(other.net.preset)


def _fixed(preset: Preset) -> tuple[object, ...]:
    """What networks side by side must have in common."""
    free = {"t_invert": 1.0, "lr": 1.0, "radius": 1.0}
    layers = (replace(layer, **free) if layer.hebbian else layer for layer in preset.layers)
    return preset.lr_supervised, *layers


def _cache_of_each(runs: list[Trainer]) -> float:
    """The GiB in which each of ``runs`` may keep features."""
    own, device = runs[0].config.cache_gib, runs[0].train_set.device
    if device.type != "cuda":
        return own / len(runs)
    memory = torch.cuda.get_device_properties(device).total_memory
    return min(own, CACHED * memory / 2**30 / len(runs))


def _prepared(runs: list[Trainer]) -> PlannedStage | None:
    """As ``_next``, after each run has made for itself what has to be there before it learns."""
    for run in runs:
        while not run.finished and run.planned.prepares:
            run.make_stage()
    return _next(runs)


def _next(runs: list[Trainer]) -> PlannedStage | None:
    """The stage in which all runs are, at the same batch, if they can learn it together."""
    if any(run.finished for run in runs):
        return None
    if len({(run.planned, *run.place[1:]) for run in runs}) > 1:
        return None
    planned = runs[0].planned
    return planned if planned.hebbian or _classify_alike(runs, planned) else None


def _classify_alike(runs: list[Trainer], planned: PlannedStage) -> bool:
    """Whether the classifiers of ``runs`` learn by one kernel, from the same images."""
    if not all(run.fuses(planned) for run in runs):
        return False
    return all(
        torch.equal(own.labels, given.labels)
        for run in runs[1:]
        for own, given in ((run.train_set, runs[0].train_set), (run.test_set, runs[0].test_set))
    )


def _layers(runs: list[Trainer], planned: PlannedStage) -> Joint | None:
    """A Hebbian stage of all runs; None where they cannot stand side by side, and why is said."""
    try:
        for i in planned.hebbian:
            _check_rates([run.net.preset.layers[i] for run in runs])
            for run in runs:  # a stop may have left rates and modes as they were there
                run.net.blocks[i].train().layer.lr = run.net.preset.layers[i].lr
        joint = SideBySide(
            [run.net for run in runs], first=planned.hebbian[0], last=planned.hebbian[-1]
        )
    except (TypeError, ValueError) as reason:
        runs[0].reporter.say(f"these runs learn one after the other: {reason}")
        return None
    stages = [run.begin_stage() for run in runs]
    return stages, JoinedStage(joint, stages)


def _check_rates(layers: list[Layer]) -> None:
    decays = layers[0].schedule not in ("norm", "constant")
    if decays and len({layer.lr for layer in layers}) > 1:
        raise ValueError("rates that decay must agree in runs that learn in the same steps")


def _classifiers(runs: list[Trainer]) -> Joint:
    """The stage of all classifiers. What is kept of earlier features goes first: there is no room
    for both."""
    for run in runs:
        run.share_cache(_cache_of_each(runs))
    joint = JoinedClassifierStage([run.begin_stage for run in runs])
    return joint.members, joint


def _learn(runs: list[Trainer], stages: list[Stage], joint: Stage) -> None:
    """One stage of all runs, from where they are to its end."""
    lead, say = runs[0], runs[0].reporter.say
    kinds = {"eager": JoinedSteps, "graph": JoinedGraphSteps}
    runner = _Shared(steps.runner(joint, say, **kinds), runs, stages)
    walks = [lead.stage_steps(stages[0], runner)]
    with _led(runs):
        walks += [
            run.stage_steps(own, _Following(runner, own))
            for run, own in zip(runs[1:], stages[1:], strict=True)
        ]
        _in_step(walks)
    for run in runs:
        run.end_stage()


@contextmanager
def _led(runs: list[Trainer]) -> Iterator[None]:
    """All but the first follow it: in when to save and to stop, and without telling of it."""
    lead, *others = runs
    reporters = [run.reporter for run in others]
    for run in others:
        run.lead, run.reporter = lead, Reporter()
    try:
        yield
    finally:
        for run, reporter in zip(others, reporters, strict=True):
            run.lead, run.reporter = None, reporter


def _in_step(walks: list[Iterator[None]]) -> None:
    """Take all walks forward, a step of each at a time. One that is interrupted waits for all."""
    stopped = None
    while walks and stopped is None:
        for walk in list(walks):
            try:
                next(walk)
            except StopIteration:
                walks.remove(walk)
            except Interrupted as interruption:
                stopped = stopped or interruption
    if stopped is not None:
        raise stopped


class _Shared:
    """The walk of the first run: each of its steps is one of all."""

    count: int = 0

    def __init__(self, runner: steps.EagerSteps, runs: list[Trainer], stages: list[Stage]) -> None:
        self.runner = runner
        self.order_of: list[Callable[[int], Tensor]] = [
            run.order_of(stage) for run, stage in zip(runs, stages, strict=True)
        ]

    def walk(self, order: Tensor, start: int, first: int, seeds: tuple[int, int]) -> Iterator[int]:
        orders = torch.stack([order_of(seeds[1]) for order_of in self.order_of], dim=1)
        for count in self.runner.walk(orders, start, first):
            self.count = count
            yield count


class _Following:
    """The walk of another run, whose steps the first has made."""

    def __init__(self, shared: _Shared, stage: Stage) -> None:
        self.shared, self.stage = shared, stage

    def walk(self, order: Tensor, start: int, first: int, seeds: tuple[int, int]) -> Iterator[int]:
        batch = start
        while batch < self.stage.per_epoch:
            yield self.shared.count
            batch += -(-self.shared.count // self.stage.batch_size)
