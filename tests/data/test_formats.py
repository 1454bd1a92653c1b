from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from softhebb_fast.data import load
from tests.data.writers import (
    IDX_IMAGES,
    IDX_LABELS,
    idx_bytes,
    python2_batch,
    write_cifar10,
    write_mnist,
    write_stl10,
)


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gzip"])
def test_idx(tmp_path, pack):
    write_mnist(tmp_path, pack, "FashionMNIST/raw")
    loaded = load("Fashion-MNIST", root=tmp_path, download=False)
    assert loaded.images[:, 0].tolist() == IDX_IMAGES.tolist()
    assert loaded.labels.tolist() == [7, 0, 9]
    assert loaded.classes[9] == "Ankle boot"
    assert load("fashionmnist", root=tmp_path, limit=2).labels.tolist() == [7, 0]


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("train-images-idx3-ubyte", idx_bytes(IDX_LABELS), "starts with 00000803.*got 00000801"),
        ("train-images-idx3-ubyte", b"\0\0", "starts with 00000803"),
        ("train-images-idx3-ubyte", idx_bytes(IDX_IMAGES)[:-1], "40 bytes .*got 39 bytes"),
        ("train-images-idx3-ubyte", idx_bytes(IDX_IMAGES) + b"\0", "40 bytes .*got 41 bytes"),
        ("train-labels-idx1-ubyte", idx_bytes(IDX_LABELS[:2]), "expected 3 labels.*got 2"),
        ("train-labels-idx1-ubyte", idx_bytes(IDX_LABELS + 1), r"10 classes, got 1 \.\. 10"),
    ],
)
def test_damaged_idx(tmp_path, file, content, expected):
    raw = write_mnist(tmp_path)
    (raw / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} is damaged.*{expected}.*delete it"):
        load("mnist", root=tmp_path)


@pytest.mark.parametrize("keep", [5, 30])
def test_damaged_gzip(tmp_path, keep):
    raw = write_mnist(tmp_path, pack=True)
    path = raw / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"ubyte\.gz is damaged.*gzip"):
        load("mnist", root=tmp_path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"ubyte\.gz is damaged.*gzip"):
        load("mnist", root=tmp_path)


def test_cifar10(tmp_path):
    write_cifar10(tmp_path)
    train = load("CIFAR-10", root=tmp_path, download=False)
    assert train.image_shape == (3, 32, 32)
    assert train.images[:, 2, 31, 5].tolist() == [0, 1, 10, 11, 20, 21, 30, 31, 40, 41]
    assert train.labels.tolist() == [0, 2] * 5
    assert train.classes == ("cat", "dog", "frog")
    assert load("cifar10", "test", root=tmp_path).images[:, 0, 0, 0].tolist() == [50, 51]


def test_cifar_planes_are_channels_of_rows(tmp_path):
    folder = write_cifar10(tmp_path)
    image = np.arange(3072) % 251
    (folder / "test_batch").write_bytes(python2_batch(image[None], [1], b"labels"))
    loaded = load("cifar10", "test", root=tmp_path).images[0]
    for c, row, column in ((0, 0, 1), (0, 1, 0), (2, 30, 7)):
        assert loaded[c, row, column] == (1024 * c + 32 * row + column) % 251


@pytest.mark.parametrize("as_bytes", [False, True])
def test_cifar100_has_fine_labels(tmp_path, as_bytes):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    data = np.full((2, 3072), 9, np.uint8)
    batch = {"data": data.tobytes() if as_bytes else data, "fine_labels": [1, 0]}
    batch["coarse_labels"] = [0, 0]
    (folder / "train").write_bytes(pickle.dumps(batch, protocol=4))
    names = {"fine_label_names": ["apple", "bee"], "coarse_label_names": ["thing"]}
    (folder / "meta").write_bytes(pickle.dumps(names))
    train = load("cifar100", root=tmp_path)
    assert train.labels.tolist() == [1, 0]
    assert train.classes == ("apple", "bee")
    assert train.images.unique().tolist() == [9]


class Malice:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_cifar_pickle_runs_nothing(tmp_path):
    folder = write_cifar10(tmp_path)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": Malice(tmp_path / "harm")}))
    with pytest.raises(ValueError, match=r"test_batch is damaged.*mkdir has no place"):
        load("cifar10", "test", root=tmp_path)
    assert not (tmp_path / "harm").exists()


ROWS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "a CIFAR pickle"),
        (python2_batch(ROWS, [0, 1], b"labels")[:-100], "a CIFAR pickle"),
        (pickle.dumps([1, 2]), "a pickled dict, got list"),
        (python2_batch(ROWS, [0, 1], b"fine_labels"), "a list of labels under 'labels'"),
        (python2_batch(ROWS, [0], b"labels"), "2 labels, one an image, got 1"),
        (python2_batch(ROWS, [0, 3], b"labels"), r"3 classes, got 0 \.\. 3"),
        (pickle.dumps({"data": b"12", "labels": []}), "uint8 rows of 3072 bytes"),
    ],
)
def test_damaged_cifar(tmp_path, content, expected):
    (write_cifar10(tmp_path) / "test_batch").write_bytes(content)
    with pytest.raises(ValueError, match=f"test_batch is damaged: expected {expected}"):
        load("cifar10", "test", root=tmp_path)


def test_damaged_cifar_meta(tmp_path):
    (write_cifar10(tmp_path) / "batches.meta").write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match=r"batches\.meta is damaged.*'label_names'"):
        load("cifar10", "test", root=tmp_path)


def test_stl10(tmp_path):
    images = write_stl10(tmp_path)
    train = load("stl10", root=tmp_path)
    assert torch.equal(train.images, images)
    assert train.images.is_contiguous()
    assert train.labels.tolist() == [0, 9, 2, 2]
    assert train.classes[9] == "truck"
    few = load("STL10", "train", root=tmp_path, limit=2)
    assert torch.equal(few.images, images[:2])
    assert few.labels.tolist() == [0, 9]


def test_stl10_unlabeled(tmp_path):
    images = write_stl10(tmp_path)
    loaded = load("stl10", "unlabeled", root=tmp_path, limit=3)
    assert torch.equal(loaded.images, images[:3])
    assert loaded.labels.tolist() == [-1, -1, -1]
    assert loaded.labels.dtype == torch.int64
    assert loaded.num_classes == 10


def test_damaged_stl10(tmp_path):
    write_stl10(tmp_path)
    path = tmp_path / "stl10_binary/train_y.bin"
    path.write_bytes(bytes((0, 1, 1, 1)))
    with pytest.raises(ValueError, match=r"train_y\.bin is damaged.*got -1 \.\. 0"):
        load("stl10", root=tmp_path)
    path.write_bytes(bytes((1, 1, 1)))
    with pytest.raises(ValueError, match=r"train_y\.bin is damaged: expected 4 labels"):
        load("stl10", root=tmp_path, limit=2)
    (tmp_path / "stl10_binary/train_X.bin").write_bytes(b"\0" * 27649)
    with pytest.raises(ValueError, match=r"train_X\.bin is damaged.*27648.*27649 bytes"):
        load("stl10", root=tmp_path)
