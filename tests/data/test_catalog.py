from __future__ import annotations

import pytest

from softhebb_fast.data import (
    GaussianNoise,
    RandomCropFlip,
    RandomResizedCropFlip,
    load,
    published_augmentation,
)
from tests.data.writers import write_mnist


def test_embedded_mnist_train():
    train = load("mnist", download=False)
    assert train.name == "mnist"
    assert train.split == "train"
    assert train.images.shape == (60000, 1, 28, 28)
    assert train.labels.bincount().tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
    ]  # fmt: skip
    x = train.images.double() / 255
    assert round(x.mean().item(), 4) == 0.1307
    assert round(x.std().item(), 4) == 0.3081
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]


def test_embedded_mnist_test(mnist):
    assert len(mnist) == 10000
    assert mnist.image_shape == (1, 28, 28)
    assert mnist.classes == tuple("0123456789")
    assert mnist.num_classes == 10
    assert mnist.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert mnist.mean is None


@pytest.mark.parametrize("name", ["mnist", "MNIST", "M-NI_st"])
def test_names_are_forgiving(tmp_path, name):
    write_mnist(tmp_path)
    assert load(name, root=tmp_path).name == "mnist"


def test_bad_options(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(
        ValueError, match=r"one of mnist, .*imagefolder:PATH, arrays:PATH; got 'svhn'"
    ):
        load("svhn")
    with pytest.raises(TypeError, match="name must be a string"):
        load(10)
    with pytest.raises(ValueError, match="split of mnist must be one of train, test; got 'unlab"):
        load("mnist", "unlabeled", root=tmp_path)
    with pytest.raises(ValueError, match=r"limit must be at least 1.*got 0"):
        load("mnist", root=tmp_path, limit=0)
    with pytest.raises(ValueError, match=r"image_size is for .* image trees; got .*20.* for mnist"):
        load("mnist", root=tmp_path, image_size=20)
    with pytest.raises(ValueError, match=r"name must be one of .*; got 'imagefolder:'"):
        load("imagefolder:")  # and not the current folder
    with pytest.raises(ValueError, match="imagefolder:PATH must name an existing folder"):
        load(f"imagefolder:{tmp_path / 'none'}")


def test_published_augmentations():
    assert published_augmentation("CIFAR-10") == RandomCropFlip(4, "reflect", 0.5)
    assert published_augmentation("stl10") == RandomCropFlip(4, "reflect", 0.5)
    assert published_augmentation("imagenette").scale == (0.08, 1.0)
    assert published_augmentation("imagefolder:x") == RandomResizedCropFlip()
    assert published_augmentation("mnist", noise_std=0.1) == GaussianNoise(0.1)
    with pytest.raises(ValueError, match="no strength was published: give noise_std"):
        published_augmentation("fashionmnist")
    with pytest.raises(ValueError, match="cifar10 has no noise"):
        published_augmentation("cifar10", noise_std=0.1)
