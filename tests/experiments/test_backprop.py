"""Experiments of ordinary networks: their runs, curves, checks, claims and figures."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from softhebb_fast import cli, experiments
from softhebb_fast.experiments import EXPERIMENTS, Cell, Experiment, reproduce, results
from softhebb_fast.experiments.cell import Trace, differences
from softhebb_fast.experiments.claims import Claim, Evidence, claims_table, near
from softhebb_fast.experiments.definitions import constnet, schicho_claims, zero
from softhebb_fast.training.backprop_config import BackpropConfig
from softhebb_fast.training.config import RunConfig
from tests.training.test_backprop import TINY

RUN = {**{k: v for k, v in TINY.items() if k != "limit"}, "init": "zero_bias"}
RUN |= {"images": 96, "symmetry_steps": [0, 1, 2, 12]}
EXPERIMENT = Experiment(
    "plain",
    "A trial",
    "Nobody 2000",
    "Text.",
    (
        Cell(
            "biases",
            "random biases",
            RUN,
            {"test_accuracy": 30.0, "first_epoch": 20.0},
            panel="net",
            series="biases",
            kind=BackpropConfig,
        ),
        Cell("large", "the same, larger", RUN, kind=BackpropConfig, gpu="an hour on an H100"),
    ),
    {"test_accuracy": "test %", "change_ranks": "ranks"},
    figure="learning",
    traces=(Trace("deviation", "*", "1.weight", "deviation"),),
    checks={"two": lambda: 2.0},
    claims=(
        Claim("X1", "a check", lambda f: f.checks.get("two", math.nan), **near(2, 0.5)),
        Claim("X2", "accuracy", lambda f: f.mean("biases"), at_least=99.9),
        Claim("X3", "a run on a GPU", lambda f: f.mean("large"), at_most=1.0),
    ),
)


@pytest.fixture
def plain(monkeypatch) -> Experiment:
    for module in (experiments, reproduce):
        monkeypatch.setattr(module, "EXPERIMENTS", {"plain": EXPERIMENT})
    yield EXPERIMENT
    torch.set_flush_denormal(False)


def test_the_command(plain, tmp_path, root, capsys):
    where = ["--out", tmp_path / "runs", "--results", tmp_path / "results", "--data", root]
    where += ["--device", "cpu", "--quiet"]

    def call(*arguments, code: int = 0) -> str:
        assert cli.main(["reproduce", "plain", *map(str, (*arguments, *where))]) == code
        return capsys.readouterr().out

    text = call(code=1)
    assert "large, seed 0: not run: needs a GPU, where it takes an hour on an H100" in text
    assert "| not run: needs a GPU, an hour on an H100 |" in text
    assert "| X1 | a check | 1.5 to 2.5 | 2 | yes |" in text
    assert "| X2 | accuracy | ≥ 99.9 |" in text
    assert "| **no** |" in text
    assert "| X3 | a run on a GPU | ≤ 1 | no figure |  |" in text
    names = [f"plain{part}" for part in (".csv", ".png", "_checks.csv", "_curves.csv")]
    names += ["plain_symmetry.csv", "plain_symmetry.png"]
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == names
    [row] = results.read(tmp_path / "results" / "plain.csv")
    assert tuple(row) == results.BACKPROP_COLUMNS
    assert (row["network"], row["init"], row["images"]) == ("perceptron", "zero_bias", "96")
    assert row["protocol"] == "2 x 16, adam 0.001"
    assert len(row["change_ranks"].split()) == 2
    found = Evidence.read("plain", tmp_path / "results")
    assert found.at_epoch("biases", 2) == found.mean("biases") == float(row["test_accuracy"])
    assert found.at_epoch("biases", 1) == found.mean("biases", "first_epoch")
    assert [epoch for epoch, _ in found.curve("biases", "train_loss")] == [1, 2]
    steps, deviations = zip(*found.trace("biases", "1.*", "deviation"), strict=True)
    assert steps == (0, 1, 2, 12)
    assert [d > 0 for d in deviations] == [False, False, True, True]
    assert "biases, seed 0: " in call("--seeds", "0", "1", code=1)
    assert len(results.read(tmp_path / "results" / "plain_symmetry.csv")) == 2 * 8


def test_evidence_that_is_missing(tmp_path):
    found = Evidence.read("plain", tmp_path)
    assert math.isnan(found.mean("biases"))
    assert math.isnan(found.at_epoch("biases", 1))
    assert found.curve("biases", "train_loss") == []
    text = claims_table(EXPERIMENT.claims, found)
    assert text.count("no figure") == 3


def test_ranges_of_claims():
    def claim(**limits) -> Claim:
        return Claim("", "", lambda f: 0.0, **limits)

    assert claim(at_least=1).wanted == "≥ 1"
    assert claim(at_most=1).wanted == "≤ 1"
    assert claim(at_least=0, at_most=0).wanted == "0"
    assert claim(**near(2, 1)).wanted == "1 to 3"
    assert [claim(**near(2, 1)).met(v) for v in (0.9, 1, 3, 3.1, math.nan)] == [
        False,
        True,
        True,
        False,
        False,
    ]


CELLS = [
    (experiment, cell)
    for experiment in EXPERIMENTS.values()
    for cell in experiment.cells
    if cell.kind is BackpropConfig
]


@pytest.mark.parametrize(("experiment", "cell"), CELLS, ids=lambda v: v.name)
def test_every_cell_is_a_network_and_a_start(experiment, cell):
    config = cell.config(0)
    assert config.network
    if cell.gpu or config.options.get("width", 1) in (64, 1):
        return  # built where it is trained
    shape = (1, 28, 28) if config.dataset == "mnist" else (3, 32, 32)
    assert sum(p.numel() for p in config.build(shape, 10).parameters()) > 1000


@pytest.mark.parametrize("name", ["schicho", "zero", "constnet"])
def test_every_claim_can_be_asked_for_and_has_its_cells(name, tmp_path):
    experiment = EXPERIMENTS[name]
    asked: set[str] = set()

    class Asked(Evidence):
        def mean(self, cell, *_):
            return asked.add(cell) or math.nan

        def spread(self, cell, *_):
            return asked.add(cell) or math.nan

        def at_epoch(self, cell, *_):
            return asked.add(cell) or math.nan

        def curve(self, cell, *_):
            return asked.add(cell) or []

        def trace(self, cell, *_):
            return asked.add(cell) or []

    found = Asked([], [], [], {})
    assert all(math.isnan(claim.measure(found)) for claim in experiment.claims)
    assert asked <= {cell.name for cell in experiment.cells}
    assert len(asked) > 8


@pytest.mark.parametrize("module", ["zero", "constnet"])
def test_what_is_checked_without_training_holds(module):
    experiment = EXPERIMENTS[module]
    found = Evidence([], [], [], {name: check() for name, check in experiment.checks.items()})
    held = {c.name for c in experiment.claims if c.met(c.measure(found))}
    assert held == ({"B1"} if module == "zero" else {"C1", "C2", "C7"})
    missed = [
        c.text
        for c in experiment.claims
        if c.name in held and not c.met(c.measure(found)) and not math.isnan(c.measure(found))
    ]
    assert missed == []


def evidence(**tables) -> Evidence:
    rows = {"runs": [], "epochs": [], "weights": [], "checks": {}} | tables
    return Evidence(**rows)


def weights(**columns: list[float]) -> Evidence:
    steps, names = columns.pop("step"), columns.pop("weight")
    rows = [
        {"cell": "c", "seed": "0", "step": str(step), "weight": name}
        | {column: str(values[i]) for column, values in columns.items()}
        for i, (step, name) in enumerate(zip(steps, names, strict=True))
    ]
    return evidence(weights=rows)


def test_gradients_out_of_turn_are_counted():
    steps, names = [1, 1, 2, 2], ["1.weight", "3.weight"] * 2
    good = weights(step=steps, weight=names, gradient=[0, 1, 1, 1])
    assert schicho_claims.wave_violations(good, "c", ["1", "3"]) == 0
    early = weights(step=steps, weight=names, gradient=[1e-30, 1, 1, 1])
    assert schicho_claims.wave_violations(early, "c", ["1", "3"]) == 1
    late = weights(step=steps, weight=names, gradient=[0, 1, 0, 1])
    assert schicho_claims.wave_violations(late, "c", ["1", "3"]) == 1
    assert math.isnan(schicho_claims.wave_violations(evidence(), "c", ["1", "3"]))


def test_ranks_and_their_falls():
    ranks = weights(step=[0, 9, 99], weight=[zero.MIDDLE] * 3, change_rank=[0, 100, 97])
    assert zero.largest_rank(ranks, "c") == 100
    assert zero.largest_rank(ranks, "c", until=0) == 0
    assert zero.largest_fall(ranks, "c") == pytest.approx(3.0)


def test_a_run_that_diverged_has_no_mean():
    assert results.mean_and_deviation([1.0, 3.0]) == (2.0, 1.0)
    assert all(map(math.isnan, results.mean_and_deviation([1.0, math.nan])))


def test_a_spread_takes_seeds_enough():
    rows = [
        {"cell": "c", "seed": str(seed), "limit": "", "test_accuracy": str(accuracy)}
        for seed, accuracy in enumerate((90, 92, 94, 92))
    ]
    assert evidence(runs=rows).spread("c", 4) == pytest.approx(2**0.5)
    assert math.isnan(evidence(runs=rows).spread("c", 5))


def test_losses_that_fall_and_diverge():
    def curve(*losses: float) -> Evidence:
        rows = [
            {"cell": "c", "seed": "0", "epoch": str(i), "train_loss": str(loss)}
            for i, loss in enumerate(losses)
        ]
        return evidence(epochs=rows)

    assert zero.loss_fell(curve(2.3, 2.5, 2.0), "c") == pytest.approx(0.3)
    assert zero.loss_fell(curve(2.3, math.nan), "c") == -math.inf


def test_what_constnet_is_held_against():
    found = weights(
        step=[1, 2, 200, 400],
        weight=[constnet.LAST] * 4,
        deviation=[0, 1e-7, 1e-3, 1e-2],
        forward_correlation=[1, 1, 0.9, 0.4],
    )
    assert constnet.grown(found, "c") == pytest.approx(1e4)
    assert constnet.largest_deviation(found, "c") == 1e-2
    assert constnet.correlation(found, "c", 400) == 0.4
    rows = [
        {"cell": "c", "seed": "0", "epoch": str(i / 2), "train_accuracy": str(a)}
        for i, a in enumerate((10, 49, 51, 60))
    ]
    assert constnet.epochs_to_half(evidence(epochs=rows), "c") == 1.0
    assert constnet.epochs_to_half(evidence(epochs=rows[:2]), "c") == math.inf
    assert math.isnan(constnet.later(evidence(epochs=rows[:2]), "c", "c"))
    other = {**rows[3], "cell": "d"}
    assert constnet.later(evidence(epochs=[*rows[:2], other]), "c", "d") == math.inf
    assert math.isnan(constnet.later(evidence(epochs=rows), "c", "d"))


def test_runs_of_two_kinds_differ():
    a, b = BackpropConfig(**TINY), RunConfig("DemoMNIST", "mnist")
    assert differences(a, b) == ["kind: 'backprop' there, 'softhebb' here"]
    assert differences(a, BackpropConfig(**TINY | {"device": "cuda"})) == []
    assert differences(a, BackpropConfig(**TINY | {"lr": 0.1})) == ["lr: 0.001 there, 0.1 here"]
    with pytest.raises(ValueError, match="runs of biases know nothing of backend, cache_gib"):
        EXPERIMENT.cells[0].config(0, backend="cpp", cache_gib=1)


def test_gpu_cells_run_on_a_gpu_alone(plain, tmp_path, root):
    cells = [EXPERIMENT.cells[1]]
    [outcome] = reproduce.reproduce(cells, [0], tmp_path, tmp_path, root=Path(root))
    assert outcome.row is None
    assert not list(tmp_path.iterdir())
