"""A run that was stopped anywhere and resumed gives the bits of one that never stopped."""

from __future__ import annotations

import copy
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from softhebb_fast.training import checkpoint, metrics
from softhebb_fast.training.loop import Interrupted
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.trainer import Trainer
from tests.data.writers import python2_batch, write_cifar10
from tests.tiny import CONFIG, trainer, write_mnist_subset

pytestmark = pytest.mark.filterwarnings("error")

CHILD_CONFIG = CONFIG | {"limit": 300, "probe_epochs": 60}
PATIENCE = 120.0


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"))


class StopAt(Reporter):
    """Asks its trainer to stop at one of the batches (of any stretch), counted from 1."""

    def __init__(self, batch: int) -> None:
        self.batch, self.trainer = batch, None

    def advance(self, count: int) -> None:
        self.batch -= 1
        if self.batch == 0:
            self.trainer.stop_requested = True


def is_same(a: object, b: object) -> bool:
    """Equality to the last bit, tensors and all."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(is_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def timeless(state: dict) -> dict:
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in state["rows"]]
    return {k: v for k, v in state.items() if k not in ("elapsed", "config")} | {"rows": rows}


def ending(folder: Path) -> dict:
    """What a run ended as: network, random state, all recorded figures."""
    state = timeless(checkpoint.load(folder))
    written = [{k: v for k, v in r.items() if k != "seconds"} for r in metrics.read_csv(folder)]
    return state | {"written": written}


@contextmanager
def saved_states() -> Iterator[dict[tuple, dict]]:
    """Every state that is saved meanwhile, by (stage, epoch, batch)."""
    states: dict[tuple, dict] = {}
    save = checkpoint.save

    def keep(folder, config, state):
        key = state["stage"], state["epoch"], state["batch"]
        states[key] = copy.deepcopy(timeless(state))
        save(folder, config, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", keep)
        yield states


def run_with_stops(out: Path, root: Path, stops: list[int], **changes) -> int:
    """Run to the end, stopping so many batches after each start; returns how often it stopped."""
    said, run = [], None
    for batch in [*stops, 0]:
        reporter = StopAt(batch)
        if run is None:
            run = trainer(out, root, reporter, **changes)
        else:
            run = Trainer.resume(out, reporter=reporter)
        reporter.trainer = run
        try:
            run.run()
        except Interrupted as stop:
            said.append(str(stop))
    assert all(f"resume {out}" in text for text in said)
    return len(said)


SUCCESSIVE = {
    "in the first layer": [4],
    "at the end of the first layer": [10],
    "while the features are computed": [11],
    "in the second layer": [12],
    "at the end of the second layer": [21],
    "while the training features are computed again": [22],
    "while the test features are computed": [23],
    "in the first epoch of the classifier": [25],
    "between two epochs": [28],
    "in the last step": [33],
    "in every stage": [3, 1, 5, 4, 8, 1, 4, 3],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, root):
    """The run that is never stopped, and its last state with that of the optimizer."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with saved_states() as states:
        trainer(folder, root).run()
    return ending(folder), states


@pytest.mark.parametrize("stops", SUCCESSIVE.values(), ids=SUCCESSIVE)
def test_successive_training(tmp_path, root, whole, stops):
    with saved_states() as saved:
        assert run_with_stops(tmp_path, root, stops) == len(stops)
    end, states = whole
    assert is_same(ending(tmp_path), end)
    last = states[2, 2, 0]
    assert last["stage_state"]["optimizer"]["state"][0]["step"] == 10
    assert last["stage_state"]["optimizer"]["state"][0]["exp_avg_sq"].any()
    assert is_same(saved[2, 2, 0], last)


def test_a_saved_state_is_sensitive_to_a_stop(whole):
    end, _ = whole
    name = "blocks.0.layer.weight"
    other = end["model"] | {name: end["model"][name].nextafter(torch.tensor(9.0))}
    assert not is_same(end | {"model": other}, end)


@pytest.mark.parametrize(
    ("changes", "stops"),
    [
        ({"mode": "consecutive"}, [4, 3, 2, 3, 4]),
        ({"mode": "simultaneous"}, [3, 2, 3]),
        ({"cache_gib": 0.0}, [7, 8, 7]),
        ({"preset": "3CnnCIFAR"}, [2, 9, 4]),
        ({"preset": "3CnnCIFAR", "mode": "consecutive"}, [2, 3, 4]),
        ({"preset": "3CnnCIFAR", "autocast": True}, [2, 9, 4]),
        ({"preset": "4SoftHebbCnnCIFAR_HebbClassifier"}, [25, 14]),
        ({"unsup_epochs": 2, "preset": "2HardCnnCIFA_speed_linearDecay"}, [9, 5]),
        ({"unsup_epochs": 0}, [1, 2, 6]),
        ({"probe_epochs": 20, "limit": 32}, [14, 8]),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_other_runs(tmp_path, root, changes, stops):
    with saved_states() as states:
        trainer(tmp_path / "whole", root, **changes).run()
    with saved_states() as saved:
        assert run_with_stops(tmp_path / "run", root, stops, **changes) == len(stops)
    assert is_same(ending(tmp_path / "run"), ending(tmp_path / "whole"))
    common = saved.keys() & states.keys()
    assert len(common) >= 2
    assert all(is_same(saved[key], states[key]) for key in common)


def test_augmented_images(tmp_path):
    folder = write_cifar10(tmp_path)
    for i in range(1, 6):
        images = torch.randint(256, (2, 3072)).numpy()
        (folder / f"data_batch_{i}").write_bytes(python2_batch(images, [0, 2], b"labels"))
    options = {"preset": "DemoMNIST", "dataset": "cifar10", "limit": None, "augment": True}
    options |= {"unsup_batch": 2, "probe_batch": 2}
    trainer(tmp_path / "whole", tmp_path, **options).run()
    assert run_with_stops(tmp_path / "run", tmp_path, [3, 5, 4], **options) == 3
    assert is_same(ending(tmp_path / "run"), ending(tmp_path / "whole"))


def test_a_run_stopped_before_its_first_checkpoint_starts_over(tmp_path, root):
    trainer(tmp_path / "whole", root, unsup_epochs=0).run()
    assert run_with_stops(tmp_path / "run", root, [1], unsup_epochs=0) == 1
    assert is_same(ending(tmp_path / "run"), ending(tmp_path / "whole"))
    run = trainer(tmp_path / "none", root, unsup_epochs=0, reporter=(stop := StopAt(1)))
    stop.trainer = run
    with pytest.raises(Interrupted):
        run.run()
    assert os.listdir(tmp_path / "none") == ["config.json"]


def test_the_clock_goes_on_where_it_stopped(tmp_path, root):
    assert run_with_stops(tmp_path, root, [4, 20]) == 2
    seconds = [row["seconds"] for row in metrics.read_csv(tmp_path)]
    assert seconds == sorted(seconds)


def test_what_cannot_be_resumed_gives_its_folder_back(tmp_path, root):
    """Although the error's traceback, kept, keeps the run."""
    trainer(tmp_path, root).run()
    path = tmp_path / checkpoint.FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="damaged") as kept:
        Trainer.resume(tmp_path)
    assert not list(tmp_path.glob(".lock*"))
    path.write_bytes(whole)
    assert Trainer.resume(tmp_path).finished
    assert kept.value.__traceback__ is not None


# From here on in processes of their own, each a second or two in starting.

DRIVER = """
import sys
import time
from pathlib import Path
import torch
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.trainer import Trainer

class Slow(Reporter):  # so that a fast machine does not end the run before it is killed
    def advance(self, count):
        time.sleep(0.005)

torch.set_flush_denormal(True)
out, root, config = Path(sys.argv[1]), sys.argv[2], eval(sys.argv[3])
often = {"checkpoint_seconds": 0.05, "reporter": Slow()}
if (out / "config.json").exists():
    run = Trainer.resume(out, **often)
else:
    run = Trainer(RunConfig(**config), out, root=root, **often)
run.run()
"""


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, out, err


def train_command(out: Path, root: Path) -> list[object]:
    options = {k: v for k, v in CHILD_CONFIG.items() if k != "preset"} | {"out": out, "data": root}
    flags = [x for name, value in options.items() for x in (f"--{name.replace('_', '-')}", value)]
    where = ["--device", "cpu", "--no-plots"]
    return ["-m", "softhebb_fast", "train", CHILD_CONFIG["preset"], *flags, *where]


def wait_for_checkpoints(process: subprocess.Popen, folder: Path, count: int) -> None:
    """Until the process has replaced the checkpoint so many times, or has ended."""
    path, seen, last = folder / checkpoint.FILE, 0, None
    if path.exists():
        last = path.stat().st_mtime_ns
    deadline = time.monotonic() + PATIENCE
    while seen < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
        if path.exists() and path.stat().st_mtime_ns != last:
            last, seen = path.stat().st_mtime_ns, seen + 1


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, root) -> dict:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    code, out, err = finish(start(*train_command(folder, root)))
    assert code == 0, err
    assert "test accuracy" in out
    return ending(folder)


def test_kill(tmp_path, root, uninterrupted):
    command = ["-c", DRIVER, tmp_path / "run", root, repr(CHILD_CONFIG | {"device": "cpu"})]
    moments, stages = random.Random(0), []
    for checkpoints in (1, 6, 12):
        process = start(*command)
        wait_for_checkpoints(process, tmp_path / "run", checkpoints)
        time.sleep(moments.uniform(0, 0.04))
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL, "the run ended before it was killed"
        state = checkpoint.load(tmp_path / "run")
        stages.append((state["stage"], state["epoch"], state["batch"]))
    assert stages == sorted(stages)
    code, _, err = finish(start(*command))
    assert code == 0, err
    assert is_same(ending(tmp_path / "run"), uninterrupted)


def test_interrupt_key(tmp_path, root, uninterrupted):
    process = start(*train_command(tmp_path / "run", root))
    wait_for_checkpoints(process, tmp_path / "run", 3)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert f"resume {tmp_path / 'run'}" in err
    assert "Traceback" not in err
    resume = ["-m", "softhebb_fast", "resume", tmp_path / "run", "--no-plots", "--quiet"]
    code, out, err = finish(start(*resume))
    assert code == 0, err
    assert "test accuracy" in out
    assert is_same(ending(tmp_path / "run"), uninterrupted)


@pytest.mark.parametrize("stops", [[4], [11], [12, 3], [22], [25], [30, 1]], ids=str)
def test_a_run_that_was_stopped_goes_on_in_memory_bit_by_bit(tmp_path, root, stops):
    whole = trainer(tmp_path / "whole", root)
    whole.run()
    reporter = StopAt(0)
    run = reporter.trainer = trainer(tmp_path / "stopped", root, reporter)
    for batch in stops:
        reporter.batch = batch
        with pytest.raises(Interrupted):
            run.run()
        run.stop_requested = False
        torch.manual_seed(7)  # what others draw meanwhile
    run.run()
    assert is_same(ending(run.out), ending(whole.out))
