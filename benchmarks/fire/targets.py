"""The files that the product reads, and what it makes of each."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from softhebb_fast.experiments import results
from softhebb_fast.kernels.configs import Config
from softhebb_fast.kernels.measurements import Measurements
from softhebb_fast.models import build, load_published
from softhebb_fast.presets import parse_network
from softhebb_fast.search.journal import Journal
from softhebb_fast.search.space import get_space
from softhebb_fast.search.study import JOURNAL, Search, open_study
from softhebb_fast.training import checkpoint, metrics, runs
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.loop import Interrupted
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.run_folder import CONFIG_FILE, load_run
from softhebb_fast.training.trainer import Trainer

NETWORK = "softkrotov-c4-k3-p1-t1-lr0.05:triangle_1:max_2_2_0 BP:dropout_0.5"
RUN = {"unsup_batch": 4, "probe_batch": 4, "probe_epochs": 2, "unsup_epochs": 1, "augment": False}
CLASSES = ("cat", "dog", "frog")


@dataclass(frozen=True)
class Target:
    """A file that the product reads.

    Attributes:
        kind: its row in the table.
        path: where it lies.
        read: what the product makes of it.
        part: whether a result may stand for a part of the whole one, as of a file that was read
            before its last lines were written; None where it may not.
        named: what a refusal must name, one of them.
        open: whether other bytes may mean something else: what a user types.
    """

    kind: str
    path: Path
    read: Callable[[], Any]
    part: Callable[[Any, Any], bool] | None = None
    named: tuple[str, ...] = ()
    open: bool = False


def targets(folder: Path) -> list[Target]:
    """Small files of every kind, made in ``folder``."""
    torch.manual_seed(0)
    return [
        *_run_folder(folder / "run"),
        *_caches(folder / "caches"),
        *_tables(folder / "tables"),
        *_data(folder / "data"),
        *_texts(folder / "texts"),
    ]


class _StopAt(Reporter):
    """Asks its run to stop after so many stretches."""

    def __init__(self, count: int) -> None:
        self.count = count

    def advance(self, count: int) -> None:
        self.count -= 1
        if self.count == 0:
            self.run.stop_requested = True


def stopped(dataset: str, out: Path, root: Path | None = None, after: int = 9) -> Path:
    """The folder of a run that was stopped in the middle."""
    reporter = _StopAt(after)
    reporter.run = Trainer(RunConfig(NETWORK, dataset, **RUN), out, root=root, reporter=reporter)
    try:
        reporter.run.run()
    except Interrupted:
        return out
    raise RuntimeError(f"the run in {out} came to its end")


def resumed(folder: Path) -> dict[str, Any]:
    """What the run in ``folder`` goes on from."""
    run = runs.resume(folder)
    return {
        "config": run.config.to_dict(),
        "net": run.net.state_dict(),
        "place": (run.stage_number, run.epoch, run.batch, run.step),
        "stage": run._stage_state,
        "rng": getattr(run, "_rng", None),
        "rows": run.rows,
        "neurons": run.neurons,
        "data": run.data,
    }


def _run_folder(folder: Path) -> Iterator[Target]:
    root = folder / "root"
    write_idx(root / "MNIST" / "raw", "")
    out = stopped("mnist", folder / "stopped", root)
    for file in (checkpoint.FILE, CONFIG_FILE, metrics.FILE):
        yield Target(f"{file}, resumed", out / file, partial(resumed, out))
    begun = folder / "begun"
    begun.mkdir()
    shutil.copy(out / CONFIG_FILE, begun / CONFIG_FILE)
    kind = "config.json before the first checkpoint, resumed"
    yield Target(kind, begun / CONFIG_FILE, partial(resumed, begun))
    old = shutil.copytree(out, folder / "older")
    content = checkpoint.load(old) | {"format": checkpoint.UNSEALED}
    torch.save(content, old / checkpoint.FILE)
    kind = "checkpoint.pt from before digests, resumed"
    yield Target(kind, old / checkpoint.FILE, partial(resumed, old))


def _caches(folder: Path) -> Iterator[Target]:
    cache = Measurements(folder, "A100", "3.8.0")
    for i in range(4):
        cache.put(f"layer {i}", {"one_pass": None, "forward": Config(64, 128, 32, 4, 3 + i % 2)})

    def read() -> dict:
        return Measurements(folder, "A100", "3.8.0").choices

    yield Target("measured kernel configurations", cache.path, read)
    net = build(parse_network("softkrotov-c8-k3-p1-t1-lr0.05:none BP"), (1, 6, 6), 3)
    last = net.head[-1]
    state = {"blocks.0.layer.weight": net.blocks[0].layer.weight}
    state |= {"blocks.1.layer.weight": last.weight, "blocks.1.layer.bias": last.bias}
    path = folder / "published.pt"
    torch.save({"state_dict": {key: value.detach() for key, value in state.items()}}, path)
    kind = "weights of the published code, load_published"
    yield Target(kind, path, lambda: load_published(net, path).state_dict())


def _tables(folder: Path) -> Iterator[Target]:
    rows = [
        {"cell": f"cell {i}", "seed": seed, "test_accuracy": 90 + i + seed / 10, "note": "a, b"}
        for i in range(4)
        for seed in range(3)
    ]
    path = results.path("table", folder)
    results.put(path, rows, [])

    def some(whole: list, found: list) -> bool:
        return all(row in whole for row in found)

    yield Target("results of experiments (CSV)", path, partial(results.read, path), some)
    study_folder = folder / "study"
    what = Search(get_space("table3"), "mnist")
    study = open_study(what, study_folder, sampler_seed=0)
    for accuracy in (80.5, 81.25, 79.0):
        trial = study.ask()
        trial.set_user_attr("network", what.space.suggest(trial)[0])
        study.tell(trial, accuracy)

    def read() -> list:
        logs = list(Journal(study_folder / JOURNAL).read_logs(0))
        open_study(what, study_folder)
        return logs

    def begun(whole: list, found: list) -> bool:
        return found == whole[: len(found)]

    yield Target("journal of a search", study_folder / JOURNAL, read, begun)


def _data(folder: Path) -> Iterator[Target]:
    """Data sets, each with a run that was begun on it and goes on."""
    sets: dict[str, tuple[str, list[Path]]] = {
        "IDX": ("mnist", write_idx(folder / "idx" / "MNIST" / "raw", "")),
        "IDX in gzip": ("mnist", write_idx(folder / "gz" / "MNIST" / "raw", ".gz")),
        "CIFAR-10 pickles": ("cifar10", _write_cifar(folder / "cifar" / "cifar-10-batches-py")),
        "STL-10 binaries": ("stl10", _write_stl(folder / "stl" / "stl10_binary")),
        "npz": (f"arrays:{folder / 'own.npz'}", _write_npz(folder / "own.npz")),
        "npy": (f"arrays:{folder / 'npy'}", _write_npy(folder / "npy")),
        "PNG": (f"imagefolder:{folder / 'png'}", _write_images(folder / "png", "png")),
        "JPEG": (f"imagefolder:{folder / 'jpg'}", _write_images(folder / "jpg", "jpg")),
    }
    for kind, (dataset, files) in sets.items():
        root = None if ":" in dataset else files[0].parents[dataset == "mnist"].parent
        out = stopped(dataset, folder / "runs" / kind, root)
        for path in files:
            yield Target(f"{kind}, resumed", path, partial(resumed, out), named=("was begun on",))
        test = [
            path for path in files if "test" in str(path.relative_to(folder)) or "t10k" in path.name
        ]
        for path in test:
            read = partial(_evaluated, out)
            yield Target(f"{kind}, evaluated", path, read, named=("was begun on",))


def _evaluated(folder: Path) -> tuple[float, float]:
    return load_run(folder).evaluate()


def _texts(folder: Path) -> Iterator[Target]:
    folder.mkdir()
    path = folder / "network"
    path.write_text("softkrotov-c96-k5-p2-t1-lr0.08-lp0.5:triangle_0.7:max_4_2_1 BP:dropout_0.5")
    read = lambda: parse_network(path.read_text(encoding="utf-8"))  # noqa: E731
    yield Target("layer strings", path, read, named=("",), open=True)
    config = folder / "config"
    config.write_text(json.dumps(RunConfig(NETWORK, "mnist", **RUN).to_dict()))

    def made() -> RunConfig:
        try:
            return RunConfig.from_dict(json.loads(config.read_text(encoding="utf-8")))
        except TypeError as error:  # promised, too
            raise ValueError(str(error)) from error

    yield Target("fields of a configuration", config, made, named=("",), open=True)


def _images(count: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8)


def _labels(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8) % len(CLASSES)


def write_idx(folder: Path, suffix: str) -> list[Path]:
    """A small MNIST in the files of its folder `raw`, gzipped for the suffix ".gz"."""
    folder.mkdir(parents=True)
    written = []
    for name, count in (("train", 24), ("t10k", 8)):
        parts = (("images-idx3", _images(count, 8, 8)), ("labels-idx1", _labels(count)))
        for part, array in parts:
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            path = folder / f"{name}-{part}-ubyte{suffix}"
            content = head + array.tobytes()
            path.write_bytes(gzip.compress(content, mtime=0) if suffix else content)
            written.append(path)
    return written


def _write_cifar(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {"data": _images(4, 3072), "labels": _labels(4).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CLASSES)}))
    return [folder / name for name in ("data_batch_1", "test_batch", "batches.meta")]


def _write_stl(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    for name, count in (("train", 12), ("test", 4), ("unlabeled", 12)):
        (folder / f"{name}_X.bin").write_bytes(_images(count, 3, 96, 96).tobytes())
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes((_labels(count) + 1).tobytes())
    return sorted(folder.iterdir())


def _arrays() -> dict[str, np.ndarray]:
    return {
        f"{what}_{part}": made
        for part, count in (("train", 24), ("test", 8))
        for what, made in (("x", _images(count, 8, 8)), ("y", _labels(count)))
    }


def _write_npz(path: Path) -> list[Path]:
    np.savez_compressed(path, **_arrays())
    return [path]


def _write_npy(folder: Path) -> list[Path]:
    folder.mkdir()
    for name, array in _arrays().items():
        np.save(folder / f"{name}.npy", array)
    return sorted(folder.iterdir())


def _write_images(folder: Path, suffix: str) -> list[Path]:
    for part, count in (("train", 8), ("test", 2)):
        for label, name in enumerate(CLASSES):
            (folder / part / name).mkdir(parents=True)
            for i, image in enumerate(_images(count + label, 8, 8)[:count]):
                Image.fromarray(image).save(folder / part / name / f"{i}.{suffix}")
    return [folder / "train" / "cat" / f"0.{suffix}", folder / "test" / "dog" / f"1.{suffix}"]
