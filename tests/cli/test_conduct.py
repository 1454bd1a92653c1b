"""What the command says of itself, and leaves behind, when things go otherwise than planned."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from softhebb_fast import cli, environment, plots
from softhebb_fast.cli import names
from softhebb_fast.cli import train as train_command
from softhebb_fast.cli.options.backprop import CHOICES, FLAGS, REAL, WHOLE
from softhebb_fast.cli.parser import make_parser
from softhebb_fast.cli.progress import Bars
from softhebb_fast.data import load, sources
from softhebb_fast.presets import PRESETS, PROTOCOLS, published_dataset
from softhebb_fast.training.backprop_config import BackpropConfig
from softhebb_fast.training.run_folder import is_finished, read_config
from tests.cli.calls import call
from tests.data.writers import write_tree
from tests.test_files import hold
from tests.tiny import write_mnist_subset

TINY = ["--limit", "64", "--probe-epochs", "1", "--device", "cpu", "--neuron-factor", "0.05"]
QUICK = ["--quiet", "--no-plots"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """In a folder of its own, without data sets but the project's."""
    monkeypatch.delenv(sources.ROOT_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"), 64)


def demo(capsys, *arguments: object) -> tuple[int, str, str]:
    return call(capsys, "train", "DemoMNIST", *TINY, *arguments)


HELP = """
import contextlib, io, sys
from softhebb_fast.cli import main
commands = "train resume backprop evaluate plot reproduce bench search presets info".split()
asked = [[], ["--help"], ["--version"], ["trian"], ["train"], ["train", "a", "--backend", "c"]]
asked += [["train", "a", "--init", "1=zerO;2"], ["search", "open", "--set", "3"]]
for arguments in asked + [[name, "--help"] for name in commands]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(arguments)
    assert "torch" not in sys.modules, arguments
    assert "matplotlib" not in sys.modules, arguments
"""


def test_help_and_usage_errors_do_not_wait_for_torch():
    subprocess.run([sys.executable, "-c", HELP], check=True, env=os.environ | _here())


def _here() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(cli.__file__).parents[2])}


def test_the_names_of_the_help_are_those_of_the_library():
    from softhebb_fast.backends import BACKENDS
    from softhebb_fast.data import NAMES
    from softhebb_fast.data.arrays import LAYOUTS
    from softhebb_fast.data.reading import NORMALISATIONS
    from softhebb_fast.experiments import EXPERIMENTS
    from softhebb_fast.init import FROM_DATA, INITS
    from softhebb_fast.models import NETWORKS
    from softhebb_fast.precision import PRECISIONS
    from softhebb_fast.search.space import SPACES
    from softhebb_fast.training.config import CACHE_DTYPES, CLASSIFIERS, MODES

    assert names.BACKENDS == BACKENDS
    assert names.PRECISIONS == PRECISIONS
    assert (names.MODES, names.CACHE_DTYPES) == (MODES, CACHE_DTYPES)
    assert names.CLASSIFIERS == CLASSIFIERS
    assert tuple(FROM_DATA) == names.FROM_DATA
    assert (names.LAYOUTS, names.NORMALISATIONS) == (LAYOUTS, NORMALISATIONS)
    known = (names.DATA_SETS, names.INITS, names.NETWORKS, names.EXPERIMENTS, names.SPACES)
    assert known == tuple(map(tuple, (NAMES, INITS, NETWORKS, EXPERIMENTS, SPACES)))


def test_backprop_has_an_option_for_every_field():
    options = vars(make_parser().parse_args(["backprop", "perceptron"]))
    own = {name.replace("-", "_") for name in (*CHOICES, *WHOLE, *REAL, *FLAGS)}
    known = {f.name for f in fields(BackpropConfig)}
    assert own <= known
    assert known - own <= options.keys() | {"options", "reading"}
    defaults = {f.name: f.default for f in fields(BackpropConfig) if f.default is not MISSING}
    for name, text in (WHOLE | REAL).items():
        if "default" in text:
            assert float(text.split("default ")[1]) == defaults[name.replace("-", "_")]


def test_a_search_has_the_defaults_that_its_help_tells():
    from softhebb_fast.cli.options.search import BUDGET, DISTINCT, PROXIES
    from softhebb_fast.search.trial import Budget, Proxies

    for kind, texts in ((Budget, BUDGET), (Proxies, PROXIES | {"distinct": DISTINCT})):
        assert {n.replace("-", "_") for n in texts} == {f.name for f in fields(kind)}
        for name, text in texts.items():
            value = getattr(kind(), name.replace("-", "_"))
            assert float(text.split("default ")[1]) == value


@pytest.mark.parametrize("name", [n for n, row in environment.VARIABLES.items() if row.values])
def test_a_bad_environment_variable_is_one_line(capsys, monkeypatch, name):
    monkeypatch.setenv(name, "foo")
    code, out, err = demo(capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"softhebb-fast: error: the environment variable {name} must be ")
    assert err.endswith("; got 'foo'\n")
    assert err.count("\n") == 1
    code, out, _ = call(capsys, "info")
    assert code == 0
    assert f"{name} must be" in out


@pytest.mark.parametrize("preset", sorted(PRESETS.keys() - {"Linear"}))
def test_every_published_preset_has_a_data_set(preset):
    assert published_dataset(preset) in PROTOCOLS


def test_the_data_set_follows_the_preset(capsys, tmp_path, root, monkeypatch):
    def refuse(address, *_):
        raise ConnectionError(f"no way to {address}")

    monkeypatch.setattr(sources, "_retrieve", refuse)
    code, out, err = call(capsys, "train", "3SoftHebbCnnCIFAR", *TINY, "--data", root)
    assert (code, out) == (2, "")
    assert "cifar10 (train) is incomplete" in err
    assert "or name another data folder with --data or the environment variable" in err
    assert "is trained on cifar10 unless --dataset names another data set" in err
    assert not Path("runs").exists()
    code, _, err = call(capsys, "backprop", "constnet", "--data", root)
    assert code == 2
    assert "cifar10 (train) is incomplete" in err


def test_the_header_says_what_is_run(capsys, root):
    code, out, _ = demo(capsys, "--data", root, "--seed", 5, *QUICK, "--backend", "reference")
    assert code == 0
    assert f"data set: mnist in {root}, 64 training and 64 test images of 1x28x28\n" in out
    assert "protocol: Hebbian layers 1 x 32 (epochs x batch), classifier 1 x 32, succ" in out
    assert "; a trial on 64 images at most\n" in out
    assert "computed: backend reference, precision ieee, device cpu, threads " in out
    assert ", seed 5\nversions: softhebb_fast " in out
    assert "% of 64 images, mean loss" in out
    content = json.loads(Path("runs/DemoMNIST-mnist-5/config.json").read_text())
    assert content["made_by"]["backend"] == "reference"
    assert "% of 64 images" in call(capsys, "evaluate", "runs/DemoMNIST-mnist-5")[1]


def test_auto_is_kept_as_the_backend_that_was_used(capsys, root):
    assert demo(capsys, "--data", root, *QUICK)[0] == 0
    content = json.loads(Path("runs/DemoMNIST-mnist-0/config.json").read_text())
    assert content["run"]["backend"] == "auto"
    assert content["made_by"]["backend"] in ("cpp", "reference")


def test_the_variable_comes_first_then_the_bundled_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(sources.ROOT_VARIABLE, str(tmp_path))
    assert len(load("mnist", "test")) == 10_000
    assert f"\n  mnist: {sources.EMBEDDED}\n" in call(capsys, "info")[1]
    write_mnist_subset(tmp_path, 7)
    assert len(load("mnist", "test")) == 7
    assert f"\n  mnist: {tmp_path}\n" in call(capsys, "info")[1]


def test_a_run_goes_on_in_another_place(capsys, tmp_path, monkeypatch):
    """Begun with a path from where the command was called, interrupted, moved, data and all."""
    write_mnist_subset(tmp_path / "here" / "data", 64)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 3)
        assert demo(capsys, "--data", "data", "--out", "run", *QUICK)[0] == 130
    monkeypatch.chdir(tmp_path)
    shutil.move(tmp_path / "here", tmp_path / "there")
    # The bundled set has the same first images, and is known to be the same by their digest.
    code, out, err = call(capsys, "resume", "there/run", *QUICK)
    assert code == 0, err
    assert "test accuracy" in out
    write_mnist_subset(tmp_path / "other", 30)
    code, _, err = call(capsys, "resume", "there/run", "--data", "other", *QUICK)
    assert code == 2
    assert "--data must hold the data that the run in 'there/run' was begun on" in err
    assert "train: 64 images" in err


def test_a_run_on_a_folder_of_images_goes_on_in_another_place(capsys, tmp_path, monkeypatch):
    for split in ("train", "test"):
        write_tree(tmp_path / "a" / "tree", split, {"left": 2, "right": 2})
    options = ["--dataset", "imagefolder:a/tree", "--out", "run", *QUICK]
    assert demo(capsys, *options)[0] == 0
    assert Path(read_config(Path("run"))[0].dataset.partition(":")[2]).is_absolute()
    shutil.move("a", "b")
    assert call(capsys, "evaluate", "run")[0] == 2
    assert call(capsys, "evaluate", "run", "--data", "b/tree")[0] == 0
    assert call(capsys, "resume", "run", "--data", "b/tree", *QUICK)[0] == 0


def interrupt_after(monkeypatch, batches: int) -> None:
    """Ctrl-C once, after so many batches."""
    left = [batches]

    def advance(self, count):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Bars, "advance", advance)


def test_the_same_command_goes_on_and_then_counts(capsys, monkeypatch, root):
    options = ["--data", root, *QUICK]
    interrupt_after(monkeypatch, 3)
    code, _, err = demo(capsys, *options)
    assert code == 130
    assert "Traceback" not in err
    assert "softhebb-fast resume runs/DemoMNIST-mnist-0" in err
    assert not is_finished(Path("runs/DemoMNIST-mnist-0"))
    code, out, _ = demo(capsys, *options)
    assert code == 0
    assert "runs/DemoMNIST-mnist-0 was stopped before its end, and goes on\n" in out
    assert is_finished(Path("runs/DemoMNIST-mnist-0"))
    assert "writing to runs/DemoMNIST-mnist-0-2\n" in demo(capsys, *options)[1]
    out = demo(capsys, *options, "--tie-rule", "spread")[1]
    assert "writing to runs/DemoMNIST-mnist-0-3\n" in out
    assert sorted(os.listdir("runs")) == [f"DemoMNIST-mnist-0{n}" for n in ("", "-2", "-3")]


def test_a_folder_of_another_process(capsys, tmp_path, root):
    folder = Path("runs/DemoMNIST-mnist-0")
    folder.mkdir(parents=True)
    holder = hold(folder.absolute())
    try:
        code, _, err = demo(capsys, "--data", root, "--out", folder, *QUICK)
        assert code == 2
        assert "--out must be a folder in which no other process writes" in err
        assert f"where process {holder.pid} on " in err
        out = demo(capsys, "--data", root, *QUICK)[1]
        assert "writing to runs/DemoMNIST-mnist-0-2\n" in out
    finally:
        holder.kill()
        holder.wait()
    assert demo(capsys, "--data", root, "--out", folder, *QUICK)[0] == 0
    assert not list(folder.glob(".lock*"))


def test_receptive_fields_have_a_bar_and_are_drawn_once(capsys, root, monkeypatch):
    options = ["--data", root, "--out", "run", "--dataset", "mnist", "--seed", 1]
    code, out, err = call(capsys, "train", "3SoftHebbCnnCIFAR", *TINY, *options)
    assert code == 0
    assert "receptive fields of layer 2: 100%" in err
    written = out.splitlines()[-1]
    before = {path: path.read_bytes() for path in Path("run").iterdir()}

    def never(*_, **__):
        raise AssertionError("drawn again")

    monkeypatch.setattr(train_command, "plot_run", never)
    code, out, _ = call(capsys, "resume", "run")
    assert code == 0
    assert set(out.splitlines()[-1].split(", ")[1:]) == set(written.split(", ")[1:])
    assert {path: path.read_bytes() for path in Path("run").iterdir()} == before


def test_a_run_that_was_killed_at_its_end_writes_its_figures_and_pictures(capsys, root):
    """Whatever the clock says of the pictures that lie there."""
    assert demo(capsys, "--data", root, "--out", "run", "--quiet")[0] == 0
    folder = Path("run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "metrics.csv").write_text("phase\n")
    plots.save(Figure(), folder / "curves.png", "another state")
    ahead = time.time() + 86400
    os.utime(folder / "curves.png", (ahead, ahead))
    assert call(capsys, "resume", "run", "--quiet")[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_memory_that_runs_out_is_one_line(capsys, monkeypatch, error):
    def run(options):
        raise error

    monkeypatch.setattr(cli, "_run", run)
    code, _, err = call(capsys, "train", "DemoMNIST")
    assert code == 2
    assert err.startswith("softhebb-fast: error: there is not enough memory")
    assert err.count("\n") == 1


def test_a_full_disk_names_the_file_and_leaves_the_last_state(capsys, root, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = demo(capsys, "--data", root, "--out", "run", *QUICK)
    assert code == 2
    assert err == "softhebb-fast: error: [Errno 28] No space left on device: 'run/config.json'\n"
    assert os.listdir("run") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "DemoMNIST", "--data", "nowhere"], "--data must be an existing folder"),
        (["train", "DemoMNIST", "--dataset", "cifar11"], "did you mean cifar10"),
        (["train", "DemoMNSIT"], "PRESET must be a preset, got 'DemoMNSIT'; did you mean Demo"),
        (["train", "DemoMNIST", "--unsup-batch", "0"], "--unsup-batch must be at least 1"),
        (["train", "DemoMNIST", "--out", "file"], "--out must be a folder that can be written"),
        (["train", "DemoMNIST", "--out", "file/run"], "--out must be a folder that can be"),
        (["train", "DemoMNIST", "--init", "zer0"], "did you mean zerO"),
        (["backprop", "perceptrom"], "NETWORK must be one of perceptron"),
        (["backprop", "perceptron", "--test-every", "0"], "--test-every must be at least 1"),
        (["resume", "nowhere"], "there is no run in 'nowhere'"),
        (["presets", "DemoMINST"], "NAME must be a preset"),
        (["reproduce", "tabel1"], "NAME must be one of table1"),
        (["reproduce", "table1", "--seeds", "-1"], "--seeds must be at least 0; got -1"),
        (["reproduce", "table1", "--limit", "0"], "--limit must be at least 1; got 0"),
        (["reproduce", "table1", "--cells", "mnist-3-*", "x"], "--cells must match some of"),
        (["reproduce", "table1", "--table"], "there are no results of table1 to compare"),
        (
            ["search", "tabel3"],
            "SPACE must be one of table3, table4, open, starts, whitened, whitened_layer; got "
            "'tabel3'",
        ),
        (["search", "open", "--trials", "0"], "--trials must be at least 1; got 0"),
        (["bench", "--quick", "--csv", "file/a.csv"], "--csv must be a folder that can be"),
        (["bench", "--rounds", "0"], "--rounds must be positive; got 0"),
        (["bench", "--providers", "cp"], "--providers must be among"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_told_in_the_words_of_the_command(capsys, arguments, message):
    Path("file").write_text("")
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert os.listdir() == ["file"]
