"""The classifier's kernels and batch normalisation in Triton's interpreter, against torch."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from softhebb_fast.data import permutation
from softhebb_fast.kernels import classifier
from softhebb_fast.kernels.batch_norm import batch_norm
from softhebb_fast.kernels.gather import gather
from softhebb_fast.models import build
from softhebb_fast.ops.gather import _plain as plain
from softhebb_fast.presets import parse_network
from softhebb_fast.training.capture import GraphCapture
from softhebb_fast.training.features import FeatureSet
from softhebb_fast.training.fused_classifier import ClassifierStage, ClassifierSteps
from softhebb_fast.training.stage import BatchSource
from softhebb_fast.training.steps import EagerSteps
from softhebb_fast.training.supervised_stage import SupervisedStage
from tests.kernels import interpreter_fix  # noqa: F401
from tests.tolerances import TOLERANCES, assert_close

SIZES = [  # members, images, features, classes, batch
    (1, 30, 600, 10, 20),
    (2, 37, 513, 3, 16),
    (3, 20, 65, 40, 7),
    (1, 9, 1, 1, 4),
]


def given(members, images, features, classes, dtype=torch.float32):
    """Features are views of larger rows, as those that took the place of others are."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(members, images, features + 3, generator=generator).to(dtype)[..., :-3]
    labels = torch.randint(classes, (images,), generator=generator)
    order = torch.stack([torch.randperm(images, generator=generator) for _ in range(members)])
    weight = torch.randn(members, classes, features, generator=generator) / features**0.5
    return x, labels, order, weight, torch.randn(members, classes, generator=generator)


@pytest.mark.parametrize(
    ("sizes", "p", "dtype"),
    [*((sizes, 0.5, torch.float32) for sizes in SIZES), (SIZES[1], 0.0, torch.bfloat16)],
)
def test_steps_are_those_of_torchs_adam(sizes, p, dtype):
    """By the mask that was drawn, over two passes with a last batch that is not full."""
    members, images, features, classes, batch = sizes
    x, labels, order, weight, bias = given(members, images, features, classes, dtype)
    exact = [
        torch.nn.ParameterList((w.double().clone(), b.double().clone()))
        for w, b in zip(weight, bias, strict=True)
    ]
    adams = [torch.optim.Adam(parameters, lr=0.01) for parameters in exact]
    state = classifier.new_state(weight, bias, torch.arange(members), batch, 99, p)
    state.rate.fill_(0.01)
    wanted = torch.zeros(members, 2, dtype=torch.float64)
    for _ in range(2):
        state.clock[1] = 0
        for number, first in enumerate(range(0, images, batch)):
            rows = min(batch, images - first)
            classifier.step(state, x, order, labels, number, first, rows, p)
            for e, (w, b) in enumerate(exact):
                index = order[e, first : first + rows]
                drawn = x[e, index].double()
                if p:
                    kept = state.kept.flatten()[e * rows * features :][: rows * features]
                    drawn = drawn * kept.view(rows, features) / (1 - p)
                logits = drawn @ w.t() + b
                loss = F.cross_entropy(logits, labels[index], reduction="sum")
                adams[e].zero_grad()
                (loss / rows).backward()
                adams[e].step()
                right = (logits.argmax(dim=1) == labels[index]).sum()
                wanted[e] += torch.stack([loss.detach(), right])
        state.clock[0] += -(-images // batch)
    assert_close(state.totals.sum(dim=1), wanted, TOLERANCES["classifier"])
    for e, (w, b) in enumerate(exact):
        assert_close(weight[e], w, TOLERANCES["classifier"])
        assert_close(bias[e], b, TOLERANCES["classifier"])
    found = classifier.judge(weight, bias, x, labels)
    for e, (w, b) in enumerate(exact):
        logits = x[e].double() @ w.t() + b
        loss = F.cross_entropy(logits, labels, reduction="sum")
        right = (logits.argmax(dim=1) == labels).sum()
        assert_close(found[e], torch.stack([loss, right]), TOLERANCES["classifier"])


def test_masks_are_fair_and_differ_by_step_row_and_member():
    members, images, features, batch = 2, 32, 2048, 16
    x, labels, order, weight, bias = given(members, images, features, 4)
    state = classifier.new_state(weight, bias, torch.tensor([3, 4]), batch, 9, 0.3)
    masks = []
    for number in range(2):
        classifier.step(state, x, order, labels, number, 16 * number, 16, 0.3)
        masks.append(state.kept.clone())
    masks = torch.stack(masks).double()  # [step, member, row, feature]
    assert abs(masks.mean() - 0.7) < TOLERANCES["share_of_a_mask"]
    rows = masks.flatten(0, 2)
    correlation = torch.corrcoef(rows) - torch.eye(len(rows))
    assert correlation.abs().max() < TOLERANCES["correlation_of_masks"]
    columns = torch.corrcoef(rows.t()[:64]) - torch.eye(64)
    assert columns.abs().mean() < 0.2  # 64 rows: 0.1 is expected
    again = classifier.new_state(weight, bias, torch.tensor([3, 4]), batch, 9, 0.3)
    again.clock[0], again.clock[1] = 1, 16
    classifier.step(again, x, order, labels, 0, 0, 16, 0.3)
    assert torch.equal(again.kept, state.kept)  # a function of seed, step, row and place


@pytest.mark.parametrize(
    "shape", [(10, 3, 9, 7), (2, 20, 5, 5), (3, 130, 4, 4), (1, 16, 1, 2), (5, 40, 31, 13)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_batch_norm(shape, dtype):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator) * 3 + 20
    x = x.to(dtype).to(memory_format=torch.channels_last)
    mean, var = torch.randn(shape[1]), torch.rand(shape[1])
    batches = torch.tensor(4)
    exact_mean, exact_var = mean.double(), var.double()
    wanted = F.batch_norm(x.double(), exact_mean, exact_var, training=True, momentum=0.3)
    got = batch_norm(x, mean, var, batches, 0.3, 1e-5)
    assert got.stride() == x.stride()
    assert_close(got, wanted, TOLERANCES["batch_norm" if dtype == torch.float32 else "float16"])
    assert_close(mean, exact_mean, TOLERANCES["batch_norm"])
    assert_close(var, exact_var, TOLERANCES["batch_norm"])
    assert int(batches) == 5
    assert torch.equal(batch_norm(x, None, None, None, 0.3, 1e-5), got)


class Again(GraphCapture):
    """A capture for any device: what it records is done again at every replay."""

    def __init__(self) -> None:
        self.replays = 0

    def record(self, work):
        def replay():
            self.replays += 1
            work()

        return replay


def stage(kind, layout=torch.channels_last, p=0.0, seed=7):
    """A classifier of 71 feature maps in batches of 2 for 20 epochs."""
    torch.manual_seed(seed)
    net = build(parse_network(f"softkrotov-c6-k3-t1:triangle_1 bp:dropout_{p}"), (3, 4, 4), 5)
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(80, 6, 2, 2, generator=generator).to(memory_format=layout)
    labels = torch.arange(80) * 7 % 5
    inputs, test = (
        BatchSource(FeatureSet(maps[a:b], labels[a:b]), []) for a, b in ((0, 71), (71, 80))
    )
    if kind is ClassifierStage:
        return ClassifierStage(net, inputs, test, 20, 2, seed)
    return SupervisedStage(net, inputs, test, inputs.source, len(net.blocks), 20, 2, 4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_stage_is_that_of_torchs_classifier(layout):
    """Over two epochs, the second at half the rate: figures and weights."""
    torchs, own = (stage(kind, layout) for kind in (SupervisedStage, ClassifierStage))
    torchs.scheduler.milestones, own.halvings = Counter([1]), [1]
    torchs.optimizer.param_groups[0]["lr"] = own.lr = 0.01
    runners = EagerSteps(torchs), ClassifierSteps(own, Again(), pytest.fail)
    for epoch in (0, 1):
        rows = []
        for at, runner in zip((torchs, own), runners, strict=True):
            assert sum(runner.walk(permutation(71, 0, epoch), 0, 36 * epoch)) == 71
            rows += at.end_epoch(epoch + 1)
        assert rows[0].pop("phase") == rows[1].pop("phase")
        assert rows[1] == pytest.approx(rows[0], rel=TOLERANCES["classifier"])
    own.state_dict()
    for found, wanted in zip(own.net.parameters(), torchs.net.parameters(), strict=True):
        assert_close(found, wanted, TOLERANCES["classifier"])
    assert runners[1].capture.replays >= 1
    assert runners[1].graph_steps == 35


def test_a_resumed_stage_goes_on_with_the_same_bits():
    whole, first, second = (stage(ClassifierStage, p=0.5) for _ in range(3))
    order, figures = permutation(71, 0), []
    list(ClassifierSteps(whole, Again(), pytest.fail).walk(order))
    walk = ClassifierSteps(first, None, pytest.fail).walk(order)
    assert [next(walk) for _ in range(20)] == [2] * 20
    second.load_state_dict(first.state_dict())
    list(ClassifierSteps(second, None, pytest.fail).walk(order, 20))
    for at in (whole, second):
        figures.append(at.end_epoch(1))
    assert figures[0] == figures[1]
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    assert torch.equal(whole.linear.weight, second.linear.weight)
    assert not torch.equal(first.linear.weight, second.linear.weight)


def test_a_capture_that_fails_is_said_and_all_steps_are_launched():
    class Failing(Again):
        def record(self, work):
            raise RuntimeError("not permitted")

    heard, at = [], stage(ClassifierStage)
    steps = ClassifierSteps(at, Failing(), heard.append)
    for _ in range(3):
        assert list(steps.walk(permutation(71, 0))) == [2] * 35 + [1]
    assert heard == [
        "the steps of classifier are launched one by one, not replayed from a CUDA graph: their "
        "capture failed (not permitted)"
    ]


GATHERED = {
    "bytes": (torch.randint(256, (9, 3, 5, 4), dtype=torch.uint8), False),
    "grey bytes": (torch.randint(256, (9, 1, 5, 4), dtype=torch.uint8), False),
    "normalised": (torch.randint(256, (9, 3, 5, 4), dtype=torch.uint8), True),
    "features": (torch.randn(9, 20, 5, 4), False),
    "channels last": (torch.randn(9, 20, 5, 4).to(memory_format=torch.channels_last), False),
    "bfloat16": (torch.randn(9, 7, 3, 3).bfloat16(), False),
    "in place of others": (
        torch.randn(9, 1000).as_strided((9, 20, 5, 4), (1000, 1, 80, 20)),
        False,
    ),
}


@pytest.mark.parametrize("name", GATHERED)
def test_a_gathered_batch_has_the_bits_of_the_plain_one(name):
    images, normalised = GATHERED[name]
    constants = (torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.7]))
    labels, order = torch.arange(9) * 7, torch.randperm(9)
    rest = (order, torch.tensor(2), *(constants if normalised else (None, None)), 1, 4)
    x, y = gather(images, labels, *rest)
    wanted, wanted_y = plain(images, labels, *rest)
    assert torch.equal(x, wanted)
    if images.dtype == torch.uint8:
        wanted = wanted.to(memory_format=torch.channels_last)
    assert x.stride() == wanted.stride()
    assert torch.equal(y, wanted_y)
    assert torch.equal(y, labels[order[3:7]])
