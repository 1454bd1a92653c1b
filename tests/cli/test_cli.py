from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import softhebb_fast
from softhebb_fast import backends, cli
from softhebb_fast.cli import baselines
from softhebb_fast.cli import train as train_command
from softhebb_fast.cli.parser import make_parser
from softhebb_fast.data import sources
from softhebb_fast.naming import parse_init
from softhebb_fast.presets import PRESETS
from softhebb_fast.training import checkpoint
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.run_folder import read_config
from tests.cli.calls import call
from tests.data.writers import write_tree
from tests.tiny import CONFIG, edit_config, write_mnist_subset

NET = "softkrotov-c4-k5-p2-t1:triangle_0.7:max_4_2_1 BP:dropout_0.5"
SOLVED = ["DemoMNIST", "--classifier", "ridge"]
TINY = ["--limit", "64", "--probe-epochs", "2", "--device", "cpu", "--dataset", "mnist"]
TINY += ["--neuron-factor", "0.05"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Downloads fail at once."""

    def refuse(address: str, *_: object) -> str:
        raise ConnectionError(f"no way to {address}")

    monkeypatch.setattr(sources, "_retrieve", refuse)
    monkeypatch.delenv(sources.ROOT_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"), 64)


@pytest.fixture(scope="module")
def done(tmp_path_factory, root) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    arguments = [*TINY, "--data", str(root), "--out", str(folder), "--quiet", "--no-plots"]
    assert cli.main(["train", "3SoftHebbCnnCIFAR", *arguments]) == 0
    torch.set_flush_denormal(False)
    return folder


def mistake(capsys, *arguments: object) -> str:
    """The one line that a user's mistake is answered with."""
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("softhebb-fast: error: ")
    return err.strip()


def train(capsys, tmp_path, *arguments: object) -> str:
    return mistake(capsys, "train", *arguments, "--out", tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DemoMINST"], "got 'DemoMINST'; did you mean DemoMNIST"),
        (["4softhebbcnncifar"], "did you mean 4SoftHebbCnnCIFAR"),
        (["tender-c4-k3 BP"], "unknown method 'tender'"),
        (["DemoMNIST", "--dataset", "emnist"], "--dataset must be one of mnist"),
        (["DemoMNIST", "--dataset", "imagefolder:/nowhere"], "must name an existing folder"),
        (["DemoMNIST", "--init", "zeroes"], "init must be one of normal, positive"),
        (["DemoMNIST", "--init", "4=zerO"], "indices from 0 to 0 as keys"),
        (["DemoMNIST", "--init", "zerO:scale=big"], "scale must be one of algorithm2"),
        (["DemoMNIST", "--init", "zerO:size=3"], "got the unknown key 'size'"),
        (["DemoMNIST", "--device", "abacus"], "device must be usable here; got 'abacus'"),
        (["DemoMNIST", "--seed", "-1"], "--seed must be at least 0; got -1"),
        (["DemoMNIST", "--limit", "0"], "--limit must be at least 1; got 0"),
        (["DemoMNIST", "--probe-epochs", "0"], "--probe-epochs must be at least 1; got 0"),
        (["DemoMNIST", "--neuron-factor", "0"], "--neuron-factor must be a positive number"),
        (["DemoMNIST", "--cache-gib", "-1"], "--cache-gib must be at least 0; got -1"),
        (["DemoMNIST", "--augment"], "augmentation is Gaussian noise"),
        (["DemoMNIST", "--data", "/nowhere"], "--data must be an existing folder; got '/nowhere'"),
        (["soft-c4-k31 BP"], "image_shape is too small"),
        (["soft-c4-k3:topshare_1 BP"], "share must lie between 0 and 1; got 1.0"),
        (["DemoMNIST", "--ridge", "penalty"], "--ridge must look like 'name=value', each once"),
        (["DemoMNIST", "--ridge", "form=dual"], "--ridge must be None for --classifier published"),
        ([*SOLVED, "--ridge", "alpha=1"], "sums; got alpha"),
        ([*SOLVED, "--ridge", "penalty=loo"], "one of holdout, gcv; got 'loo'"),
        ([*SOLVED, "--probe-epochs", "3"], "--probe-epochs must be 1 for --classifier ridge"),
        ([*SOLVED, "--autocast"], "--autocast must be False for --classifier ridge"),
        ([*SOLVED, "--mode", "simultaneous"], "trained before it, without labels"),
        (["DemoMNIST", "--features", "layers=2"], "layers must be among the 1 below"),
        (["DemoMNIST", "--features", "grid=2"], "map of layer 1, 1x1; got 2"),
        (["DemoMNIST", "--features", "layers=1,x"], "layers must be an int; got 'x'"),
        (["DemoMNIST", "--features", "grid=1", "grid=2"], "--features must look like"),
    ],
)
def test_mistakes_of_training(capsys, tmp_path, arguments, message):
    assert message in train(capsys, tmp_path, *arguments)
    assert not (tmp_path / "run").exists()


def test_the_pixels_have_no_layers_to_choose_from():
    config = RunConfig("DemoMNIST", "mnist", classifier="ridge", features={"layers": [1]})
    found = baselines.configs(config)
    assert found["pixels"].features is None
    assert found["untrained"].features == config.features
    assert {run.classifier for run in found.values()} == {"ridge"}


def test_a_classifier_that_is_solved(capsys, tmp_path, root):
    arguments = ["train", "3SoftHebbCnnCIFAR", "--classifier", "ridge", "--neuron-factor", "0.05"]
    arguments += ["--limit", "64", "--device", "cpu", "--dataset", "mnist", "--data", root]
    arguments += ["--features", "layers=1,2", "grid=3,2", "pool=max", "window=0.4"]
    arguments += ["power=0.5", "--flips", "--shifts", "1", "--quiet"]
    arguments += ["--ridge", "penalty=gcv", "standardise=true", "factors=0.01,0.1,1", "--no-plots"]
    code, out, _ = call(capsys, *arguments, "--out", tmp_path / "run")
    assert code == 0
    config, _ = read_config(tmp_path / "run")
    assert config.features == {
        **{"layers": [1, 2], "grid": [3, 2], "pool": "max"},
        **{"window": 0.4, "mirrored": False, "power": 0.5},
    }
    assert config.ridge["factors"] == [0.01, 0.1, 1.0]
    assert (config.ridge["penalty"], config.ridge["standardise"]) == ("gcv", True)
    settings = "penalty=gcv holdout=0.1 standardise=True products=float32 sums=float64 form=auto"
    sees = "of features layers=1,2 grid=3,2 pool=max window=0.4 mirrored=False power=0.5"
    assert (
        f"classifier ridge {sees} ({settings}), with mirror images, moved by 1 in tests, successive"
        in out
    )
    assert "ridge classifier with penalty " in out
    told = next(line for line in out.splitlines() if line.startswith("test accuracy"))
    assert "mean squared error" in told
    code, again, _ = call(capsys, "evaluate", tmp_path / "run")
    assert code == 0
    assert told.startswith(again.strip())


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "DemoMNIST", "--backend", "fortran"],
        ["train", "DemoMNIST", "--mode", "together"],
        ["train", "DemoMNIST", "--limit", "many"],
        ["train", "DemoMNIST", "--cache-dtype", "int8"],
        ["train", "DemoMNIST", "--classifier", "svm"],
        ["train", "DemoMNIST", "--init", "1=zerO;2"],
        ["train", "DemoMNIST", "--epochs", "3"],
        ["learn", "DemoMNIST"],
        ["resume"],
    ],
    ids=" ".join,
)
def test_arguments_that_do_not_exist(capsys, arguments):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: softhebb-fast")
    assert "error: " in err.splitlines()[-1]


def test_a_backend_that_cannot_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "why_not", lambda *_: "it is far away")
    line = train(capsys, tmp_path, "DemoMNIST", "--backend", "triton", "--device", "cpu")
    assert "--backend triton cannot run on device 'cpu': it is far away" in line


def test_a_folder_that_cannot_be_written(capsys, tmp_path, root):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run", "/proc/softhebb_fast"):
        arguments = ["DemoMNIST", *TINY, "--data", root, "--out", place]
        assert "out must be a folder that can be written" in mistake(capsys, "train", *arguments)


def test_missing_data(capsys, tmp_path):
    line = train(capsys, tmp_path, "DemoMNIST", "--data", tmp_path)
    assert "mnist (train) is incomplete" in line
    assert "Downloading failed: no way to https://" in line
    assert "Put what is missing there" in line
    line = train(capsys, tmp_path, "DemoMNIST", "--dataset", "imagenet", "--data", tmp_path)
    assert "imagenet (train) is incomplete" in line
    assert sorted(os.listdir(tmp_path)) == []


def test_damaged_data(capsys, tmp_path):
    raw = write_mnist_subset(tmp_path, 10) / "MNIST" / "raw"
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"not images")
    line = train(capsys, tmp_path, "DemoMNIST", "--data", tmp_path)
    assert "t10k-images-idx3-ubyte is damaged" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["resume", "evaluate", "plot"])
def test_folders_without_a_run(capsys, tmp_path, command):
    assert "there is no run in" in mistake(capsys, command, tmp_path)
    assert "there is no run in" in mistake(capsys, command, tmp_path / "nothing")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", ["resume", "evaluate", "plot"])
def test_damaged_runs(capsys, tmp_path, done, command):
    for file in done.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / checkpoint.FILE).write_bytes(b"garbage")
    assert "checkpoint.pt is damaged" in mistake(capsys, command, tmp_path)
    edit_config(tmp_path, lambda content: content["run"].update(seed=1))
    (tmp_path / checkpoint.FILE).write_bytes((done / checkpoint.FILE).read_bytes())
    assert "another configuration (seed: 0 there, 1 here)" in mistake(capsys, command, tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json is damaged" in mistake(capsys, command, tmp_path)


@pytest.mark.parametrize("command", ["evaluate", "plot"])
def test_runs_without_a_checkpoint(capsys, tmp_path, done, command):
    (tmp_path / "config.json").write_bytes((done / "config.json").read_bytes())
    assert "there is no checkpoint" in mistake(capsys, command, tmp_path)


def test_training_twice_into_one_folder(capsys, done, root):
    arguments = ["3SoftHebbCnnCIFAR", *TINY, "--data", root, "--out", done]
    assert "out already holds a run" in mistake(capsys, "train", *arguments)


def test_train_evaluate_plot_resume(capsys, tmp_path, root):
    out = tmp_path / "run"
    arguments = [*TINY, "--data", root, "--out", out, "--seed", "4", "--mode", "consecutive"]
    code, text, progress = call(capsys, "train", "3SoftHebbCnnCIFAR", *arguments)
    assert code == 0
    lines = text.splitlines()
    assert lines[0].startswith("3SoftHebbCnnCIFAR_0.05xNeurons  [SoftHebb]")
    assert f"writing to {out}" in lines
    assert sum(line.startswith("layer ") for line in lines) == 2
    assert lines[-2].startswith("test accuracy ")
    names = ["metrics.csv", "filters.png", "receptive_fields_2.png", "curves.png"]
    assert lines[-1] == "written: " + ", ".join(str(out / name) for name in names)
    assert sorted(os.listdir(out)) == sorted(
        [*names, "checkpoint.pt", "config.json", "neurons.csv"]
    )
    assert "layer 1, 2: 100%" in progress
    assert "classifier: 100%" in progress
    config, data = read_config(out)
    assert (config.mode, config.seed, config.limit) == ("consecutive", 4, 64)
    assert data == str(root)
    accuracy = lines[-2].split(",")[0]

    code, text, _ = call(capsys, "evaluate", out)
    assert code == 0
    assert text.startswith(f"{accuracy}, mean loss ")

    (out / "curves.png").unlink()
    code, text, _ = call(capsys, "plot", out)
    assert code == 0
    assert text.splitlines() == [str(out / name) for name in names[1:]]
    assert (out / "curves.png").stat().st_size > 1000

    code, text, _ = call(capsys, "resume", out, "--no-plots", "--quiet")
    assert code == 0
    assert accuracy in text


def test_quiet_shows_no_progress(capsys, tmp_path, root):
    arguments = [*TINY, "--data", root, "--out", tmp_path / "run", "--quiet", "--no-plots"]
    code, _, err = call(capsys, "train", "DemoMNIST", *arguments)
    assert (code, err) == (0, "")
    assert not list((tmp_path / "run").glob("*.png"))


def test_a_perceptron_is_judged_by_its_winners(capsys, tmp_path, root):
    arguments = [*TINY[:-1], "0.01", "--data", root, "--out", tmp_path / "run", "--quiet"]
    code, text, _ = call(capsys, "train", "2SoftMlpMNIST", *arguments)
    assert code == 0
    assert "test accuracy by the winner's label: " in text
    assert (tmp_path / "run" / "filters.png").exists()


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["DemoMNIST", "--seed", "3"], "DemoMNIST-mnist-3"),
        ([NET], "network-mnist-0"),
        (["DemoMNIST", "--dataset", "imagefolder:a/b", "--neuron-factor", "0.05"], "DemoMNIST-b-0"),
    ],
)
def test_runs_get_a_folder_of_their_own(capsys, tmp_path, root, monkeypatch, arguments, folder):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        write_tree(tmp_path / "a" / "b", split, {"left": 2, "right": 2})
    options = ["--limit", "32", "--probe-epochs", "1", "--device", "cpu", "--data", root]
    code, _, err = call(capsys, "train", *arguments, *options, "--quiet", "--no-plots")
    assert code == 0, err
    assert os.listdir(tmp_path / "runs") == [folder]


def test_options_reach_the_configuration(capsys, tmp_path, root):
    out = tmp_path / "run"
    given = {
        "width_factor": 2.0,
        "unsup_epochs": 0,
        "unsup_batch": 7,
        "probe_epochs": 1,
        "probe_batch": 9,
        "test_batch": 11,
        "limit": 20,
        "cache_dtype": "bfloat16",
        "cache_gib": 0.5,
        "backend": "reference",
        "device": "cpu",
        "tie_rule": "spread",
    }
    flags = [x for name, value in given.items() for x in (f"--{name.replace('_', '-')}", value)]
    flags += ["--neuron-factor", "0.05", "--no-augment", "--autocast", "--dataset", "mnist"]
    flags += ["--init", "1=zerO:scale=fork,radius=5"]
    where = ["--data", root, "--out", out, "--quiet", "--no-plots"]
    code, _, err = call(capsys, "train", "4SoftHebbCnnCIFAR", *flags, *where)
    assert code == 0, err
    config, _ = read_config(out)
    assert {name: getattr(config, name) for name in given} == given
    assert config.init == {0: {"name": "zerO", "scale": "fork", "radius": 5}}
    assert (config.augment, config.autocast, config.neuron_factor) == (False, True, 0.05)


def test_crops_of_the_command_line(root, tmp_path, capsys):
    words = ["DemoMNIST", "--limit", 20, "--unsup-epochs", 0, "--classifier", "ridge"]
    words += ["--probe-epochs", 2, "--data", root, "--quiet", "--no-plots"]
    out = tmp_path / "run"
    code, printed, err = call(
        capsys, "train", *words, "--out", out, "--crops", "padding=2", "flip=0"
    )
    assert code == 0, err
    assert "2 passes" in printed
    assert "crops padding=2 mode=reflect flip=0.0" in printed
    assert read_config(out)[0].crops == {"padding": 2, "mode": "reflect", "flip": 0.0}
    code, printed, _ = call(capsys, "train", *words, "--out", tmp_path / "whole", "--crops")
    assert "crops padding=4 mode=reflect flip=0.5" in printed
    code, _, err = call(capsys, "train", *words, "--out", tmp_path / "no", "--crops", "padding=x")
    assert code != 0
    assert "padding must be an int; got 'x'" in err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("text", "init"),
    [
        ("zerO", "zerO"),
        ("zerO:scale=fork", {"name": "zerO", "scale": "fork"}),
        ("zerO:scale=fork,radius=5", {"name": "zerO", "scale": "fork", "radius": 5}),
        ("normal:radius=2.5", {"name": "normal", "radius": 2.5}),
        ("1=zerO", {0: "zerO"}),
        ("1=zerO;3=random_binary", {0: "zerO", 2: "random_binary"}),
        (
            "2=zerO:radius=5,scale=fork;1=positive",
            {1: {"name": "zerO", "radius": 5, "scale": "fork"}, 0: "positive"},
        ),
    ],
)
def test_parse_init(text, init):
    assert parse_init(text) == init


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1=zerO;random_binary", "init by layer must look like '1=zerO;3=random_binary'"),
        ("one=zerO", "init by layer must look like .*; got 'one=zerO'"),
        ("zerO:fork", "init settings must look like 'scale=fork'; got 'fork'"),
        ("zerO:scale=fork,scale=fork", "once each; got 'scale' twice"),
        ("1=zerO;1=normal", "must name each once; got 1 twice"),
    ],
)
def test_parse_init_refuses(text, message):
    with pytest.raises(ValueError, match=message):
        parse_init(text)


def test_presets(capsys):
    code, text, _ = call(capsys, "presets")
    assert code == 0
    described = {line.split()[0] for line in text.splitlines() if not line.startswith(" ")}
    assert described == set(PRESETS)
    code, text, _ = call(capsys, "presets", "4SoftHebbCnnCIFAR")
    assert code == 0
    assert text.splitlines()[0].startswith("4SoftHebbCnnCIFAR ")
    assert len(text.splitlines()) == 6
    *_, last = text.splitlines()
    assert last == "  cifar10: 5,893,162 parameters, published 80.30 %"
    code, text, _ = call(capsys, "presets", "DemoMNIST")
    *_, last = text.splitlines()
    assert last == "  mnist: 794,010 parameters, weights in the package 96.33 %"
    assert "did you mean 4SoftHebbCnnCIFAR" in mistake(capsys, "presets", "4SoftHebCnnCIFAR")


def test_info(capsys, monkeypatch, tmp_path):
    code, text, _ = call(capsys, "info")
    assert code == 0
    assert text.startswith(f"softhebb_fast {softhebb_fast.__version__}, Python 3.")
    assert f"torch {torch.__version__}" in text
    assert "backends on cpu (auto is " in text
    assert "  reference: available" in text
    assert "precisions of float32 products on cpu:\n  ieee: available\n  bf16x3: " in text
    assert "  tf32: it is for CUDA tensors" in text
    assert "on cuda, where none is named, as torch takes its own: conv2d ieee, linear ieee" in text
    assert f"\n  mnist: {sources.EMBEDDED}\n" in text
    assert "\n  stl10: not found\n" in text
    monkeypatch.setenv(sources.ROOT_VARIABLE, str(tmp_path / "nowhere"))
    code, text, _ = call(capsys, "info")
    assert code == 0
    assert "data sets: the environment variable SOFTHEBB_FAST_DATA must be an existing" in text


def test_the_command_flushes_denormals(capsys):
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormals")
    tiny = torch.full((8,), 1e-39)
    assert (tiny * 0.5).all()
    call(capsys, "presets")
    assert not (tiny * 0.5).any()


def test_no_command_shows_the_help(capsys):
    code, text, _ = call(capsys)
    assert code == 2
    for command in ("train", "resume", "evaluate", "plot", "presets", "info"):
        assert f"\n    {command} " in text


def test_a_second_interrupt_stops_at_once(capsys, tmp_path, root, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_command.runs, "begin", interrupt)
    code, _, err = call(capsys, "train", "DemoMNIST", "--data", root, "--out", tmp_path / "run")
    assert code == cli.INTERRUPTED == 130
    assert err == "softhebb-fast: interrupted\n"


def test_python_m(tmp_path):
    def command(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "softhebb_fast", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )

    version = command("--version")
    assert (version.returncode, version.stdout) == (
        0,
        f"softhebb_fast {softhebb_fast.__version__}\n",
    )
    wrong = command("evaluate", str(tmp_path))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("softhebb-fast: error: there is no run in")
    assert wrong.stderr.count("\n") == 1


def test_the_tiny_configuration_is_what_the_command_takes():
    options = vars(make_parser().parse_args(["train", "DemoMNIST"]))
    assert CONFIG.keys() <= options.keys()
    assert {field.name for field in fields(RunConfig)} <= options.keys() | {"reading"}


def test_a_reader_that_stops_reading_gets_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "softhebb_fast", "presets"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == cli.BROKEN_PIPE


@pytest.mark.parametrize(
    ("arguments", "name", "values"),
    [
        ("train X --features grid=2 --features power=0.5", "features", ["grid=2", "power=0.5"]),
        ("train X --ridge penalty=1 --ridge holdout=0.2", "ridge", ["penalty=1", "holdout=0.2"]),
        (
            "train X --softmax smoothing=1 --softmax penalty=2",
            "softmax",
            ["smoothing=1", "penalty=2"],
        ),
        ("train X --crops padding=1 --crops flip=0", "crops", ["padding=1", "flip=0"]),
        ("train X --crops", "crops", []),
        ("train X --symmetry-steps 1 --symmetry-steps 2 3", "symmetry_steps", [1, 2, 3]),
        ("train X", "symmetry_steps", []),
        ("backprop X --milestones 1 2 --milestones 3", "milestones", [1, 2, 3]),
        ("reproduce record --seeds 1 --seeds 2", "seeds", [1, 2]),
        ("reproduce record", "seeds", [0]),
        ("reproduce record --cells a --cells b", "cells", ["a", "b"]),
    ],
)
def test_an_option_of_several_values_may_be_repeated(arguments, name, values):
    found = getattr(make_parser().parse_args(arguments.split()), name)
    assert found == values


def test_a_setting_that_is_repeated_is_refused(capsys):
    arguments = ["train", "DemoMNIST", "--classifier", "ridge", "--features", "grid=2"]
    assert cli.main([*arguments, "--features", "grid=3"]) == 2
    assert "each once; got 'grid=3'" in capsys.readouterr().err
