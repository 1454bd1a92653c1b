from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from softhebb_fast.data import GaussianNoise, RandomCropFlip, RandomResizedCropFlip
from tests.data.writers import generator


@pytest.mark.parametrize("mode", ["reflect", "replicate", "constant"])
def test_crops_are_windows_of_the_padded_image(mode):
    x = torch.rand(64, 2, 5, 7, generator=generator(1))
    out = RandomCropFlip(2, mode)(x, generator())
    assert out.shape == x.shape
    padded = F.pad(x, [2] * 4, mode=mode)
    windows = padded.unfold(2, 5, 1).unfold(3, 7, 1)  # [B, C, 5, 5, 5, 7]
    windows = torch.stack((windows, windows.flip(-1))).permute(1, 0, 3, 4, 2, 5, 6).flatten(1, 3)
    matches = (windows == out[:, None]).flatten(2).all(2)  # [B, 2 * 25]
    assert (matches.sum(1) == 1).all()
    assert 16 < matches[:, 25:].sum() < 48
    assert matches.view(64, 2, 5, 5).any(0).any(0).sum() > 20


def test_crop_without_padding_or_flip_is_the_image():
    x = torch.rand(3, 1, 4, 4, generator=generator())
    assert torch.equal(RandomCropFlip(0, flip=0.0)(x, generator()), x)
    assert torch.equal(RandomCropFlip(0, flip=1.0)(x, generator()), x.flip(-1))


def test_noise():
    x = torch.full((10, 1, 50, 50), 0.5)
    noise = GaussianNoise(0.25)(x, generator()) - x
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 0.25) < 0.01
    assert torch.equal(GaussianNoise(0.0)(x, generator()), x)


@pytest.mark.parametrize(
    "augment", [RandomCropFlip(), GaussianNoise(0.1), RandomResizedCropFlip(12)], ids=repr
)
def test_augmentations_follow_their_generator(augment):
    x = torch.rand(8, 3, 16, 16, generator=generator())
    untouched = x.clone()
    assert torch.equal(augment(x, generator(5)), augment(x, generator(5)))
    assert not torch.equal(augment(x, generator(5)), augment(x, generator(6)))
    assert torch.equal(x, untouched)


def test_windows_of_resized_crops_keep_their_bounds():
    augment = RandomResizedCropFlip(8)
    windows = augment.windows(2000, 100, 120, generator())
    top, left, rows, columns = windows.unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + rows <= 100).all()
    assert (left + columns <= 120).all()
    share = rows * columns / 12000
    assert 0.075 < share.min() < 0.1
    assert 0.9 < share.max() <= 1
    aspect = columns / rows
    assert 0.72 < aspect.min() < 0.8
    assert 1.28 < aspect.max() < 1.37


def test_windows_that_never_fit_are_central():
    windows = RandomResizedCropFlip(scale=(1, 1)).windows(2, 10, 40, generator())
    assert windows.tolist() == [[0, 13, 10, 13]] * 2  # 13 = 10 * 4 / 3, rounded


def test_resized_crops_are_the_windows_resized():
    augment = RandomResizedCropFlip(6, flip=0.0)
    x = torch.arange(20.0).view(1, 1, 1, 20).expand(16, 1, 20, 20).contiguous()
    out = augment(x, generator(2))
    for (_, left, _, columns), rows in zip(
        augment.windows(16, 20, 20, generator(2)).tolist(), out[:, 0], strict=True
    ):
        centres = left + (torch.arange(6) + 0.5) * columns / 6 - 0.5
        expected = centres.clamp(0, 19).expand(6, 6)
        assert (rows - expected).abs().max() < 1e-4  # float32 grid on values up to 19


def test_whole_window_at_full_size_is_the_image_or_its_mirror():
    x = torch.rand(4, 3, 8, 8, generator=generator())
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    for flip, expected in ((0.0, x), (1.0, x.flip(-1))):
        out = RandomResizedCropFlip(flip=flip, **whole)(x, generator())
        assert (out - expected).abs().max() < 1e-5  # bilinear weights of a float32 grid


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: RandomCropFlip(-1), "padding must be at least 0; got -1"),
        (lambda: RandomCropFlip(mode="zeros"), "mode must be"),
        (lambda: RandomCropFlip(flip=2), "flip must be a probability; got 2"),
        (lambda: RandomCropFlip(flip=float("nan")), "flip must be a probability; got nan"),
        (lambda: RandomResizedCropFlip(flip=-1), "flip must be a probability; got -1"),
        (lambda: GaussianNoise(-0.1), "std must not be negative"),
        (lambda: GaussianNoise(float("nan")), "std must not be negative"),
        (lambda: RandomResizedCropFlip(0), "size must be at least 1"),
        (lambda: RandomResizedCropFlip(scale=(0, 1)), "scale must satisfy"),
        (lambda: RandomResizedCropFlip(ratio=(2, 1)), "ratio must satisfy"),
        (lambda: RandomCropFlip()(torch.zeros(1, 1, 4, 4), generator()), "smaller than the image"),
        (lambda: RandomCropFlip()(torch.zeros(1, 4, 4), generator()), r"float \[B, C, H, W\]"),
    ],
)
def test_augmentations_check(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: RandomCropFlip(2.5), "padding must be an int; got 2.5"),
        (lambda: RandomCropFlip(True), "padding must be an int; got True"),
        (lambda: RandomCropFlip(flip="half"), "flip must be a number; got 'half'"),
        (lambda: RandomResizedCropFlip(flip=None), "flip must be a number; got None"),
    ],
)
def test_augmentations_check_types(make, expected):
    with pytest.raises(TypeError, match=expected):
        make()
