"""A run, stage by stage, to be stopped and resumed anywhere."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from softhebb_fast.data import ImageSet, permutation
from softhebb_fast.files import claim, writable_folder
from softhebb_fast.functional.distributed import Processes, ProcessLost
from softhebb_fast.nn.distributed import put_together
from softhebb_fast.nn.dropout import Dropout
from softhebb_fast.training import checkpoint, metrics, steps
from softhebb_fast.training.figures import Figures
from softhebb_fast.training.finite import Guard
from softhebb_fast.training.images import fingerprint, given_images, load_images, named, source
from softhebb_fast.training.pace import Pace
from softhebb_fast.training.ranks import Ranks
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.run_folder import (
    Config,
    check_data,
    read_config,
    usable_device,
    write_config,
)
from softhebb_fast.training.stage import Stage
from softhebb_fast.training.symmetry import SymmetryRecorder
from softhebb_fast.training.walk import walk

CHECKPOINT_SECONDS = 30.0


class Interrupted(Exception):
    """A run that was asked to stop has written its checkpoint and stopped."""


class Loop:
    """Train the network of ``config`` and write what it becomes to the folder ``out``.

    The folder gets ``config.json``, ``checkpoint.pt``, ``metrics.csv``, ``neurons.csv`` of Hebbian
    layers and, if the configuration asks for it, ``symmetry.csv``. A checkpoint is written every
    30 seconds, at a stage's end, at a stop, and at an epoch's end where that costs little. A run
    that ended early, however it ended, goes on from its last checkpoint with ``resume`` and gives
    the same bits as one that never stopped. Other processes are kept off the folder until the run
    ends or this process does.

    Where ``torch.distributed`` is initialised, its processes make the run together: each calls this
    with the same arguments and takes a part of every batch. The first writes the folder and tells
    of the progress; all must be able to read it. ``resume`` goes on in any number of processes.

    Args:
        config: what to train; its open fields take the published protocol.
        out: folder of the run; must not hold another run.
        train, test: the images, if the program has them: each an ``ImageSet``, a pair (images,
            labels) of arrays or tensors, or a map-style torch ``Dataset``; see
            ``data.as_image_set``. ``config.dataset`` is then their name. Without ``test``,
            ``config.reading`` says what is held out of ``train``. ``resume`` needs them again.
        root: folder of the data sets, see ``data.data_root``.
        reporter: hears of progress.
        checkpoint_seconds: the longest time between two checkpoints.

    Raises:
        ValueError: a configuration, folder or data set that does not do, naming it; `InUse` for a
            folder in which another process writes.
        FileNotFoundError: data that is missing, saying which file to put where.
        RuntimeError: a backend or precision chosen by name that cannot be had here; FirstFailed
            where the first of several processes raised one of these.
        TypeError: images of another kind.
    """

    config: Config
    ranks: Ranks
    pace: Pace
    figures: Figures
    reporter: Reporter
    root: str | None
    out: Path
    dataset: str
    data: dict[str, dict[str, Any]]
    stage_number: int
    epoch: int
    batch: int
    step: int
    symmetry: SymmetryRecorder
    lead: Loop | None = None
    beside: Sequence[Loop] = ()
    own_rng: dict[str, Any] | None = None

    def __init__(
        self,
        config: Config,
        out: str | Path,
        *,
        train: Any = None,
        test: Any = None,
        root: str | Path | None = None,
        reporter: Reporter | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        _resume: bool = False,
        _dataset: str | None = None,
    ) -> None:
        if train is None and test is not None:
            raise ValueError("train must be given with test")
        self._given = None if train is None else (train, test)
        config = config.resolved()
        self.config = config = config if _resume else named(config, train is not None)
        self.ranks = ranks = Ranks.here()
        self.reporter = (reporter if ranks.first else None) or Reporter()
        self.pace = Pace(ranks, checkpoint_seconds)
        self.stop_requested = False
        device = usable_device(config.device)
        self._check(device)
        self.root = None if root is None else str(root)
        self.out = Path(out)
        self.dataset = _dataset or config.dataset
        self._give_back = weakref.finalize(self, lambda: None)
        try:
            self._begin(device, _resume, "root" if train is None else "train and test")
        except BaseException:  # whose traceback may keep the run, and so its claim on the folder
            self._give_back()
            raise

    def _begin(self, device: torch.device, resumes: bool, source: str) -> None:
        config, ranks = self.config, self.ranks
        if resumes:
            self._claim()
        else:
            ranks.by_first(self._check_empty)
        load = partial(checkpoint.load, self.out, config)
        saved = ranks.one_by_one(load) if resumes else None
        ranks.one_by_one(partial(self._load_data, device))  # the first downloads what is missing
        for images in self._sets().values():
            for line in images.report():
                self.reporter.say(line)
        self.data = {part: fingerprint(images) for part, images in self._sets().items()}
        torch.manual_seed(config.seed)
        shape, classes = self.train_set.image_shape, self.train_set.num_classes
        self.net: nn.Module = config.build(shape, classes).to(device)
        if device.type == "cuda" or config.autocast:
            self.net.to(memory_format=torch.channels_last)
        self.stage_number = self.epoch = self.batch = self.step = 0
        self.figures = Figures()
        self._stage_state: dict[str, Any] | None = None
        self._decided = False, False
        self.symmetry = SymmetryRecorder(self.net, config.symmetry_steps)
        self._plan = self._planned()
        ranks.by_first(partial(writable_folder, self.out))
        if saved is None:
            self._claim()
            ranks.by_first(self._begin_folder)
            self._rng = checkpoint.rng_state()
        else:
            check_data(self.out, self.data, source)
            self._restore(saved)
        ranks.spread_state(self.net)

    @classmethod
    def resume(cls, out: str | Path, **options: Any) -> Loop:
        """The run in ``out``, where its last checkpoint left it.

        A run that was stopped before its first checkpoint starts over. The options are those of
        the constructor; without ``root`` the run's own is taken. Raises as it does, and ValueError
        for a damaged checkpoint or one that belongs to another configuration.
        """
        config, own = read_config(Path(out))
        given = options.pop("root", None)
        hidden = {
            "_resume": (Path(out) / checkpoint.FILE).exists(),
            "_dataset": source(config.dataset, given),
        }
        return cls(config, out, root=own if given is None else given, **options, **hidden)

    def run(self) -> dict[str, Any]:
        """Train to the end and return the last figures of the run.

        Raises Interrupted, with a checkpoint written, after ``stop_requested`` was set; in several
        processes, after it was set in any. Raises ProcessLost where one of them has ended.
        """
        self.take_back()
        if self.own_rng is not None:
            checkpoint.restore_rng(self.own_rng)
            self.own_rng = None
        try:
            with self.settings(), self._together():
                self.start_clock()
                if not self.finished:
                    self._run_stages()
                elif self.ranks.first:
                    self._write_figures()
                self.net.eval()
                return self.summary()
        except ProcessLost as error:
            self.reporter.end()
            raise ProcessLost(
                f"another process of the run in {self.out} has ended; from its last checkpoint it "
                f"goes on with: softhebb-fast resume {self.out}"
            ) from error
        finally:
            self._give_back()

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return self.stage_number == len(self._plan)

    @property
    def rows(self) -> list[metrics.MetricsRow]:
        """What was measured, in order."""
        return self.figures.rows

    @property
    def neurons(self) -> dict[int, dict[str, Any]]:
        """The last figures of each layer's neurons."""
        return self.figures.neurons

    def summary(self) -> dict[str, Any]:
        """The last test accuracy and loss, each layer's last figures, and the seconds taken."""
        return {**metrics.last_figures(self.rows), "seconds": self.figures.elapsed}

    @contextmanager
    def _together(self) -> Iterator[None]:
        """The network learns from the parts of all processes, if there are several."""
        if not self.ranks.several:
            yield
            return
        put_together(self.net, Processes(self.ranks.group))
        try:
            yield
        finally:
            put_together(self.net, None)
            for module in self.net.modules():
                if isinstance(module, Dropout):
                    module.place = None

    def _check(self, device: torch.device) -> None:
        """Raise where the configuration cannot be had on ``device``."""

    def keep_random_state(self) -> None:
        """Let the random state with which the run began, or was resumed, be its own: what other
        runs draw until ``run`` changes nothing in it."""
        if self.own_rng is None:
            self.own_rng = self._rng

    def give_back(self) -> None:
        """Let other processes at the folder, until the run goes on."""
        self._give_back()

    def take_back(self) -> None:
        """Keep other processes off the folder again. Raises InUse where one writes there."""
        if not self._give_back.alive:
            self._claim()

    def start_clock(self) -> None:
        """Begin to count the time that the run takes, before its first step or after a stop."""
        self.figures.start_clock()
        self.pace.start()
        if self.step == 0 and not self.finished:
            self.symmetry.record(-1, 0)

    @property
    def place(self) -> tuple[int, int, int]:
        """Where the run is: stage, epoch and batch."""
        return self.stage_number, self.epoch, self.batch

    @property
    def planned(self) -> Any:
        """The value of the plan for the stage in which the run is."""
        return self._plan[self.stage_number]

    def settings(self) -> AbstractContextManager[Any]:
        """The settings of torch under which the run is made."""
        return nullcontext()

    def _load_data(self, device: torch.device) -> None:
        self.train_set: ImageSet
        self.test_set: ImageSet
        if self._given is None:
            pair = load_images(self.config, self.dataset, self.root, device)
        else:
            pair = given_images(self.config, *self._given, device)
            self._given = None  # the program's own, which need not be kept
        self.train_set, self.test_set = pair

    def _sets(self) -> dict[str, ImageSet]:
        """What the run is made on, by what it is for."""
        return {"train": self.train_set, "test": self.test_set}

    def _check_empty(self) -> None:
        if (self.out / checkpoint.FILE).exists():
            raise ValueError(
                f"out already holds a run: {str(self.out)!r}; resume it or choose another folder"
            )

    def _begin_folder(self) -> None:
        self._check_empty()
        write_config(self.out, self.config, self.root, self.data)

    def _claim(self) -> None:
        release = self.ranks.by_first(partial(claim, self.out))
        self._give_back = weakref.finalize(self, release or (lambda: None))

    def _planned(self) -> Sequence[Any]:
        """The stages of the run, in values that do not hold them."""
        raise NotImplementedError

    def _make(self, planned: Any) -> Stage:
        """The stage that a value of the plan stands for, when its turn comes."""
        raise NotImplementedError

    def _order(self, samples: int, epoch: int) -> torch.Tensor:
        """The order of the samples in that epoch."""
        return permutation(samples, self.config.seed, epoch)

    def _order_of(self, stage: Stage, epoch: int) -> torch.Tensor:
        """The samples of a stage in their order: all of its inputs, or the first of them."""
        return self._order(len(stage.inputs.source), epoch)[: stage.samples]

    def _run_stages(self) -> None:
        while not self.finished:
            self.make_stage()

    def make_stage(self) -> None:
        """Make the stage whose turn it is, from where the run left it to its end."""
        stage = self.begin_stage()
        for _ in self.stage_steps(stage, steps.runner(stage, self.reporter.say)):
            pass
        del stage  # with the features below it: they may be most of the memory
        self.end_stage()

    def begin_stage(self) -> Stage:
        """The stage whose turn it is, in the state in which the run left it."""
        stage = self._make(self.planned)
        if self._stage_state is not None:
            stage.load_state_dict(self._stage_state)
            checkpoint.restore_rng(self._rng)
            self._stage_state = None
        return stage

    def end_stage(self) -> None:
        """Go on to the next stage of the plan; after the last the run is written as it ended."""
        self.stage_number, self.epoch = self.stage_number + 1, 0
        if self.finished:
            self._save({})

    def order_of(self, stage: Stage) -> Callable[[int], torch.Tensor]:
        """The samples of a stage in the order of an epoch, which is given."""
        return partial(self._order_of, stage)

    def stage_steps(self, stage: Stage, runner: steps.Walker) -> Iterator[None]:
        """Walk ``stage`` to its end by ``runner``: a pause before every epoch and after every walk
        of steps, when figures are recorded and checkpoints written as far as they are due."""
        done = self.epoch * stage.samples + self.batch * stage.batch_size
        self.reporter.begin(stage.title, stage.epochs * stage.samples, done)
        guard = Guard(self.net, stage, self.order_of(stage), self.config.seed)
        record = partial(self.figures.record, reporter=self.reporter)
        walked = walk(stage, runner, guard, record, self.reporter, self.epoch, self.batch)
        for place in walked:
            self.epoch, self.batch = place.epoch, place.batch
            if place.end:
                self._save_if_due(stage, guard, end_of_epoch=True)
                continue
            if place.images:
                before, self.step = self.step, self.step + -(-place.images // stage.batch_size)
                if self.symmetry.due(before, self.step):
                    stage.state_dict()  # brings the network up to date
                    self.symmetry.record(before, self.step)
                if self.batch < stage.per_epoch:
                    self._save_if_due(stage, guard)
            else:
                self.reporter.status(self._status(stage))
            yield
        self.reporter.status(self._status(stage))
        self.reporter.end()

    def _status(self, stage: Stage) -> str:
        return self.figures.status(min(self.epoch + 1, stage.epochs), stage.epochs)

    def _advance(self, count: int) -> None:
        self.reporter.advance(count)
        self._stop_if(self._agreed(False, at_once=True)[1])

    def _save_if_due(self, stage: Stage, guard: Guard, end_of_epoch: bool = False) -> None:
        due = self.pace.due(end_of_epoch, self.epoch == stage.epochs)
        due, stop = self._decided = self._agreed(due, at_once=end_of_epoch or stage.slow)
        if due or stop:
            guard.check(self.epoch, self.batch)
            state = stage.state_dict()
            self._save(state)
            if stop:  # the stage may be begun anew from here, without its folder
                self._stage_state, self._rng = copy.deepcopy(state), checkpoint.rng_state()
        self._stop_if(stop)

    def _agreed(self, due: bool, at_once: bool) -> tuple[bool, bool]:
        """As ``Pace.agreed``; a run that is led does as its leader."""
        if self.lead is not None:
            return self.lead._decided
        asked = self.stop_requested or any(run.stop_requested for run in self.beside)
        return self.pace.agreed(due, asked, at_once)

    def _stop_if(self, asked: bool) -> None:
        if asked:
            if self.own_rng is None:
                self.own_rng = checkpoint.rng_state()
            self.reporter.end()
            raise Interrupted(f"stopped; the run goes on with: softhebb-fast resume {self.out}")

    def _save(self, stage_state: dict[str, Any]) -> None:
        self.figures.seconds()
        with self.pace.saving():
            self.ranks.check_same(self.net)
            if self.ranks.first:
                self._write(stage_state)

    def _write(self, stage_state: dict[str, Any]) -> None:
        state = {
            "model": self.net.state_dict(),
            "image_shape": list(self.train_set.image_shape),
            "num_classes": self.train_set.num_classes,
            "like": dict(self.train_set.like),
            "stage": self.stage_number,
            "epoch": self.epoch,
            "batch": self.batch,
            "stage_state": stage_state,
            "step": self.step,
            "symmetry": self.symmetry.rows,
            **self.figures.state_dict(),
        }
        if self.own_rng is not None:
            state["rng"] = self.own_rng
        checkpoint.save(self.out, self.config, state)
        self._write_figures()

    def _write_figures(self) -> None:
        self.figures.write(self.out)
        self.symmetry.write(self.out)

    def _restore(self, saved: dict[str, Any]) -> None:
        self.net.load_state_dict(saved["model"])
        self.stage_number, self.epoch = saved["stage"], saved["epoch"]
        self.batch, self._rng = saved["batch"], saved["rng"]
        self._stage_state = saved["stage_state"]
        self.figures.load_state_dict(saved)
        # Older checkpoints have none of these.
        self.step, self.symmetry.rows = saved.get("step", 0), saved.get("symmetry", [])
