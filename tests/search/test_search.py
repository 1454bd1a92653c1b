"""Searching: spaces, trials given up, studies that are shared and go on."""

from __future__ import annotations

import builtins
import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softhebb_fast import cli, sealed
from softhebb_fast.init import initialise
from softhebb_fast.naming import parse_init
from softhebb_fast.presets import get_preset, parse_network
from softhebb_fast.search.space import SPACES, Space, get_space, init_option
from softhebb_fast.search.study import Search, best, open_study, search
from softhebb_fast.search.trial import (
    Budget,
    GivenUp,
    HeldOut,
    Judge,
    Proxies,
    run_trial,
    trial_config,
)
from softhebb_fast.training.config import RunConfig
from tests.tiny import write_mnist_subset

optuna = pytest.importorskip("optuna")
NET = "softkrotov-c4-k3-p2-t1-lr0.07:triangle_0.7:avg_4_2_1 BP:dropout_0.5"
BUDGET = Budget(images=60, validation=40, probe_epochs=2)
SMALL = ["--set", "outs=4", "--set", "kernel=3,5", "--images", "60", "--validation", "40"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_mnist_subset(tmp_path_factory.mktemp("data"), 120)


def small(**changes) -> Search:
    space = replace(SPACES["table3"], outs=(4,), kernel=(3, 5), **changes)
    return Search(space, "mnist", BUDGET, run={"seed": 0})


def test_the_published_spaces():
    for name, layers in (("table3", 1), ("table4", 3), ("open", 3)):
        space = get_space(name)
        assert len(space.outs) == layers
        for seed in range(20):
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
            trial = study.ask()
            network, init = space.suggest(trial)
            preset = parse_network(network)
            assert RunConfig(network, "mnist", init).network() == preset
            for layer, out in zip(preset.layers[:-1], space.outs, strict=True):
                assert layer.out == out
                assert 0.001 <= layer.lr <= 0.1
                assert layer.lr_power in (0.3, 0.4, 0.5)
                assert 0.1 <= layer.t_invert <= 10
                assert layer.pool.kind in ("avg", "max")
                assert layer.pool.kernel in (2, 3, 4)
                assert layer.activation[0] in ("softmax", "repu", "triangle")
                assert 0.1 <= layer.activation[1] <= 10
                assert 1 <= layer.kernel <= 6
                assert layer.radius == 25 or name == "open"
            assert name == "open" or init == {"name": "zerO", "scale": "fork"}
    names = ", ".join(SPACES)
    with pytest.raises(ValueError, match=f"space must be one of {names}; got 'table5'"):
        get_space("table5")


def test_the_published_network_lies_in_its_space():
    first = get_preset("2SoftHebbZerOMNIST").layers[0]
    choices = {
        "init": "zerO:scale=fork",
        "layer 1 lr_power": 0.4,
        "layer 1 kernel": 3,
        "layer 1 pool": "avg",
        "layer 1 pool_size": 4,
        "layer 1 activation": "triangle",
        "layer 1 rule": "soft_anti",
        "layer 1 lr": 0.07,
        "layer 1 t_invert": 1.0,
        "layer 1 power": 0.7,
        "layer 1 radius": 25.0,
    }
    network, _ = get_space("table3").suggest(optuna.trial.FixedTrial(choices))
    assert parse_network(network).layers[0] == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": (0.1, 0.001)}, "lr must be a range of positive numbers, low,high; got 0.1,0.001"),
        ({"t_invert": (0.0, 1.0)}, "t_invert must be a range of positive"),
        ({"kernel": ()}, "kernel must leave something to choose"),
        ({"kernel": (0,)}, "kernel"),
        ({"activation": ("tringle",)}, "activation must be"),
        ({"pool_size": (0,)}, "kernel must be"),
        ({"rule": ("tender",)}, "rule must be"),
        ({"paddings": (1, 1)}, "paddings must have one entry a layer, 1"),
    ],
)
def test_impossible_spaces_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(SPACES["table3"], **changes)


def test_spaces_are_narrowed():
    space = get_space("table4").narrowed({"lr": "0.01,0.02", "kernel": "3"}, neuron_factor=0.25)
    assert (space.lr, space.kernel, space.outs) == ((0.01, 0.02), (3,), (24, 96, 384))
    space = get_space("open").narrowed({"init": "walsh_binary,zerO"})
    assert dict(space.init) == {"walsh_binary": "walsh_binary", "zerO": "zerO"}
    for changes, message in (
        ({"init": "zerO:scale=fork,normal"}, r"init must be of zerO:scale=fork; got \['normal'\]"),
        ({"lrr": "1"}, "set must name one of lr, .*; got 'lrr'"),
        ({"kernel": "3.5"}, "kernel must be values like"),
        ({"lr": "0.1"}, "lr must be a range low,high; got '0.1'"),
    ):
        with pytest.raises(ValueError, match=message):
            get_space("table4").narrowed(changes)


@pytest.mark.parametrize(
    "init",
    [
        "normal",
        {"name": "zerO", "scale": "fork"},
        {"name": "zerO", "radius": 2.5},
        {0: {"name": "zerO", "radius": 2.5}, 2: "normal"},
    ],
)
def test_inits_are_written_as_the_command_takes_them(init):
    assert parse_init(init_option(init)) == init


def test_a_trial_may_solve_its_classifier(root):
    config = trial_config(NET, "normal", "MNIST", BUDGET, classifier="ridge", flips=True)
    assert (config.probe_epochs, config.flips) == (1, True)
    judge = Judge(Proxies(distinct=0, entropy=-1), 1, lambda epoch, accuracy: False)
    assert run_trial(config, BUDGET, judge, str(root)) == judge.accuracy > 0


def test_trials_are_judged_by_images_they_have_not_seen(root, tmp_path):
    config = trial_config(NET, "normal", "MNIST", BUDGET)
    trainer = HeldOut(BUDGET, config, tmp_path, root=str(root))
    assert (len(trainer.train_set), len(trainer.test_set)) == (60, 40)
    seen, judges = trainer.train_set.images.flatten(1), trainer.test_set.images.flatten(1)
    assert not (seen.unsqueeze(0) == judges.unsqueeze(1)).all(dim=2).any()
    with pytest.raises(ValueError, match="must be at most 120 together"):
        HeldOut(Budget(100, 40), config, tmp_path / "b", root=str(root))


def judge(**proxies) -> Judge:
    return Judge(Proxies(**proxies), 1, lambda epoch, accuracy: False)


def test_bad_trials_are_given_up(root):
    config = trial_config(NET, "constant", "mnist", BUDGET)
    watching = judge()
    accuracy = run_trial(config, BUDGET, watching, str(root))
    assert accuracy == watching.accuracy > 0
    assert len(watching.figures_of("winner_entropy")) == 1
    for proxies, message in (
        ({"distinct": 5}, "layer 1 has . distinct filters"),
        ({"entropy": 3.0}, r"layer 1 has \d\.\d\d bits in its wins"),
        ({"norm_error": 1e-9}, "layer 1 has norms of"),
    ):
        with pytest.raises(GivenUp, match=message):
            run_trial(config, BUDGET, judge(**proxies), str(root))
    low = Judge(Proxies(), 1, lambda epoch, accuracy: True)
    with pytest.raises(GivenUp, match="after epoch 1 is below others"):
        run_trial(config, BUDGET, low, str(root))
    assert Proxies().objection({"layer": 2, "norm_mean": float("nan")}, False) is not None
    large = trial_config(NET.replace("k3", "k40"), "normal", "mnist", BUDGET)
    with pytest.raises(GivenUp, match=r"impossible: .*too small"):
        run_trial(large, BUDGET, judge(), str(root))


def test_a_study_goes_on_and_repeats_itself(root, tmp_path):
    said: list[int] = []
    options = {
        "root": str(root),
        "sampler_seed": 1,
        "said": lambda trial: said.append(trial.number),
    }
    study = search(small(), tmp_path / "a", 2, **options)
    assert said == [0, 1]
    study = search(small(), tmp_path / "a", 3, **options)
    assert said == [0, 1, 2]
    search(small(), tmp_path / "a", 3, **options)
    assert said == [0, 1, 2]
    rows = list(csv.DictReader((tmp_path / "a" / "trials.csv").open()))
    assert [row["number"] for row in rows] == ["0", "1", "2"]
    assert all(row["network"].startswith("softkrotov-c4-k") for row in rows)
    content = json.loads((tmp_path / "a" / "best.json").read_text())
    assert content["accuracy"] == best(study)[0].value == max(t.value for t in best(study))
    assert parse_network(content["network"]).layers[0].out == 4
    assert sorted(os.listdir(tmp_path / "a")) == ["best.json", "journal.log", "trials.csv"]
    again = search(small(), tmp_path / "b", 1, root=str(root), sampler_seed=1)
    assert again.trials[0].params == study.trials[0].params
    assert again.trials[0].value == study.trials[0].value
    with pytest.raises(ValueError, match="holds a search with another space"):
        open_study(small(lr=(0.01, 0.02)), tmp_path / "a")


def test_impossible_trials_are_pruned_with_their_reason(root, tmp_path):
    study = search(small(paddings=(60,)), tmp_path, 2, root=str(root))
    assert [trial.state.name for trial in study.trials] == ["PRUNED", "PRUNED"]
    assert study.trials[0].user_attrs["reason"].startswith("impossible: image_shape is too small")
    assert not (tmp_path / "best.json").exists()


def test_two_processes_share_a_study(root, tmp_path, capsys):
    arguments = ["search", "table3", *SMALL, "--probe-epochs", "1", "--trials", "8"]
    arguments += ["--data", str(root), "--out", str(tmp_path)]
    command = [sys.executable, "-m", "softhebb_fast", *arguments]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert cli.main(arguments) == 0
    texts = [capsys.readouterr().out, other.communicate(timeout=300)[0]]
    assert other.returncode == 0
    lines = [line for text in texts for line in text.splitlines() if line.startswith("trial ")]
    numbers = [int(line.split()[1].rstrip(":")) for line in lines]
    assert sorted(numbers) == list(range(len(numbers)))
    assert 8 <= len(numbers) <= 9
    assert "--init 'zerO:scale=fork'" in texts[1]


def test_the_command(root, tmp_path, capsys):
    def call(*arguments) -> tuple[int, str, str]:
        code = cli.main(["search", *map(str, arguments)])
        return code, *capsys.readouterr()

    where = ["--data", root, "--out", tmp_path]
    code, text, _ = call("table3", *SMALL, "--trials", 1, "--distinct", 9, *where)
    assert code == 0
    assert "trial 0: pruned, layer 1 has" in text
    assert "none came to its end" in text
    code, _, error = call("table3", *SMALL, "--trials", 1, *where)
    assert code == 2
    assert "holds a search with another proxies" in error
    assert "SPACE must be one of" in call("table7", *where)[2]
    code, _, error = call("table3", "--set", "lr=0.1,0.2", "--set", "lr=0.1,0.3", *where)
    assert (code, "got 'lr' twice" in error) == (2, True)


def test_a_line_of_the_journal_is_as_it_was_written_or_refused(tmp_path):
    study = open_study(small(), tmp_path)
    for accuracy in (70.5, 80.25):
        study.tell(study.ask(), accuracy)
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole.replace(b"80.25", b"90.25"))
    with pytest.raises(ValueError, match=r"line \d+ of the journal .*journal\.log is damaged"):
        open_study(small(), tmp_path)
    old = [sealed.parse_json(line) for line in whole.splitlines()]
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in old))  # without digests
    assert [t.value for t in open_study(small(), tmp_path).trials] == [70.5, 80.25]


def test_a_line_that_a_killed_process_left_is_taken_away(tmp_path):
    study = open_study(small(), tmp_path)
    study.tell(study.ask(), 70.5)
    journal = tmp_path / "journal.log"
    with open(journal, "ab") as file:
        file.write(b'{"sealed": true, "op_co')
    study = open_study(small(), tmp_path)
    study.tell(study.ask(), 80.25)
    assert [t.value for t in open_study(small(), tmp_path).trials] == [70.5, 80.25]


def test_half_a_line_makes_place_for_the_next(tmp_path):
    """Of a process that was killed beside others that go on."""
    from softhebb_fast.search.journal import Journal

    first, second = Journal(tmp_path / "journal"), Journal(tmp_path / "journal")
    first.append_logs([{"n": 1}, {"n": 2}])
    with open(tmp_path / "journal", "ab") as file:
        file.write(b'{"sealed": true, "op_co')
    assert list(second.read_logs(0)) == [{"n": 1}, {"n": 2}]
    second.append_logs([{"n": 3}])
    assert list(first.read_logs(1)) == [{"n": 2}, {"n": 3}]
    assert os.listdir(tmp_path) == ["journal"]


def test_lines_are_added_whole_or_not_at_all(tmp_path):
    from softhebb_fast.search.journal import Journal

    resource = pytest.importorskip("resource")
    journal = Journal(tmp_path / "journal")
    journal.append_logs([{"n": 1}])
    whole = (tmp_path / "journal").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*journal'"):
            journal.append_logs([{"n": 2, "text": "a" * 200}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "journal").read_bytes() == whole


def test_without_optuna_it_says_what_to_install(root, tmp_path, capsys, monkeypatch):
    there = builtins.__import__

    def without(name, *rest):
        if name == "optuna":
            raise ImportError("No module named 'optuna'")
        return there(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert cli.main(["search", "table3", "--out", str(tmp_path / "a")]) == 2
    assert "pip install softhebb_fast[search]" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_starts_leave_the_published_network_as_it_is():
    space = get_space("starts").narrowed({"radius": "3,3"}, neuron_factor=0.25)
    published = get_preset("4SoftHebbCnnCIFAR", neuron_factor=0.25)
    choices = {f"layer {i} radius": 3.0 for i in (1, 2, 3)} | {
        "layer 1 init": "identity_taps",
        "layer 2 init": "walsh_binary:signs=rudin_shapiro",
        "layer 3 init": "hadamard_patches",
    }
    network, inits = space.suggest(optuna.trial.FixedTrial(choices))
    *layers, head = parse_network(network).layers
    assert [replace(layer, radius=25.0) for layer in layers] == list(published.layers[:-1])
    assert [layer.radius for layer in layers] == [3.0] * 3
    assert head == published.layers[-1]
    assert parse_init(init_option(inits)) == inits


@pytest.mark.parametrize("name", get_space("starts").init)
def test_every_start_is_an_init_of_that_name(name):
    assert init_option(get_space("starts").init[name]) == name
    initialise(torch.empty(24, 3, 5, 5), init=parse_init(name))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("starts", {"lr": "1,2"}, "set must name one of init, radius; got 'lr'"),
        ("starts", {"radius": "3"}, "radius must be a range low,high; got '3'"),
        ("starts", {"radius": "5,3"}, "radius must be a range of positive numbers"),
        ("starts", {"init": "normal"}, r"init must be of hadamard_patches, .*; got \['normal'\]"),
        (
            "whitened",
            {"kernel": "3"},
            "set must name one of init, t_invert, lr, radius, epsilon; got 'kernel'",
        ),
        ("whitened", {"lr": "1"}, "lr must be a range low,high; got '1'"),
        ("whitened", {"t_invert": "0,3"}, "t_invert must be a range of positive numbers"),
        ("whitened", {"init": "zerO"}, r"init must be of patches, normal; got \['zerO'\]"),
    ],
)
def test_spaces_that_cannot_be(name, changes, message):
    with pytest.raises(ValueError, match=message):
        get_space(name).narrowed(changes)
    with pytest.raises(ValueError, match="init must leave something"):
        replace(get_space(name), init={})


def test_a_search_of_starts(root, tmp_path):
    space = get_space("starts").narrowed({"init": "hadamard_patches,walsh_binary"}, 0.05)
    study = search(Search(space, "mnist", BUDGET, run={"seed": 0}), tmp_path, 2, root=str(root))
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "PRUNED"}
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 3


WHITENED = {
    "whitened": "3WhitenedSoftHebbCnnCIFAR",
    "whitened_layer": "2WhitenedSoftHebbCnnCIFAR",
}


@pytest.mark.parametrize("name", WHITENED)
def test_a_whitened_space_changes_how_layers_learn_alone(name):
    space = get_space(name).narrowed({"init": "patches"}, neuron_factor=0.25)
    preset = get_preset(WHITENED[name], neuron_factor=0.25)
    chosen = {"t_invert": 12.0, "lr": 0.05, "radius": 2.0, "epsilon": 3.0}
    choices = {f"layer {i} {name}": value for i in (1, 2) for name, value in chosen.items()}
    network, init = space.suggest(optuna.trial.FixedTrial(choices | {"init": "patches"}))
    *layers, head = parse_network(network).layers
    del chosen["epsilon"]
    assert init == "patches"
    assert head == preset.layers[-1]
    for layer, own in zip(layers, preset.layers, strict=False):
        whiten = replace(own.whiten, epsilon=float(f"{3 * own.whiten.epsilon:.3g}"))
        assert layer == replace(own, whiten=whiten, **chosen)


@pytest.mark.parametrize("name", WHITENED)
def test_a_search_of_whitened_layers_is_judged_by_ridge(root, tmp_path, name):
    space = get_space(name).narrowed({"init": "patches"}, 0.02)
    what = Search(space, "mnist", BUDGET, run={"seed": 0})
    study = search(what, tmp_path, 2, root=str(root))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    assert all(0 < trial.value < 100 for trial in study.trials)


def test_a_space_of_its_own():
    space = Space("mine", "here", (8,), init={"normal": "normal"}, radius=(1.0, 2.0))
    network, init = space.suggest(optuna.create_study().ask())
    assert init == "normal"
    assert 1 <= parse_network(network).layers[0].radius <= 2


def test_the_command_that_trains_the_best_has_what_judged_it(root, tmp_path, capsys):
    given = [
        "search",
        "whitened_layer",
        "--data",
        str(root),
        "--out",
        str(tmp_path),
        "--trials",
        "1",
    ]
    given += ["--neuron-factor", "0.004", "--images", "60", "--validation", "40"]
    assert cli.main(given) == 0
    command = capsys.readouterr().out.splitlines()[-1].split()
    rest = command[command.index("--classifier") :]
    assert rest == [
        *("--classifier", "ridge", "--features"),
        *("grid=3", "window=0.5", "power=0.7", "mirrored=true"),
    ]
    written = json.loads((tmp_path / "best.json").read_text())
    assert (written["classifier"], written["features"]["grid"]) == ("ridge", 3)
    assert cli.main([*given, "--probe-epochs", "7"]) == 2
    assert "probe-epochs is for the published classifier" in capsys.readouterr().err
