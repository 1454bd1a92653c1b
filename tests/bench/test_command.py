from __future__ import annotations

import pytest

from softhebb_fast import cli
from softhebb_fast.bench import rows, runner
from softhebb_fast.bench.cases import registry
from softhebb_fast.bench.providers import PROVIDERS, choose
from softhebb_fast.bench.runner import Failure, quantile
from softhebb_fast.bench.worker import Plan, Ready, Refused
from softhebb_fast.cli import bench
from softhebb_fast.cli.options.bench import add_options
from tests.bench.tiny import row

CASE = "mnist/layer1/b1"


def test_a_whole_run(tmp_path, capsys):
    """The one test with processes of their own."""
    csv, picture = tmp_path / "a.csv", tmp_path / "a.png"
    options = [CASE, "--providers", "tuned,products", "--threads", "1", "--rounds", "5"]
    assert cli.main(["bench", *options, "--csv", str(csv), "--plot", str(picture)]) == 0
    found = rows.read(csv)
    assert [(r.case, r.provider, r.threads, r.samples) for r in found] == [
        (CASE, "tuned", 1, 5),
        (CASE, "products", 1, 5),
    ]
    assert all(0 < r.q20 <= r.median <= r.q80 for r in found)
    assert found[0].flops == registry()[CASE].flops
    assert picture.read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "tuned" in out
    assert f"written: {csv}, {picture}" in out


def test_the_list(capsys):
    assert cli.main(["bench", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in [*registry(), *PROVIDERS])
    assert cli.main(["bench", "--list", "mnist/*"]) == 0
    assert "cifar10" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["cifar11/*"], "CASES must match a case"),
        (["--providers", "cuda"], "providers must be among"),
        (["--fail-above", "1.1"], "needs older results"),
        (["--threads", "0"], "--threads must be positive; got 0"),
        (["--compare", "nowhere.csv"], "nowhere.csv"),
        (["--device", "abacus"], "device must be usable here"),
    ],
)
def test_options_that_do_not_fit(options, words, capsys):
    assert cli.main(["bench", *options]) == 2
    assert words in capsys.readouterr().err


@pytest.fixture
def measured(monkeypatch):
    """Let the command believe that these rows and failures were measured."""

    def set_to(found, failures=()):
        monkeypatch.setattr(runner, "run", lambda case, *_: (list(found), list(failures)))

    return set_to


def test_a_provider_that_fails_the_gate_fails_the_command(measured, capsys):
    measured([row(case=CASE)], [Failure(CASE, "cpp", "output 1 is off", True)])
    assert cli.main(["bench", CASE]) == 1
    assert "cpp failed the gate and is not reported: output 1 is off" in capsys.readouterr().out


def test_a_provider_that_cannot_run_is_told_if_it_was_asked_for(measured, capsys):
    measured([row(case=CASE)], [Failure(CASE, "triton", "is for cuda tensors", False)])
    assert cli.main(["bench", CASE]) == 0
    assert "triton" not in capsys.readouterr().out
    assert cli.main(["bench", CASE, "--providers", "cpp,triton"]) == 1
    assert "triton left out: is for cuda tensors" in capsys.readouterr().out


def test_regressions(measured, tmp_path, capsys):
    old = tmp_path / "old.csv"
    rows.write(old, [row()])
    options = ["bench", CASE, "--compare", str(old)]
    measured([row(median=0.14, q20=0.12, q80=0.16)])
    assert cli.main(options) == 0
    assert "2.000" in capsys.readouterr().out
    assert cli.main([*options, "--fail-above", "1.5"]) == 1
    assert cli.main([*options, "--fail-above", "2.5"]) == 0
    measured([row(median=0.14, q20=0.05, q80=0.16)])
    assert cli.main([*options, "--fail-above", "1.5"]) == 0
    measured([row(case="mnist/step/b1")])
    assert cli.main(options) == 0
    assert "the older results have none of these cases" in capsys.readouterr().out


def test_results_are_added_to_the_file(measured, tmp_path):
    csv = tmp_path / "a.csv"
    rows.write(csv, [row(), row(provider="tuned")])
    measured([row(median=1.0, q20=1.0, q80=1.0)])
    assert cli.main(["bench", CASE, "--csv", str(csv)]) == 0
    assert [(r.provider, r.median) for r in rows.read(csv)] == [("cpp", 1.0), ("tuned", 0.07)]


def test_noise_is_told(measured, capsys):
    measured([row(q20=0.05, q80=0.09), row(provider="tuned", q20=0.07, q80=0.07)])
    assert cli.main(["bench", CASE]) == 0
    assert "1 of 2 medians are noisy" in capsys.readouterr().out


class Stub:
    """A worker that answers at once."""

    admitted: list[str] = []  # noqa: RUF012

    def __init__(self, case, provider, plan):
        assert not Stub.admitted  # all have started before the first is admitted
        self.case, self.provider = case, provider
        self.times = iter([3.0, 1.0, 2.0, 4.0, 5.0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def admit(self):
        Stub.admitted.append(self.provider)
        refused = {"published": Refused("wrong", True), "tuned": Refused("too long", False)}
        return refused.get(self.provider, Ready(1.0))

    def sample(self):
        return next(self.times)

    def finish(self):
        return 1 << 20


def test_turns_and_quantiles(monkeypatch):
    monkeypatch.setattr(runner, "_Worker", Stub)
    monkeypatch.setattr(Stub, "admitted", [])
    providers = choose(["published", "tuned", "compiled", "products", "triton"])
    found, failures = runner.run(
        [registry()[CASE]], providers, Plan(rounds=5, seconds=10.0), lambda text: None
    )
    assert [(r.provider, r.median, r.samples) for r in found] == [
        ("compiled", 3.0, 5),
        ("products", 3.0, 5),
    ]
    assert (found[0].q20, found[0].q80) == (pytest.approx(1.8), pytest.approx(4.2))
    assert Stub.admitted == ["published", "tuned", "compiled", "products"]
    assert failures == [
        Failure(CASE, "triton", "is for cuda tensors", False),
        Failure(CASE, "published", "wrong", True),
        Failure(CASE, "tuned", "too long", False),
    ]


def test_cases_that_are_compared_are_timed_by_turns(monkeypatch):
    cases = registry()
    hebb, oja = (cases[f"rules/{rule}/layer2/b10"] for rule in ("hebb", "oja"))
    alone, other = cases["rules/oja/layer2/b100"], cases[CASE]
    groups = runner.by_turns([hebb, other, alone, oja])
    assert groups == [[hebb, oja], [other], [alone]]
    order = []
    monkeypatch.setattr(runner, "_Worker", Stub)
    monkeypatch.setattr(Stub, "admitted", [])
    monkeypatch.setattr(Stub, "sample", lambda self: order.append(self.case.name) or 1.0)
    found, failures = runner.run(groups[0], choose(["fasthebb"]), Plan(rounds=5), lambda _: None)
    assert order == [hebb.name, oja.name] * 5
    assert [row.case for row in found] == [hebb.name, oja.name]
    assert failures == []


def test_what_a_process_said_before_it_ended_is_heard(monkeypatch):
    with runner._Worker(registry()[CASE], "no such provider", Plan()) as worker:
        worker.process.join()
        assert worker.admit() == Refused("KeyError: 'no such provider'", wrong=True)


def test_as_many_rounds_as_there_is_time_for():
    assert runner._rounds([1.0, 1.0], Plan(rounds=15, seconds=20.0)) == 10
    assert runner._rounds([100.0], Plan(seconds=20.0)) == 5
    assert runner._rounds([1e-6], Plan(rounds=15, seconds=20.0)) == 15
    assert runner._rounds([], Plan()) == 0


def test_what_does_not_fit_into_memory_is_left_out(monkeypatch):
    monkeypatch.setattr(runner.memory, "free_bytes", lambda device: 1 << 30)
    found, failures = runner.run(
        [registry()["cifar10/step/b1000"]], choose(["cpp"]), Plan(), lambda text: None
    )
    assert found == []
    assert failures[0].reason.startswith("would need about 6.4 GiB in all, and 1.0 GiB are free")


@pytest.mark.parametrize(("q", "value"), [(0.0, 1.0), (0.5, 2.5), (0.2, 1.6), (1.0, 4.0)])
def test_quantiles_between_values(q, value):
    assert quantile([4.0, 1.0, 3.0, 2.0], q) == pytest.approx(value)


def test_quick_is_quick():
    plan = bench._plan(_options("--quick", "--device", "cpu"))
    assert (plan.rounds, plan.seconds) == (7, 10.0)
    assert bench._plan(_options()).rounds == 15


def _options(*arguments):
    import argparse

    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(arguments)
