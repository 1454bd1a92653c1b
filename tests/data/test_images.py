from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from softhebb_fast.data import GaussianNoise, ImageSet, RandomCropFlip, batches, permutation
from tests.data.writers import counted


def test_batch_scales_bytes_to_one():
    images = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).view(4, 1, 1, 1)
    data = ImageSet("x", "train", images, torch.tensor([4, 3, 2, 1]), tuple("abcde"))
    x, labels = data.batch(torch.tensor([3, 1, 1]))
    assert x.dtype == torch.float32
    assert x.shape == (3, 1, 1, 1)
    assert torch.equal(x.flatten(), torch.tensor([1, 0.2, 0.2]))
    assert labels.tolist() == [1, 3, 3]


def test_batch_normalises_by_channel():
    images = torch.full((1, 2, 1, 1), 255, dtype=torch.uint8)
    data = ImageSet("x", "train", images, torch.tensor([0]), ("a",), (0.5, 0.75), (0.25, 0.125))
    assert data.batch(slice(0, 1))[0].flatten().tolist() == [2.0, 2.0]
    assert images.unique().tolist() == [255]


def test_image_set_is_contiguous():
    assert counted().images.is_contiguous()


def test_image_set_checks():
    images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    make = partial(ImageSet, "x", "train")
    with pytest.raises(TypeError, match="images must be uint8 or float32"):
        make(images.double(), labels, ("a",))
    with pytest.raises(TypeError, match="labels int64"):
        make(images, labels.int(), ("a",))
    with pytest.raises(ValueError, match=r"labels \[N\]; got .*\(3,\)"):
        make(images, torch.zeros(3, dtype=torch.int64), ("a",))
    with pytest.raises(ValueError, match="both be None or have 3 values"):
        make(images, labels, ("a",), (0.5,), (0.5,))
    with pytest.raises(ValueError, match="both be None"):
        make(images, labels, ("a",), (0.5, 0.5, 0.5))
    for label in (1, -2, 2**40):
        wrong = torch.tensor([0, label])
        with pytest.raises(ValueError, match=f"lie in 0 .. 0, .*got {label} for image 1"):
            make(images, wrong, ("a",))
    for value in (float("nan"), float("inf")):
        floats = images.float()
        floats[1, 2, 3, 0] = value
        with pytest.raises(ValueError, match=f"finite; image 1 has the value {value}"):
            make(floats, labels, ("a",))


def test_image_set_is_a_sequence_of_samples():
    data = counted(5)
    x, label = data[3]
    assert x.shape == (1, 2, 2)
    assert x.dtype == torch.float32
    assert x.unique().tolist() == [torch.tensor(3 / 255).item()]
    assert label == 3
    assert type(label) is int
    assert [label for _, label in data] == [0, 1, 2, 3, 4]
    for index in (-1, np.int64(4), torch.tensor(4)):
        assert data[index][1] == 4
    for part, expected in (
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [4, 2, 0]),
        ([4, 0], [4, 0]),
        (torch.tensor([2]), [2]),
        (np.array([1, 1]), [1, 1]),
        (torch.arange(5) > 2, [3, 4]),
        ([], []),
    ):
        assert data[part].labels.tolist() == expected
    for index in (5, -6):
        with pytest.raises(IndexError, match=f"index must lie in -5 .. 4; got {index}"):
            data[index]
    with pytest.raises(ValueError, match="mask must be"):
        data[torch.ones(4, dtype=torch.bool)]
    batch, labels = next(iter(DataLoader(data, 5)))
    assert torch.equal(batch, data.batch(slice(0, 5))[0])
    assert torch.equal(labels, data.labels)


def test_image_set_is_printed():
    data = replace(counted(3), mean=(0.1307,), std=(0.3081,))
    text = "ImageSet('counted', 'train': 3 images 1x2x2 uint8, 3 classes, cpu, "
    assert repr(data) == text + "mean 0.1307, std 0.3081)"


def test_moments():
    images = torch.randint(256, (30, 2, 5, 5), dtype=torch.uint8)
    images[:, 1] = 51
    data = ImageSet("x", "train", images, torch.zeros(30, dtype=torch.int64), ("a",))
    mean, std = data.moments()
    expected = images[:, 0].double() / 255
    assert abs(mean[0] - expected.mean().item()) < 1e-6
    assert abs(std[0] - expected.std(correction=0).item()) < 1e-6
    assert abs(mean[1] - 0.2) < 1e-6
    assert std[1] == 1.0
    x, _ = replace(data, mean=mean, std=std).batch(slice(0, 30))
    assert abs(x[:, 0].mean()) < 1e-5
    assert abs(x[:, 0].std(correction=0) - 1) < 1e-5


def test_floats_are_taken_as_they_are():
    floats = torch.rand(4, 2, 3, 3)
    data = ImageSet("x", "train", floats, torch.zeros(4, dtype=torch.int64), ("a",))
    x, _ = data.batch(torch.tensor([2, 0]))
    assert torch.equal(x, floats[[2, 0]])
    normal = replace(data, mean=(0.5, 0.25), std=(0.5, 0.125))
    for rows in (slice(0, 2), torch.tensor([0, 1])):
        x, _ = normal.batch(rows)
        assert torch.equal(x[:, 1], (floats[:2, 1] - 0.25) / 0.125)
    assert torch.equal(normal.images, floats)  # not normalised in place


def test_report():
    data = replace(
        counted(3), labels=torch.tensor([0, 0, 2]), skipped={"hidden": 2}, converted={"cut": 3}
    )
    assert data.empty_classes == ("1",)
    assert data.report() == [
        "counted (train): skipped 2: hidden",
        "counted (train): 3 images: cut",
        "counted (train): 1 of 3 classes are empty: 1",
    ]


def test_subset():
    data = counted()
    assert data.subset(3).labels.tolist() == [0, 1, 2]
    assert len(data.subset(30)) == 10
    assert data.subset([4, 2]).labels.tolist() == [4, 2]
    assert data.subset(torch.tensor([9])).images.unique().tolist() == [9]
    with pytest.raises(ValueError, match="count of at least 1"):
        data.subset(0)
    with pytest.raises(ValueError, match=r"selection must lie in 0 \.\. 9; got -1 \.\. 3"):
        data.subset([3, -1])
    with pytest.raises(TypeError, match="int64"):
        data.subset(torch.ones(10, dtype=torch.bool))


def test_permutation():
    first = permutation(100, seed=3)
    assert first.sort().values.tolist() == list(range(100))
    assert torch.equal(first, permutation(100, 3, epoch=0))
    others = [permutation(100, 3, 1), permutation(100, 4, 0), permutation(100, 4, 3)]
    orders = {tuple(p.tolist()) for p in (first, *others)}
    assert len(orders) == 4
    assert permutation(0, 1).tolist() == []
    assert permutation(6, seed=0).tolist() == [2, 5, 3, 1, 0, 4]  # the order never changes


def test_permutation_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    permutation(10, 0)
    assert torch.equal(before, torch.get_rng_state())


def seen(*args, **kwargs) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches(*args, **kwargs)]


def test_batches_in_sequence_and_in_order():
    data = counted(5)
    assert seen(data, 2) == [[0, 1], [2, 3], [4]]
    assert seen(data, 2, drop_last=True) == [[0, 1], [2, 3]]
    assert seen(data, 2, order=torch.tensor([4, 4, 1])) == [[4, 4], [1]]
    assert seen(data, 2, start_batch=2) == [[4]]
    assert seen(data, 2, start_batch=3) == []
    assert seen(data, 2, order=torch.tensor([], dtype=torch.int64)) == []
    x, labels = next(batches(data, 2, order=torch.tensor([3, 0])))
    assert torch.equal(x[:, 0, 0, 0], labels / 255)


def test_batches_check_at_the_call():
    data = counted(5)
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        batches(data, 0)
    with pytest.raises(ValueError, match=r"start_batch must be 0 to 3.*start_batch=4"):
        batches(data, 2, start_batch=4)
    with pytest.raises(ValueError, match=r"order must lie in 0 \.\. 4; got 0 \.\. 5"):
        batches(data, 2, order=torch.tensor([0, 5]))
    with pytest.raises(TypeError, match="order must hold int64"):
        batches(data, 2, order=torch.tensor([0.0]))
    with pytest.raises(ValueError, match="one-dimensional"):
        batches(data, 2, order=torch.tensor([[0]]))
    with pytest.raises(ValueError, match="augment needs augment_seed"):
        batches(data, 2, augment=GaussianNoise(1.0))
    with pytest.raises(ValueError, match="augment_seed must be a pair"):
        batches(data, 2, augment=GaussianNoise(1.0), augment_seed=3)


def test_batches_resume_exactly(mnist):
    options = {
        "order": permutation(500, seed=1, epoch=2),
        "augment": RandomCropFlip(),
        "augment_seed": (1, 2),
    }
    whole = list(batches(mnist, 64, **options))
    rest = list(batches(mnist, 64, start_batch=5, **options))
    assert len(whole) == 8
    assert len(rest) == 3
    for (x, labels), (x_again, labels_again) in zip(whole[5:], rest, strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(labels, labels_again)


def test_augmentation_differs_by_seed_epoch_and_batch():
    data = counted(8)

    def noise(seed: int, epoch: int) -> list[Tensor]:
        options = {"augment": GaussianNoise(1.0), "augment_seed": (seed, epoch)}
        return [x - data.batch(y)[0] for x, y in batches(data, 4, **options)]

    drawn = [*noise(0, 1), *noise(1, 0), *noise(0, 0)]
    distinct = {round(n[0, 0, 0, 0].item(), 3) for n in drawn}
    assert len(distinct) == 6
    assert torch.equal(noise(0, 1)[1], drawn[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("augment", [RandomCropFlip(), GaussianNoise(0.1)], ids=lambda a: str(a))
def test_cuda_sees_the_same_batches(mnist, augment):
    options = {"order": permutation(100, 0), "augment": augment, "augment_seed": (0, 0)}
    here = list(batches(mnist.subset(100), 32, **options))
    there = list(batches(mnist.subset(100).to("cuda"), 32, **options))
    for (x, labels), (x_there, labels_there) in zip(here, there, strict=True):
        torch.testing.assert_close(x, x_there.cpu())  # division differs in the last bit
        assert torch.equal(labels, labels_there.cpu())
