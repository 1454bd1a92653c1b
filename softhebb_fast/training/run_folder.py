"""The folder of a run: its configuration, and the network it has come to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from softhebb_fast import precision, sealed
from softhebb_fast.data import ImageSet, load
from softhebb_fast.training import checkpoint
from softhebb_fast.training.backprop_config import BackpropConfig
from softhebb_fast.training.classifier import evaluate
from softhebb_fast.training.config import Config, RunConfig
from softhebb_fast.training.images import fingerprint, reading_options, source
from softhebb_fast.training.metrics import MetricsRow, classifier_rows
from softhebb_fast.training.provenance import provenance

CONFIG_FILE = "config.json"
CONFIGS: dict[str, type[Config]] = {kind.kind: kind for kind in (RunConfig, BackpropConfig)}


@dataclass
class Run:
    """A run as its last checkpoint left it.

    Attributes:
        config: what was trained.
        root: the data root it was begun with, None for the default or where that is not here.
        net: the network, in evaluation mode.
        rows: what was recorded.
        symmetry: the symmetry of its weights at the recorded steps.
        neurons: by Hebbian layer, counted from 1: the ``epoch`` of the last record, and lists with
            the ``wins``, ``norm`` and ``start_norm`` of its neurons.
        image_shape: channels, height and width of its images.
        like: how its images were read, as ``ImageSet.like``.
        data: the ``fingerprint`` of each part of its images, as far as it is known.
    """

    config: Config
    root: str | None
    net: nn.Module
    rows: list[MetricsRow]
    symmetry: list[dict[str, Any]]
    image_shape: tuple[int, int, int]
    neurons: dict[int, dict[str, Any]]
    like: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def evaluate(
        self, root: str | Path | None = None, *, test: ImageSet | None = None
    ) -> tuple[float, float]:
        """Mean loss and accuracy in per cent on the test set, or on ``test``; of a ridge
        classifier the mean squared error and the accuracy.

        The set is read from the data root ``root`` or its own. Raises as ``data.load`` does, also
        for a run on images that its program gave: it needs ``test``.
        """
        config = self.config
        test = self.load("test", root) if test is None else test
        test = config.prepared(test.to(config.device))
        wanted = getattr(config, "precision", "ieee")
        missing = precision.why_not(wanted, torch.device(config.device).type)
        with precision.use("ieee" if missing else wanted), config.testing(self.net):
            return evaluate(self.net, test, config.test_batch, config.error)

    def load(
        self, split: str, root: str | Path | None = None, limit: int | None = None
    ) -> ImageSet:
        """The part ``split`` of the data set, read as the run did, from ``root`` or its own place.

        At most ``limit`` images. Raises as ``data.load`` does, and ValueError for test images in
        its own place that are no longer those of the run.
        """
        config = self.config
        options = reading_options(config, self.like) | {"limit": limit or config.limit}
        place = {"root": root or self.root, "device": config.device}
        images = load(source(config.dataset, root), split, **place, **options)
        if root is None and split == "test" and options["limit"] == config.limit:
            found = {split: fingerprint(config.prepared(images))}
            _check_same(self.data, found, f"{config.dataset} must be the data that this run")
        return images


def load_run(folder: str | Path) -> Run:
    """The run in ``folder``.

    Raises FileNotFoundError if there is none or it has no checkpoint yet, ValueError if a file of
    it is damaged or its device is not here.
    """
    folder = Path(folder)
    config, root = read_config(folder)
    saved = checkpoint.load(folder, config)
    device = usable_device(config.device)
    shape = tuple(saved["image_shape"])
    net = rebuilt(config, shape, saved["num_classes"], saved["model"])
    symmetry = saved.get("symmetry", [])  # older checkpoints have none
    neurons, like = saved.get("neurons", {}), saved.get("like", {})
    net = net.to(device).eval()
    data = _read(folder).get("data", {})
    return Run(config, root, net, saved["rows"], symmetry, shape, neurons, like, data)


def rebuilt(
    config: Config, shape: tuple[int, int, int], classes: int, state: dict[str, torch.Tensor]
) -> nn.Module:
    """The network of ``config`` with that ``state``, on the CPU.

    Raises RuntimeError or ValueError if they do not fit each other.
    """
    # The backend that trained it may not be here.
    here = replace(config, backend="auto") if isinstance(config, RunConfig) else config
    net = here.build(shape, classes)
    net.load_state_dict(state)
    return net


def write_config(
    folder: str | Path, config: Config, root: str | None, data: dict[str, Any] | None = None
) -> None:
    """Write ``folder / "config.json"`` atomically, with a digest.

    It gets what makes the run (`provenance`), where its data lay, and by which `fingerprint` of
    each part in ``data`` they are known elsewhere.
    """
    folder = Path(folder)
    named = ":" in config.dataset  # it tells its place itself
    content = {
        "kind": config.kind,
        "run": config.to_dict(),
        "root": None if root is None or named else str(Path(root).expanduser().resolve()),
        "data": data or {},
        "made_by": provenance() | {"backend": config.backend_used()},
    }
    sealed.write_json(folder / CONFIG_FILE, content)


def read_config(folder: str | Path) -> tuple[Config, str | None]:
    """The configuration of the run in ``folder``, and its data root if that is still here.

    Raises FileNotFoundError if there is no run, ValueError if ``config.json`` is damaged.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    content = _read(folder)
    try:
        run, root = content["run"], content["root"]
        kind = CONFIGS[content.get("kind", RunConfig.kind)]  # older runs are of one kind
        return kind.from_dict(run), root if root is not None and Path(root).is_dir() else None
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def read_provenance(folder: str | Path) -> dict[str, Any]:
    """What made the run in ``folder``, as `provenance` gives it; empty if it was not kept."""
    return _read(Path(folder)).get("made_by", {})


def read_data(folder: str | Path) -> dict[str, Any]:
    """The ``fingerprint`` of each part of the data of the run in ``folder``; empty if not kept."""
    return _read(Path(folder)).get("data", {})


def check_data(folder: Path, found: dict[str, Any], origin: str) -> None:
    """Raise ValueError, with what differs, unless the run in ``folder`` was begun on these data.

    ``origin`` are the arguments that they came from.
    """
    kept = _read(folder).get("data", {})  # older runs have kept none
    _check_same(kept, found, f"{origin} must hold the data that the run in {str(folder)!r}")


def _check_same(kept: dict[str, Any], found: dict[str, Any], which: str) -> None:
    different = [
        f"{part}: {kept[part]['images']} images {kept[part]['digest']} there, "
        f"{print_['images']} images {print_['digest']} here"
        for part, print_ in found.items()
        if part in kept and kept[part] != print_
    ]
    if different:
        raise ValueError(f"{which} was begun on ({'; '.join(different)})")


def is_finished(folder: Path) -> bool:
    """Whether the run in ``folder`` has come to its end. Raises as ``checkpoint.load`` does."""
    if not (folder / checkpoint.FILE).is_file():
        return False
    saved, (config, _) = checkpoint.load(folder), read_config(folder)
    last = classifier_rows(saved["rows"][-1:])
    epochs = config.epochs if isinstance(config, BackpropConfig) else config.resolved().probe_epochs
    return bool(last) and last[0]["epoch"] == epochs


def _read(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"there is no run in {str(folder)!r}: {path} does not exist")
    try:
        return sealed.read_json(path)
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, how: Exception) -> ValueError:
    return ValueError(
        f"the configuration {path} is damaged: {how}. Put a copy of it there, or begin the run "
        "again in another folder"
    )


def usable_device(name: str) -> torch.device:
    """The device of that name. Raises ValueError if it cannot be used here."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device must be usable here; got {name!r} ({error})") from error
    return device
