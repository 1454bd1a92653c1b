"""Replayed steps are launched steps, and nothing in them waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from softhebb_fast.data import ImageSet, RandomCropFlip, permutation
from softhebb_fast.models import SoftHebbNet, build
from softhebb_fast.nn import Triangle
from softhebb_fast.presets import Preset, get_preset, parse_network
from softhebb_fast.training import steps
from softhebb_fast.training.capture import GraphCapture
from softhebb_fast.training.features import FeatureSet
from softhebb_fast.training.hebbian_stage import HebbianStage
from softhebb_fast.training.stage import BatchSource, Stage
from softhebb_fast.training.steps import EagerSteps, GraphSteps, runner
from softhebb_fast.training.supervised_stage import SupervisedStage
from tests.capture_safety import CUDA, CaptureError, CaptureSafety, fake_cuda, on_fake_cuda
from tests.data.writers import with_tensors

NET = get_preset("4SoftHebbCnnCIFAR", neuron_factor=0.1)
LABELS = get_preset("4SoftHebbCnnCIFAR_HebbClassifier", neuron_factor=0.1)
IMAGES, BATCH, EPOCHS = 26, 4, 2  # six full batches and one of two


def scheduled(preset: Preset, schedule: str) -> Preset:
    return replace(preset, layers=tuple(replace(x, schedule=schedule) for x in preset.layers))


DECAYING = scheduled(NET, "linear")


class Rehearsal(GraphCapture):
    """A recorder for any device: what it records is done again at every replay."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.launches, self.records, self.replays = fails, 0, 0, 0

    def launch(self, work: Callable[[], None]) -> None:
        self.launches += 1
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.records += 1
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")

        def replay():
            self.replays += 1
            work()

        return replay


def images(device: torch.device | str = "cpu", normalised: bool = False) -> ImageSet:
    def tensors() -> tuple[Tensor, Tensor]:
        pixels = torch.arange(IMAGES * 3 * 32 * 32, dtype=torch.int64, device=device) * 7919 % 256
        return pixels.to(torch.uint8).view(IMAGES, 3, 32, 32), torch.arange(
            IMAGES, device=device
        ) % 10

    constants = ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2)) if normalised else (None, None)
    given = tensors()
    if not isinstance(given[0], FakeTensor) and not given[0].is_meta:
        return ImageSet("made", "train", *given, tuple("0123456789"), *constants)
    with unset_fake_temporarily():  # a set reads its labels
        made = images("cpu", normalised)
    return with_tensors(made, *given)


def floats() -> ImageSet:
    """The normalised images as floats: the same batches but for the place of the division."""
    made = images(normalised=True)
    return replace(made, images=made.images / 255)


def features(device: torch.device | str = "cpu") -> FeatureSet:
    drawn = torch.randn(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return FeatureSet(drawn.to(device, torch.bfloat16), torch.arange(IMAGES, device=device) % 10)


def made(preset: Preset) -> SoftHebbNet:
    torch.manual_seed(0)
    with unset_fake_temporarily():
        return build(preset, (3, 32, 32), 10)


def hebbian(source: ImageSet, preset: Preset = NET, move=lambda net: net, trained=(0, 1, 2)):
    net = move(made(preset))
    inputs = BatchSource(source, [*net.blocks[: trained[0]]])
    return HebbianStage(net, inputs, source, [*trained], EPOCHS, BATCH)


def supervised(source, preset: Preset = NET, move=lambda net: net, together: bool = False):
    """The classifier on images seen by frozen blocks, or with all blocks learning too."""
    net = move(made(preset))
    frozen = 0 if together else len(net.blocks)
    inputs = BatchSource(source, [*net.blocks[:frozen]])
    arguments = (net, inputs, inputs, source, frozen, 4 * EPOCHS, BATCH, 8, together)
    return SupervisedStage(*arguments)


def walk(steps: EagerSteps, stage: Stage) -> list[int]:
    counts = []
    for epoch in range(EPOCHS):
        order = permutation(IMAGES, 0, epoch)
        counts += steps.walk(order, 0, 7 * epoch, (0, epoch))
    return counts


def state(stage: Stage) -> dict[str, Tensor]:
    found = dict(stage.net.state_dict())
    if isinstance(stage, SupervisedStage):
        found |= {name: getattr(stage, name) for name in ("loss", "correct", "seen")}
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda: hebbian(images()),
        lambda: hebbian(images(normalised=True), trained=(1,)),
        lambda: hebbian(floats(), trained=(1,)),
        lambda: supervised(images()),
        lambda: supervised(images(), together=True),
        lambda: supervised(images(), scheduled(LABELS, "constant")),
        lambda: hebbian(images(), DECAYING),
        lambda: supervised(images(), scheduled(LABELS, "exponential")),
    ],
    ids=[
        "hebbian",
        "one layer",
        "floats",
        "classifier",
        "together",
        "labels",
        "linear",
        "exponential",
    ],
)
def test_replayed_steps_are_launched_steps(make):
    launched, replayed, recorder = make(), make(), Rehearsal()
    torch.manual_seed(1)
    expected = walk(EagerSteps(launched), launched)
    torch.manual_seed(1)
    assert walk(GraphSteps(replayed, pytest.fail, recorder), replayed) == expected
    assert expected == [4, 4, 4, 4, 4, 4, 2] * EPOCHS
    assert (recorder.launches, recorder.records, recorder.replays) == (3, 1, 9)
    for name, value in state(launched).items():
        assert torch.equal(value, state(replayed)[name]), name


@pytest.mark.parametrize(
    ("make", "marks", "counts", "records"),
    [
        (lambda: supervised(images()), [], [4, 4, 4, 8, 4, 2, 8, 8, 8, 2], 2),
        (lambda: hebbian(images()), [4], [4, 4, 4, 4, 8, 2, 8, 8, 8, 2], 2),
        (lambda: hebbian(images()), [3], [4, 4, 4, 8, 4, 2, 8, 4, 8, 4, 2], 2),
        (
            lambda: hebbian(images(), DECAYING),
            [],
            [4, 4, 4, 8, 4, 2, 8, 8, 8, 2],
            2,
        ),
    ],
)
def test_graphs_of_several_steps_end_where_something_is_recorded(
    make, marks, counts, records, monkeypatch
):
    monkeypatch.setattr(steps, "STEPS", 2)
    launched, replayed, recorder = make(), make(), Rehearsal()
    replayed.marks = marks
    torch.manual_seed(1)
    walk(EagerSteps(launched), launched)
    torch.manual_seed(1)
    assert walk(GraphSteps(replayed, pytest.fail, recorder), replayed) == counts
    assert recorder.records == records  # of one step and of two
    for name, value in state(launched).items():
        assert torch.equal(value, state(replayed)[name]), name


def test_a_walk_that_begins_in_the_middle():
    launched, replayed, recorder = hebbian(images()), hebbian(images()), Rehearsal()
    order = permutation(IMAGES, 3)
    assert [*EagerSteps(launched).walk(order, 2)] == [4, 4, 4, 4, 2]
    assert [*GraphSteps(replayed, pytest.fail, recorder).walk(order, 2)] == [4, 4, 4, 4, 2]
    assert recorder.replays == 1
    for name, value in state(launched).items():
        assert torch.equal(value, state(replayed)[name]), name


def test_a_new_rate_is_captured_anew():
    stage, recorder = supervised(features()), Rehearsal()
    steps = GraphSteps(stage, pytest.fail, recorder)
    walk(steps, stage)
    stage.optimizer.param_groups[0]["lr"] /= 2
    walk(steps, stage)
    assert (recorder.launches, recorder.records, recorder.replays) == (3, 2, 21)


def test_a_capture_that_fails_is_announced_and_steps_are_launched():
    launched, replayed, recorder, said = hebbian(images()), hebbian(images()), Rehearsal(True), []
    walk(EagerSteps(launched), launched)
    walk(GraphSteps(replayed, said.append, recorder), replayed)
    assert (recorder.launches, recorder.records, recorder.replays) == (12, 1, 0)
    assert said == [
        "the steps of layer 1, 2, 3 are launched one by one, not replayed from a CUDA graph: its "
        "capture failed (operation not permitted when stream is capturing)"
    ]
    for name, value in state(launched).items():
        assert torch.equal(value, state(replayed)[name]), name


def hooked(stage: Stage) -> None:
    stage.net.blocks[0].register_forward_hook(lambda *_: None)


def hooked_before_backward(stage: Stage) -> None:
    stage.net.blocks[0].pool.register_full_backward_pre_hook(lambda *_: None)


class OwnTriangle(Triangle):
    def forward(self, u: Tensor) -> Tensor:
        return super().forward(u)


def of_a_class_of_its_own(stage: Stage) -> None:
    stage.net.blocks[1].activation = OwnTriangle()


def by_its_own_forward(stage: Stage) -> None:
    stage.net.blocks[1].norm.forward = lambda x: x


def by_optimizer(stage: Stage) -> None:
    stage.net.blocks[0].layer.update = "grad"


def by_reference(stage: Stage) -> None:
    stage.net.blocks[2].layer.backend = "reference"


def by_another_tie_rule(stage: Stage) -> None:
    stage.net.blocks[1].layer.tie_rule = "spread"


def augmented(stage: Stage) -> None:
    stage.inputs.augment = RandomCropFlip()


@pytest.mark.parametrize(
    ("preset", "change", "reason"),
    [
        (NET, hooked, "a module has hooks, which a replay would not call"),
        (NET, hooked_before_backward, "a module has hooks, which a replay would not call"),
        (
            NET,
            of_a_class_of_its_own,
            "a replay would not call the forward of OwnTriangle, which is its own",
        ),
        (
            NET,
            by_its_own_forward,
            "a replay would not call the forward of BatchNorm2d, which is its own",
        ),
        (NET, by_optimizer, "a layer hands its update to an optimizer (update='grad')"),
        (NET, by_reference, "a layer learns by the backend 'reference'"),
        (NET, by_another_tie_rule, "a layer learns by the backend 'reference'"),
        (NET, augmented, "the images are augmented with random numbers of the CPU"),
    ],
)
def test_what_cannot_be_captured_is_launched_with_the_reason(preset, change, reason):
    said = []
    with fake_cuda():
        stage = hebbian(images(CUDA), preset, on_fake_cuda)
        change(stage)
        assert type(runner(stage, said.append)) is EagerSteps
    assert said == [
        "the steps of layer 1, 2, 3 are launched one by one, not replayed from a CUDA graph: "
        + reason
    ]


def test_the_published_net_is_replayed_on_cuda_unless_forbidden(monkeypatch):
    monkeypatch.setattr(steps, "GraphCapture", lambda device: Rehearsal())
    with fake_cuda():
        stage = hebbian(images(CUDA), NET, on_fake_cuda)
        assert type(runner(stage, pytest.fail)) is GraphSteps
        assert type(runner(supervised(images(CUDA), NET, on_fake_cuda), pytest.fail)) is GraphSteps
        monkeypatch.setenv(steps.VARIABLE, "0")
        assert type(runner(stage, pytest.fail)) is EagerSteps
        monkeypatch.setenv(steps.VARIABLE, "yes")
        with pytest.raises(ValueError, match="SOFTHEBB_FAST_GRAPHS must be 0 or 1; got 'yes'"):
            runner(stage)


def test_steps_on_the_cpu_are_launched_in_silence():
    assert type(runner(hebbian(images()), pytest.fail)) is EagerSteps


@pytest.mark.parametrize("normalised", [False, True])
def test_a_hebbian_step_does_not_wait_for_the_device(normalised):
    with fake_cuda():
        stage = hebbian(images(CUDA, normalised), NET, on_fake_cuda)
        steps = GraphSteps(stage, pytest.fail, Rehearsal())
        with CaptureSafety() as safety:
            steps.work()
    own = [name for name in safety.seen if name.startswith("softhebb_fast")]
    assert sum(name.endswith("_step_.default") for name in own) == 3
    assert own.count("softhebb_fast.batch_norm.default") == 3
    assert own.count("softhebb_fast.gather.default") == 1
    assert len(own) == 7
    assert not any(
        "batch_norm" in name or "index" in name for name in safety.seen if name not in own
    )


@pytest.mark.parametrize("kind", ["images", "features", "labels"])
def test_a_classifiers_step_does_not_wait_for_the_device(kind, monkeypatch):
    """On the device ``meta``: autograd asks a CUDA device for its streams, even of fake tensors."""
    adam = import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_get_capturable_supported_devices", lambda: ["meta"])
    source = (features if kind == "features" else images)("meta")
    preset = scheduled(LABELS, "constant") if kind == "labels" else NET
    stage = supervised(source, preset, lambda net: net.to("meta"))
    stage.optimizer.param_groups[0]["capturable"] = True
    steps = GraphSteps(stage, pytest.fail, Rehearsal())
    for _ in range(2):  # the first makes the optimizer's state
        with CaptureSafety() as safety:
            steps.work()
    assert "aten.sqrt.default" in safety.seen or kind == "labels"


def value(w: Tensor) -> None:
    w.sum().item()


def comparison(w: Tensor) -> None:
    bool(w.max() > 0)


def mask(w: Tensor) -> None:
    torch.ops.aten.index.Tensor(w, [w > 0])


def write_by_mask(w: Tensor) -> None:
    torch.ops.aten.index_put_.default(w, [w > 0], w.max())


def places(w: Tensor) -> None:
    torch.ops.aten.nonzero.default(w)


def download(w: Tensor) -> None:
    w.cpu()


def upload(w: Tensor) -> None:
    torch.zeros(3).to(w.device)


@pytest.mark.parametrize(
    "waits", [value, comparison, mask, write_by_mask, places, download, upload]
)
def test_the_mode_catches_what_waits(waits, monkeypatch):
    learn = HebbianStage.learn

    def learn_and_wait(self, x, labels):
        learn(self, x, labels)
        waits(self.net.blocks[0].layer.weight.detach())

    monkeypatch.setattr(HebbianStage, "learn", learn_and_wait)
    with fake_cuda():
        steps = GraphSteps(hebbian(images(CUDA), NET, on_fake_cuda), pytest.fail, Rehearsal())
        with CaptureSafety(), pytest.raises(CaptureError, match=r"waits for the device|copies"):
            steps.work()


@pytest.mark.parametrize("contrast", ["", "-n0.01"])
def test_a_step_on_whitened_patches_does_not_wait_for_the_device(contrast):
    preset = parse_network(f"soft-c8-k5-p2-t2-lr0.1:whiten{contrast}:triangle:max_4_2_1 BP")
    with fake_cuda():
        stage = hebbian(images(CUDA), preset, on_fake_cuda, trained=(0,))
        stage.net.blocks[0].norm.patches = 1
        steps = GraphSteps(stage, pytest.fail, Rehearsal())
        with CaptureSafety() as safety:
            steps.work()
    own = [name for name in safety.seen if name.startswith("softhebb_fast")]
    assert sum(name.endswith("_step_.default") for name in own) == 1
