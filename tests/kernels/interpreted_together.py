"""The classifiers of several runs in the same launches, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast.data import permutation
from softhebb_fast.training import fused_classifier
from softhebb_fast.training.fused_classifier import ClassifierStage, ClassifierSteps
from softhebb_fast.training.joined_classifier import JoinedClassifierStage
from softhebb_fast.training.loop import Interrupted
from softhebb_fast.training.together import learn_together
from softhebb_fast.training.trainer import Trainer
from tests.kernels import interpreter_fix  # noqa: F401
from tests.kernels.interpreted_classifier import Again, stage
from tests.tiny import snapshot, trainer, write_mnist_subset

SEEDS = (0, 1, 4)
RUN = {
    "preset": "softkrotov-c4-k5-s2-t1:triangle_1:avg_6_6_0 bp-lr0.01:dropout_0.3",
    "neuron_factor": 1.0,
    "limit": 45,
    "unsup_batch": 15,
    "probe_batch": 4,
    "probe_epochs": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_joint_steps_have_the_bits_of_single_ones(layout):
    alone, given = ([stage(ClassifierStage, layout, 0.3, seed) for seed in SEEDS] for _ in range(2))
    joint = JoinedClassifierStage([lambda member=member: member for member in given])
    capture = Again()
    walker = ClassifierSteps(joint, capture, pytest.fail)
    walkers = [ClassifierSteps(member, None, pytest.fail) for member in alone]
    for epoch in range(2):
        orders = [permutation(71, seed, epoch) for seed in SEEDS]
        first = epoch * joint.per_epoch
        assert sum(walker.walk(torch.stack(orders, dim=1), 0, first)) == 71
        for own, order in zip(walkers, orders, strict=True):
            list(own.walk(order, 0, first))
        for member, own in zip(joint.members, alone, strict=True):
            assert member.end_epoch(epoch + 1) == own.end_epoch(epoch + 1)
    assert capture.replays == 1
    assert joint.title == "classifier of 3 runs"
    for member, own in zip(joint.members, alone, strict=True):
        state = member.state_dict()
        for name, value in own.state_dict().items():
            assert torch.equal(state[name], value), name
            assert state[name].untyped_storage().nbytes() == value.untyped_storage().nbytes()
        assert torch.equal(member.linear.weight, own.linear.weight)
        images, wanted = member.inputs.source.images, own.inputs.source.images
        assert torch.equal(images, wanted)
        assert images.stride() == wanted.stride()
        assert images.untyped_storage().data_ptr() == joint.x.untyped_storage().data_ptr()
    assert not torch.equal(alone[0].linear.weight, alone[1].linear.weight)


@pytest.fixture
def fused(monkeypatch):
    """All linear classifiers learn by the kernels, also on the CPU."""
    monkeypatch.setattr(fused_classifier, "fits", lambda head, device, backend: True)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_mnist_subset(tmp_path_factory.mktemp("data"), 60)


def runs(folder, root, **changes):
    return [trainer(folder / str(seed), root, seed=seed, **RUN | changes) for seed in SEEDS]


def test_runs_together_come_to_the_end_that_they_come_to_alone(fused, root, tmp_path):
    together, alone = runs(tmp_path / "a", root), runs(tmp_path / "b", root)
    learn_together(together)
    assert all(run.finished for run in together)
    for ours, theirs in zip(together, alone, strict=True):
        summary = ours.run()  # makes no step
        assert summary["test_accuracy"] == theirs.run()["test_accuracy"]
        assert [row | {"seconds": 0} for row in ours.rows] == [
            row | {"seconds": 0} for row in theirs.rows
        ]
        for name, value in snapshot(theirs.net).items():
            assert torch.equal(ours.net.state_dict()[name], value), name
        again = Trainer.resume(ours.out)
        assert again.finished
        assert torch.equal(again.net.head[-1].weight, theirs.net.head[-1].weight)


@pytest.mark.slow
@pytest.mark.parametrize("goes_on", ["together", "alone"])
def test_a_joint_classifier_that_was_stopped_goes_on(fused, goes_on, root, tmp_path, monkeypatch):
    whole, stopped = runs(tmp_path / "a", root), runs(tmp_path / "b", root)
    learn_together(whole)
    learn, steps = ClassifierStage.learn_rows, []

    def stop_in_the_second_epoch(stage, *given):
        learn(stage, *given)
        steps.append(stage)
        stopped[0].stop_requested = len(steps) == 17

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierStage, "learn_rows", stop_in_the_second_epoch)
        with pytest.raises(Interrupted):
            learn_together(stopped)
    assert {run.place for run in stopped} == {(1, 1, 5)}
    resumed = [Trainer.resume(run.out) for run in stopped]
    if goes_on == "together":
        learn_together(resumed)
    for ours, theirs in zip(resumed, whole, strict=True):
        ours.run()
        assert [row | {"seconds": 0} for row in ours.rows] == [
            row | {"seconds": 0} for row in theirs.rows
        ]
        for name, value in snapshot(theirs.net).items():
            assert torch.equal(ours.net.state_dict()[name], value), name


def test_classifiers_whose_features_have_no_room_are_left_to_each(fused, root, tmp_path):
    together = runs(tmp_path, root, cache_gib=1e-6)
    learn_together(together)
    assert {run.place for run in together} == {(1, 0, 0)}


def test_what_is_not_finite_is_told_of_its_own_run(fused, root, tmp_path, monkeypatch):
    together = runs(tmp_path, root)
    begin = together[1].begin_stage

    def spoilt():
        found = begin()
        if isinstance(found, ClassifierStage):
            found.state.weight_square[0, 2, 3] = float("nan")
        return found

    monkeypatch.setattr(together[1], "begin_stage", spoilt)
    with pytest.raises(ValueError, match=r"the classifier \(head.2.weight\) became infinite"):
        learn_together(together)
