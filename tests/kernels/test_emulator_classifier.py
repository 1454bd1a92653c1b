"""The PTX of the classifier's kernels, of batch norm and of the next batch, run in an emulator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

from softhebb_fast.kernels import classifier
from softhebb_fast.kernels.batch_norm import batch_norm
from softhebb_fast.kernels.gather import gather
from softhebb_fast.ops.gather import _plain as plain
from tests.kernels.philox import philox
from tests.tolerances import TOLERANCES, assert_close

TARGETS = ("sm_80", "sm_90a")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("classes", [10, 20, 50, 100])
def test_a_step_and_a_test(emulated, target, classes):
    generator = torch.Generator().manual_seed(0)
    members, images, features, batch = 2, 40, 520, 20
    x = torch.rand(members, images, features, generator=generator)
    labels = torch.randint(classes, (images,), generator=generator)
    order = torch.stack([torch.randperm(images, generator=generator) for _ in range(members)])
    weight = torch.randn(members, classes, features, generator=generator) / features**0.5
    bias = torch.randn(members, classes, generator=generator)
    exact = [
        (w.double().requires_grad_(), b.double().requires_grad_())
        for w, b in zip(weight, bias, strict=True)
    ]
    state = classifier.new_state(weight, bias, torch.tensor([3, 0x1234_5678_9ABC]), batch, 9, 0.5)
    state.rate.fill_(0.01)

    def call():
        classifier.step(state, x, order, labels, 0, 0, batch, 0.5)
        return classifier.judge(weight, bias, x, labels)

    found, reports = emulated(target, "ieee", call)
    assert [r["kernel"] for r in reports] == ["classify", "descend", "judge"]
    assert [r["races"] for r in reports] == [{}] * 3
    assert torch.equal(state.kept.bool(), dropped_by_philox(state.seeds, batch, features, classes))
    for e, (w, b) in enumerate(exact):
        index = order[e, :batch]
        logits = 2 * (x[e, index].double() * state.kept[e]) @ w.t() + b
        loss = F.cross_entropy(logits, labels[index], reduction="sum")
        assert state.totals[e, :, 1].sum() == (logits.argmax(dim=1) == labels[index]).sum()
        (loss / batch).backward()
        torch.optim.Adam([w, b], lr=0.01).step()
        assert_close(state.totals[e, :, 0].sum(), loss, TOLERANCES["classifier"])
        assert_close(weight[e], w, TOLERANCES["classifier"])
        assert_close(bias[e], b, TOLERANCES["classifier"])
        logits = x[e].double() @ w.t() + b
        loss = F.cross_entropy(logits, labels, reduction="sum")
        assert_close(found[e, 0], loss, TOLERANCES["classifier"])
        assert found[e, 1] == (logits.argmax(dim=1) == labels).sum()


def dropped_by_philox(seeds, batch, features, classes):
    """Which features the first step keeps of a half: eight a counter, half a word each."""
    size = classifier._kernels(classes).classify.BP
    places = np.arange(-(-features // (8 * size)) * size)
    masks = []
    for seed in seeds.tolist():
        counters = np.broadcast_arrays(places, np.arange(batch)[:, None], 0, 0)
        words = philox(counters, (seed & 0xFFFFFFFF, seed >> 32))
        halves = [word >> np.uint64(16 * i) & np.uint64(0xFFFF) for word in words for i in (0, 1)]
        kept = np.stack(halves, axis=1) >= 1 << 15  # [batch, 8, chunks * size]
        kept = kept.reshape(batch, 8, -1, size).transpose(0, 2, 1, 3).reshape(batch, -1)
        masks.append(torch.from_numpy(kept[:, :features].copy()))
    return torch.stack(masks)


def test_philox_gives_the_published_answers():
    """Of Random123's ``kat_vectors``."""
    zeros = [np.array([0])] * 4
    ones = [np.array([0xFFFFFFFF])] * 4
    found = [
        [int(word[0]) for word in philox(c, k)]
        for c, k in ((zeros, (0, 0)), (ones, (0xFFFFFFFF,) * 2))
    ]
    assert found == [
        [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
    ]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(10, 3, 9, 7), (3, 130, 4, 4)])
def test_batch_norm(emulated, target, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 20
    x = x.to(memory_format=torch.channels_last)
    mean, var, batches = torch.zeros(shape[1]), torch.ones(shape[1]), torch.tensor([0])
    got, reports = emulated(target, "ieee", lambda: batch_norm(x, mean, var, batches, 0.1, 1e-5))
    assert [r["races"] for r in reports] == [{}] * 2
    exact_mean, exact_var = torch.zeros(shape[1]).double(), torch.ones(shape[1]).double()
    wanted = F.batch_norm(x.double(), exact_mean, exact_var, training=True)
    assert_close(got, wanted, TOLERANCES["batch_norm"])
    assert_close(mean, exact_mean, TOLERANCES["batch_norm"])
    assert_close(var, exact_var, TOLERANCES["batch_norm"])
    assert int(batches) == 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["bytes", "normalised", "features"])
def test_the_next_batch(emulated, target, name):
    images = torch.randint(256, (9, 3, 19, 23), dtype=torch.uint8)  # more than a program's values
    if name == "features":
        images = torch.randn(9, 130, 3, 3).to(memory_format=torch.channels_last)
    constants = (torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.7]))
    labels, order = torch.arange(9) * 7, torch.randperm(9)
    rest = (order, torch.tensor(2), *(constants if name == "normalised" else (None, None)), 1, 4)
    (x, y), reports = emulated(target, "ieee", lambda: gather(images, labels, *rest))
    wanted, wanted_y = plain(images, labels, *rest)
    assert torch.equal(x, wanted)
    assert torch.equal(y, wanted_y)
    assert [r["races"] for r in reports] == [{}]
