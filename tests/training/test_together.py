"""Runs that learn together leave what they leave alone."""

from __future__ import annotations

import re
from collections import Counter
from itertools import count, pairwise
from types import SimpleNamespace

import pytest
import torch

from softhebb_fast.data import permutation
from softhebb_fast.files import LOCK
from softhebb_fast.models import SideBySide, build
from softhebb_fast.training import metrics
from softhebb_fast.training import together as learning
from softhebb_fast.training.config import RunConfig
from softhebb_fast.training.finite import NotFinite
from softhebb_fast.training.hebbian_stage import HebbianStage
from softhebb_fast.training.joined import JoinedGraphSteps, JoinedStage, JoinedSteps
from softhebb_fast.training.loop import Interrupted
from softhebb_fast.training.reporter import Reporter
from softhebb_fast.training.stage import BatchSource
from softhebb_fast.training.together import learn_together
from softhebb_fast.training.trainer import Trainer
from tests.capture_safety import CUDA, CaptureSafety, fake_cuda, on_fake_cuda
from tests.tiny import snapshot, trainer, write_mnist_subset
from tests.tolerances import TOLERANCES, assert_close
from tests.training.test_steps import DECAYING, NET, Rehearsal, hebbian, images, made

SEEDS = (0, 1, 4)
TINY = {"preset": "4SoftHebbCnnCIFAR", "limit": 80}
TOL = TOLERANCES["float32_run"]


class Said(Reporter):
    def __init__(self):
        self.lines, self.titles = [], []

    def say(self, text):
        self.lines.append(text)

    def begin(self, title, total, done=0, unit="img"):
        self.titles.append(title)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mnist_subset(tmp_path_factory.mktemp("data"), 100)


def runs(folder, root, reporter=None, **changes):
    return [
        trainer(folder / str(seed), root, reporter, seed=seed, **TINY | changes) for seed in SEEDS
    ]


def stop_after(monkeypatch, run, steps, look=lambda: None):
    """Ask ``run`` to stop after so many joint steps of all; ``look`` is called after each."""
    learn, made = JoinedStage.learn, count(1)

    def learn_and_ask(stage, x, labels):
        learn(stage, x, labels)
        look()
        run.stop_requested = next(made) == steps

    monkeypatch.setattr(JoinedStage, "learn", learn_and_ask)


def assert_same_run(together, alone, tol=TOL):
    for name, value in alone.net.state_dict().items():
        assert_close(together.net.state_dict()[name], value, tol)
    assert [row.keys() for row in together.rows] == [row.keys() for row in alone.rows]
    for ours, theirs in zip(together.rows, alone.rows, strict=True):
        assert ours["phase"] == theirs["phase"]
        for key in ours.keys() - {"seconds", "phase"}:
            assert ours[key] == pytest.approx(theirs[key], rel=tol)


@pytest.mark.parametrize("mode", ["successive", "consecutive"])
def test_runs_together_are_runs_alone(mode, root, tmp_path):
    said = Said()
    together = runs(tmp_path / "a", root, said, mode=mode)
    learn_together(together)
    assert {run.place for run in together} == {(3 if mode == "successive" else 1, 0, 0)}
    assert said.lines == ["seeds 0, 1, 4 learn in the same steps"]
    assert said.titles.count("layer 1") == (mode == "successive")  # not once a run
    for run in together:
        run.run()
    for ours in together:
        theirs = trainer(
            tmp_path / f"b{ours.config.seed}", root, **TINY, mode=mode, seed=ours.config.seed
        )
        theirs.run()
        assert_same_run(ours, theirs)
        files = [{file.name for file in run.out.iterdir()} for run in (ours, theirs)]
        assert files[0] == files[1]
        assert len(metrics.read_csv(ours.out)) == len(metrics.read_csv(theirs.out))
    for one, other in pairwise(together):
        assert not torch.equal(one.net.blocks[0].layer.weight, other.net.blocks[0].layer.weight)


WHITENED = (
    "softkrotov-c8-k5-p2-t4-lr0.04-lp0.5-r3:whiten-e0.02-n0.00015:triangle_1:avg_3_2_1 "
    "softkrotov-c16-k3-t4-lr0.04-lp0.5-r3:whiten-e1-n0.001:split_1 BP"
)
OF_THEIR_OWN = {
    "starts": [{}, {"init": "patches"}, {"init": "random_binary"}],
    "temperatures": [
        {
            "neuron_factor": 1.0,
            "preset": f"softkrotov-c8-k5-p2-t{t}-lr0.05:triangle_1:max_4_2_1 "
            f"softkrotov-c16-k3-p1-t{1 + t}-lr0.05:triangle_1 BP",
        }
        for t in (1, 6, 0.5)
    ],
    "rates": [
        {
            "neuron_factor": 1.0,
            "preset": f"softkrotov-c8-k5-p2-t1-lr{lr}:triangle_1:max_4_2_1 "
            f"softkrotov-c16-k3-p1-t1-lr{lr / 2}-r{radius}:triangle_1 BP",
        }
        for lr, radius in ((0.05, 25), (0.01, 5), (0.1, 25))
    ],
}


def test_whitened_layers_that_start_from_patches_learn_together(root, tmp_path):
    said = Said()
    options = {"preset": WHITENED, "init": "patches", "neuron_factor": 1.0}
    together = runs(tmp_path / "a", root, said, **options)
    learn_together(together)
    assert {run.place for run in together} == {(6, 0, 0)}
    assert said.titles.count("layer 2") == 1
    for ours in together:
        ours.run()
        seed = ours.config.seed
        theirs = trainer(tmp_path / f"b{seed}", root, **TINY | options, seed=seed)
        theirs.run()
        assert_same_run(ours, theirs)


@pytest.mark.parametrize("name", OF_THEIR_OWN)
def test_runs_of_their_own_starts_rates_and_temperatures(name, root, tmp_path):
    said = Said()
    options = [TINY | {"seed": seed} | own for seed, own in enumerate(OF_THEIR_OWN[name])]
    together = [trainer(tmp_path / f"a{i}", root, said, **own) for i, own in enumerate(options)]
    learn_together(together)
    assert said.lines == [
        f"the runs in {', '.join(str(run.out) for run in together)} learn in the same steps"
    ]
    assert said.titles.count("layer 2") == 1
    for i, own in enumerate(options):
        together[i].run()
        theirs = trainer(tmp_path / f"b{i}", root, **own)
        theirs.run()
        assert_same_run(together[i], theirs)


def test_rates_that_decay_must_agree(root, tmp_path):
    said = Said()
    presets = (f"softkrotov-c8-k5-p2-t1-lr{lr}-v0:triangle_1 BP" for lr in (0.05, 0.01))
    together = [
        trainer(tmp_path / str(i), root, said, **TINY | {"preset": p, "neuron_factor": 1.0})
        for i, p in enumerate(presets)
    ]
    learn_together(together)
    assert any("rates that decay must agree" in line for line in said.lines)
    assert {run.place for run in together} == {(0, 0, 0)}


def test_stopped_runs_go_on_together_bit_by_bit(root, tmp_path, monkeypatch):
    whole = runs(tmp_path / "a", root)
    learn_together(whole)
    stopped = runs(tmp_path / "b", root)
    stop_after(monkeypatch, stopped[0], 7)  # in the second layer
    with pytest.raises(Interrupted):
        learn_together(stopped)
    assert {run.place for run in stopped} == {(1, 0, 2)}
    resumed = [Trainer.resume(run.out) for run in stopped]
    assert {run.place for run in resumed} == {(1, 0, 2)}
    learn_together(resumed)
    for ours, theirs in zip(resumed, whole, strict=True):
        for name, value in snapshot(theirs.net).items():
            assert torch.equal(ours.net.state_dict()[name], value)
        assert [r | {"seconds": 0} for r in ours.rows] == [r | {"seconds": 0} for r in theirs.rows]


def test_the_classifier_draws_what_it_draws_alone(root, tmp_path):
    """Dropout follows the run's own random state, not that of the run before."""
    together = runs(tmp_path / "a", root, unsup_epochs=0)
    learn_together(together)
    for run in together:
        run.run()
    for ours in together:
        theirs = trainer(
            tmp_path / f"b{ours.config.seed}", root, seed=ours.config.seed, **TINY, unsup_epochs=0
        )
        theirs.run()
        for name, value in snapshot(theirs.net).items():
            assert torch.equal(ours.net.state_dict()[name], value)


def test_what_cannot_stand_side_by_side_is_left_to_each(root, tmp_path):
    said = Said()
    together = runs(tmp_path, root, said, preset="3SoftHebbCnnCIFAR")
    learn_together(together)
    assert {run.place for run in together} == {(1, 0, 0)}
    assert [line for line in said.lines if "pre_triangle" in line]
    together[0].run()
    assert together[0].finished


def test_runs_at_different_places_stay_there(root, tmp_path):
    together = runs(tmp_path, root)
    together[0].run()
    learn_together(together)
    assert [run.place for run in together[1:]] == [(0, 0, 0)] * 2


@pytest.mark.parametrize(
    ("device", "wanted", "gib"), [("cpu", 8.0, 2.0), ("cuda", 8.0, 6.0), ("cuda", 3.0, 3.0)]
)
def test_features_have_the_room_that_goes_round(device, wanted, gib, monkeypatch):
    memory = SimpleNamespace(total_memory=40 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    on = SimpleNamespace(device=torch.device(device))
    run = SimpleNamespace(config=SimpleNamespace(cache_gib=wanted), train_set=on)
    assert learning._cache_of_each([run] * 4) == pytest.approx(gib)


def test_runs_that_differ_are_refused(root, tmp_path):
    one = trainer(tmp_path / "a", root, **TINY)
    with pytest.raises(ValueError, match="runs must be two at least"):
        learn_together([one])
    other = trainer(tmp_path / "b", root, seed=1, **TINY | {"unsup_batch": 8})
    with pytest.raises(ValueError, match="runs must differ in their seeds, starts, rates and temp"):
        learn_together([one, other])


def test_a_step_on_cuda_is_that_of_one_network_and_waits_for_nothing():
    joint = SideBySide([made(NET) for _ in range(3)])
    with fake_cuda():
        stages = [hebbian(images(CUDA, True), NET, on_fake_cuda) for _ in range(3)]
        stage = JoinedStage(on_fake_cuda(joint), stages)
        steps = JoinedGraphSteps(stage, pytest.fail, Rehearsal())
        with CaptureSafety() as safety:
            steps.work()
    own = Counter(name for name in safety.seen if name.startswith("softhebb_fast"))
    assert own["softhebb_fast.gather.default"] == 3
    assert own["softhebb_fast.batch_norm.default"] == 3
    assert sum(n for name, n in own.items() if name.endswith("_step_.default")) == 3
    assert sum(own.values()) == 9
    assert safety.seen.count("aten.cat.default") == 1
    assert stage.why_not_capture() is None


@pytest.mark.parametrize("preset", [NET, DECAYING], ids=["constant", "decaying"])
@pytest.mark.parametrize("below", [0, 1])
def test_replayed_steps_are_launched_steps(below, preset):
    source, found = images(), []
    for kind in (JoinedSteps, JoinedGraphSteps):
        nets = []
        for seed in range(3):
            torch.manual_seed(seed)
            nets.append(build(preset, (3, 32, 32), 10))
        stages = [
            HebbianStage(net, BatchSource(source, list(net.blocks[:below])), source, [below], 2, 4)
            for net in nets
        ]
        stage = JoinedStage(SideBySide(nets, below, below), stages)
        recorder = Rehearsal()
        given = () if kind is JoinedSteps else (lambda text: None, recorder)
        walker, counts = kind(stage, *given), []
        for epoch in range(2):
            orders = [permutation(len(source), seed, epoch) for seed in range(3)]
            counts += walker.walk(torch.stack(orders, dim=1), 0, epoch * stage.per_epoch)
        assert sum(counts) == 2 * len(source)
        assert kind is JoinedSteps or recorder.replays
        for member in stages:
            member.state_dict()
        found.append([net.state_dict() for net in nets])
    for launched, replayed in zip(*found, strict=True):
        for name, value in launched.items():
            assert torch.equal(value, replayed[name]), name


FIRST = "softkrotov-c8-k5-p2-t1-lr0.05:triangle_1:max_4_2_1"
MANY = {"preset": f"{FIRST} BP", "limit": 96, "unsup_batch": 2, "neuron_factor": 1.0}


def test_symmetry_is_recorded_of_each_run_as_it_is(root, tmp_path):
    """Of more steps than there are figures in an epoch."""
    asked = {**MANY, "symmetry_steps": (1, 3, 7, 15, 33, 40)}
    together, alone = (runs(tmp_path / name, root, **asked) for name in "ab")
    learn_together(together)
    for run in (*together, *alone):
        run.run()
    for ours, theirs in zip(together, alone, strict=True):
        assert len(ours.symmetry.rows) == len(theirs.symmetry.rows) > 6
        for found, row in zip(ours.symmetry.rows, theirs.symmetry.rows, strict=True):
            assert found.keys() == row.keys()
            for name, value in row.items():
                assert found[name] == (pytest.approx(value, rel=TOL) if name != "weight" else value)


def test_the_batch_that_ends_a_run_is_named_as_alone(root, tmp_path):
    broken = {**MANY, "preset": f"{FIRST.replace('lr0.05', 'lr2e5')} BP"}
    for run in (alone := runs(tmp_path / "a", root, **broken)):
        with pytest.raises(NotFinite) as reason:
            run.run()
        if run is alone[0]:
            wanted = re.search(r"batch \d+ of \d+ of epoch \d+", str(reason.value)).group()
    assert not wanted.startswith("batch 1 ")
    with pytest.raises(NotFinite, match=wanted):
        learn_together(runs(tmp_path / "b", root, **broken))


def test_any_run_may_be_asked_to_stop(root, tmp_path):
    together = runs(tmp_path, root, **MANY)
    together[2].stop_requested = True
    with pytest.raises(Interrupted):
        learn_together(together)
    assert len({run.place for run in together}) == 1
    assert not together[0].finished


def test_runs_that_were_stopped_go_on_in_memory_and_hold_their_folders(root, tmp_path, monkeypatch):
    whole = runs(tmp_path / "a", root)
    learn_together(whole)
    stopped, seen = runs(tmp_path / "b", root), []
    stop_after(monkeypatch, stopped[1], 3, lambda: seen.append([holds(run.out) for run in stopped]))
    with pytest.raises(Interrupted):
        learn_together(stopped)
    learn_together(stopped)
    assert len(seen) > 6
    assert all(map(all, seen))
    assert not any(holds(run.out) for run in stopped)
    for ours, theirs in zip(stopped, whole, strict=True):
        for name, value in snapshot(theirs.net).items():
            assert torch.equal(ours.net.state_dict()[name], value)


def holds(folder):
    """Whether a process keeps others off ``folder``."""
    return (folder / LOCK).exists()


def test_rates_that_a_stop_left_are_not_those_of_neurons(root, tmp_path, monkeypatch):
    config = {**MANY, "preset": f"{FIRST.replace('lr0.05', 'lr0.05-v0')} BP"}
    whole = runs(tmp_path / "a", root, **config)
    learn_together(whole)
    stopped = runs(tmp_path / "b", root, **config)
    stop_after(monkeypatch, stopped[0], 4)
    with pytest.raises(Interrupted):
        learn_together(stopped)
    mixed = [stopped[0], *(Trainer.resume(run.out) for run in stopped[1:])]
    learn_together(mixed)
    for ours, theirs in zip(mixed, whole, strict=True):
        assert torch.equal(ours.net.blocks[0].layer.weight, theirs.net.blocks[0].layer.weight)


def test_what_is_no_run_or_of_other_data_is_refused(root, tmp_path):
    one, other = runs(tmp_path / "a", root)[:2]
    with pytest.raises(ValueError, match="got one twice"):
        learn_together([one, one])
    with pytest.raises(TypeError, match="runs must be Trainers; got str"):
        learn_together([one, "a run"])
    labels = torch.arange(40) % 3
    own = {"dataset": "mine", "preset": f"{FIRST} BP", "device": "cpu"}
    made = [
        Trainer(
            RunConfig(**own, seed=i),
            tmp_path / f"own{i}",
            train=(torch.rand(40, 1, 12, 12), labels),
            test=(torch.rand(40, 1, 12, 12), labels),
        )
        for i in range(2)
    ]
    with pytest.raises(ValueError, match="runs must have the same data"):
        learn_together(made)
    assert {run.place for run in (one, other, *made)} == {(0, 0, 0)}
