"""Training a network from its configuration, stage by stage, to be stopped and resumed anywhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from softhebb_fast import precision
from softhebb_fast.backends import resolve
from softhebb_fast.data import load, permutation, published_augmentation
from softhebb_fast.files import writable_folder
from softhebb_fast.models import build
from softhebb_fast.presets import protocol
from softhebb_fast.training import checkpoint, fused_classifier, metrics, steps
from softhebb_fast.training.classifier import neuron_accuracy
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.fused_classifier import ClassifierStage
from softhebb_fast.training.inputs import StageInputs
from softhebb_fast.training.plan import PlannedStage, is_perceptron, plan
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.run_folder import read_config, usable_device, write_config
from softhebb_fast.training.stages import BatchSource, HebbianStage, Stage, SupervisedStage

CHECKPOINT_SECONDS = 30.0
SHARE = 20  # times what writing a checkpoint takes, before the end of an epoch gets another


class Interrupted(Exception):
    """A run that was asked to stop has written its checkpoint and stopped."""


class Trainer:
    """Train the network of ``config`` and write what it becomes to the folder ``out``.

    The folder gets ``config.json``, ``checkpoint.pt`` and ``metrics.csv``. A checkpoint is written
    every 30 seconds, at a stage's end, at a stop, and at an epoch's end where that costs little. A
    run that ended early, however it ended, goes on from its last checkpoint with
    ``Trainer.resume`` and gives the same bits as one that never stopped.

    Args:
        config: what to train; its open fields take the published protocol.
        out: folder of the run; must not hold another run.
        root: folder of the data sets, see ``data.data_root``.
        reporter: hears of progress.
        checkpoint_seconds: the longest time between two checkpoints.

    Raises:
        ValueError: a configuration, folder or data set that does not do, naming it.
        FileNotFoundError: data that is missing, saying which file to put where.
        RuntimeError: a backend or precision chosen by name that cannot be had here.
    """

    def __init__(
        self,
        config: RunConfig,
        out: str | Path,
        *,
        root: str | Path | None = None,
        reporter: Reporter | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        _resume: bool = False,
    ) -> None:
        self.config = config = config.resolved()
        self.reporter = reporter or Reporter()
        self.checkpoint_seconds = checkpoint_seconds
        self.stop_requested = False
        preset = config.network()
        self.augment = published_augmentation(config.dataset) if config.augment else None
        device = usable_device(config.device)
        resolve(config.backend, device)
        precision.require(config.precision, device.type)
        self.root, self.out = None if root is None else str(root), Path(out)
        if not _resume and (self.out / checkpoint.FILE).exists():
            raise ValueError(
                f"out already holds a run: {str(self.out)!r}; resume it or choose another folder"
            )
        saved = checkpoint.load(self.out, config) if _resume else None
        self._load_data(device)
        torch.manual_seed(config.seed)
        self.net = build(
            preset,
            self.train_set.image_shape,
            self.train_set.num_classes,
            init=config.init,
            tie_rule=config.tie_rule,
            backend=config.backend,
        ).to(device)
        if device.type == "cuda" or config.autocast:
            self.net.to(memory_format=torch.channels_last)
        self.stage_number = self.epoch = self.batch = 0
        self.rows, self.elapsed = [], 0.0
        self._stage_state: dict[str, Any] | None = None
        self._inputs = StageInputs(self.net, config, self.reporter)
        self._plan = plan(self.net, config)
        writable_folder(self.out)
        if saved is None:
            write_config(self.out, config, self.root)
        else:
            self._restore(saved)

    @classmethod
    def resume(cls, out: str | Path, **options: Any) -> Trainer:
        """The trainer of the run in ``out``, where its last checkpoint left it.

        A run that was stopped before its first checkpoint starts over. The options are those of
        ``Trainer``. Raises as ``Trainer`` does, and ValueError for a damaged checkpoint or one
        that belongs to another configuration.
        """
        config, root = read_config(Path(out))
        options = {"root": root, **options}
        return cls(config, out, _resume=(Path(out) / checkpoint.FILE).exists(), **options)

    def run(self) -> dict[str, Any]:
        """Train to the end and return the last figures of the run.

        Raises Interrupted, with a checkpoint written, after ``stop_requested`` was set.
        """
        self._started = self._saved = time.monotonic()
        self._saving = 0.0
        with precision.use(self.config.precision):
            self._run_stages()
            self.net.eval()
            self._save({})
            return self.summary()

    def _run_stages(self) -> None:
        while self.stage_number < len(self._plan):
            stage = self._make(self._plan[self.stage_number])
            if self._stage_state is not None:
                stage.load_state_dict(self._stage_state)
                checkpoint.restore_rng(self._rng)
                self._stage_state = None
            self._run_stage(stage)
            del stage  # with the features below it: they may be most of the memory
            self.stage_number, self.epoch = self.stage_number + 1, 0

    def summary(self) -> dict[str, Any]:
        """The last test accuracy and loss, the seconds taken, and each layer's last figures."""
        result = {**metrics.last_figures(self.rows), "seconds": self.elapsed}
        if is_perceptron(self.net.preset):
            first = self.net.blocks[0]
            layer, classes = nn.Sequential(first.norm, first.layer), self.train_set.num_classes
            accuracy = neuron_accuracy(layer, self.train_set, self.test_set, classes)
            result["neuron_accuracy"] = accuracy
        return result

    def _load_data(self, device: torch.device) -> None:
        name = self.config.dataset
        options = {"root": self.root, "device": device, "limit": self.config.limit}
        self.train_set = load(name, "train", **options)
        self.test_set = load(name, "test", **options)
        unlabelled = protocol(name).unlabelled and self.config.unsup_epochs > 0
        self.unsup_set = load(name, "unlabeled", **options) if unlabelled else self.train_set

    def _make(self, planned: PlannedStage) -> Stage:
        config = self.config
        if planned.hebbian:
            inputs = self._inputs.below(planned.hebbian[0], self.unsup_set, self._advance)
            epochs, batch = config.unsup_epochs, config.unsup_batch
            blocks = list(planned.hebbian)
            return HebbianStage(self.net, inputs, self.unsup_set, blocks, epochs, batch)
        frozen = planned.frozen
        if config.augment:
            inputs = BatchSource(self.train_set, list(self.net.blocks[:frozen]), self.augment)
        else:
            inputs = self._inputs.below(frozen, self.train_set, self._advance)
        test = self._inputs.below(frozen, self.test_set, self._advance, keep=False)
        alone_on_top = frozen == len(self.net.blocks) and not config.autocast
        if alone_on_top and fused_classifier.fits(self.net, inputs, test, config.backend):
            epochs, batch = config.probe_epochs, config.probe_batch
            return ClassifierStage(self.net, inputs, test, epochs, batch, config.seed)
        return SupervisedStage(
            self.net,
            inputs,
            test,
            self.train_set,
            frozen,
            config.probe_epochs,
            config.probe_batch,
            config.test_batch,
            planned.together,
            planned.alone,
            config.autocast,
        )

    def _run_stage(self, stage: Stage) -> None:
        seed, samples, per_epoch = self.config.seed, len(stage.inputs.source), stage.per_epoch
        done = self.epoch * samples + self.batch * stage.batch_size
        self.reporter.begin(stage.title, stage.epochs * samples, done)
        runner = steps.runner(stage, self.reporter.say)
        while self.epoch < stage.epochs:
            self.reporter.status(self._status(stage))
            order = permutation(samples, seed, self.epoch)
            first, seeds = self.epoch * per_epoch, (seed, self.epoch)
            for count in runner.walk(order, self.batch, first, seeds):
                self.batch += -(-count // stage.batch_size)
                self.reporter.advance(count)
                if self.batch in stage.marks:
                    self._record(stage.record(self.epoch + self.batch / per_epoch))
                if self.batch < per_epoch:
                    self._save_if_due(stage)
            self.epoch, self.batch = self.epoch + 1, 0
            self._record(stage.end_epoch(self.epoch))
            self._save_if_due(stage, end_of_epoch=True)
        self.reporter.status(self._status(stage))
        self.reporter.end()

    def _record(self, rows: list[metrics.MetricsRow]) -> None:
        seconds = self._elapsed()
        for row in rows:
            self.rows.append(row | {"seconds": seconds})
            self.reporter.record(self.rows[-1])

    def _status(self, stage: Stage) -> str:
        text = f"epoch {min(self.epoch + 1, stage.epochs)}/{stage.epochs}"
        last = self.rows[-1] if self.rows else {}
        return f"{text}, test {last['test_accuracy']:.2f} %" if "test_accuracy" in last else text

    def _advance(self, count: int) -> None:
        self.reporter.advance(count)
        self._stop_if_asked()

    def _save_if_due(self, stage: Stage, end_of_epoch: bool = False) -> None:
        since = time.monotonic() - self._saved
        cheap = end_of_epoch and (self.epoch == stage.epochs or since >= SHARE * self._saving)
        if cheap or since >= self.checkpoint_seconds or self.stop_requested:
            self._save(stage.state_dict())
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.stop_requested:
            self.reporter.end()
            raise Interrupted(f"stopped; the run goes on with: resume {self.out}")

    def _elapsed(self) -> float:
        now = time.monotonic()
        self.elapsed += now - self._started
        self._started = now
        return self.elapsed

    def _save(self, stage_state: dict[str, Any]) -> None:
        self._elapsed()
        began = time.monotonic()
        state = {
            "model": self.net.state_dict(),
            "image_shape": list(self.train_set.image_shape),
            "num_classes": self.train_set.num_classes,
            "stage": self.stage_number,
            "epoch": self.epoch,
            "batch": self.batch,
            "stage_state": stage_state,
            "rows": self.rows,
            "elapsed": self.elapsed,
        }
        checkpoint.save(self.out, self.config, state)
        metrics.write_csv(self.out, self.rows)
        self._saved = time.monotonic()
        self._saving = self._saved - began

    def _restore(self, saved: dict[str, Any]) -> None:
        self.net.load_state_dict(saved["model"])
        self.stage_number, self.epoch = saved["stage"], saved["epoch"]
        self.batch, self.rows, self.elapsed = saved["batch"], saved["rows"], saved["elapsed"]
        self._stage_state, self._rng = saved["stage_state"], saved["rng"]
