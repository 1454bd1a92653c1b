from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from softhebb_fast.data import ImageSet, as_image_set, from_arrays, from_dataset, load, load_pair

LABELS = [0, 1, 1]


def pixels(dtype, high: float = 255) -> np.ndarray:
    """Three images 2x2 of which the last pixel is ``high``."""
    return (np.arange(12).reshape(3, 2, 2) * (high / 11)).astype(dtype)


def kind(value: object) -> str:
    """The dtype of images, other values as they are: a name of a case that stays."""
    return str(getattr(value, "dtype", value))


@pytest.mark.parametrize(
    ("images", "stored", "last", "word"),
    [
        (pixels(np.uint8), torch.uint8, 1.0, None),
        (pixels(np.int64), torch.uint8, 1.0, "int64 became bytes"),
        (pixels(">i4"), torch.uint8, 1.0, "int32 became bytes"),
        (pixels(np.uint64), torch.uint8, 1.0, "uint64 became bytes"),
        (pixels(np.uint16, 65535), torch.float32, 1.0, "uint16 was divided by 65535"),
        (pixels(np.uint16, 255), torch.float32, 255 / 65535, "uint16 was divided by 65535"),
        (pixels(np.int32, 4000), torch.float32, 4000 / 65535, "int32 was divided by 65535"),
        (pixels(np.float64, 1), torch.float32, 1.0, "float64 was kept as float32"),
        (pixels(np.float64), torch.float32, 1.0, "float64 was divided by 255"),
        (pixels(np.float16, 0.5), torch.float32, 0.5, "float16 was kept as float32"),
        (pixels(np.float32, 1), torch.float32, 1.0, None),
        (pixels(np.int64, 1), torch.float32, 1.0, "int64 was kept as float32"),
        (pixels(np.float32, 1) > 0.5, torch.uint8, 1.0, "bool became 0 and 255"),
        (
            torch.from_numpy(pixels(np.float32, 1)).bfloat16(),
            torch.float32,
            1.0,
            "bfloat16 was kept as float32",
        ),
    ],
    ids=kind,
)
def test_rule_of_each_type(images, stored, last, word):
    data = from_arrays(images, LABELS)
    assert data.images.dtype == stored
    assert data.image_shape == (1, 2, 2)
    x, _ = data.batch(slice(0, 3))
    assert float(x[2, 0, 1, 1]) == pytest.approx(last, abs=1e-7)
    assert data.converted == ({word: 3} if word else {})


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (pixels(np.float32, -3), r"float32 must lie in 0 \.\. 1.*got -3 \.\. "),
        (pixels(np.float32, 1.001), r"0 \.\. 255 with values above 2; got 0 \.\. 1\.001"),
        (pixels(np.float64, 256), "value_range"),
        (
            pixels(np.int64, 65536),
            r"int64 must lie in 0 \.\. 255 or 0 \.\. 65535; got 0 \.\. 65536",
        ),
        (pixels(np.int8, -5), "int8 must lie in"),
        (pixels(np.float32, np.nan), "images must be finite; image 0 has the value nan"),
        (np.zeros((3, 64)), r"images must be \[N, H, W\].*got \(3, 64\)"),
        (np.zeros((3, 3, 8, 3)), r"layout must be given.*\(3, 3, 8, 3\)"),
        (np.zeros((3, 5, 5, 5)), "layout must be given"),
    ],
    ids=kind,
)
def test_values_and_shapes_without_a_rule(images, match):
    with pytest.raises(ValueError, match=match):
        from_arrays(images, LABELS)


@pytest.mark.parametrize("images", [np.zeros((3, 2, 2), complex), np.array([["a"]]), "x", None])
def test_what_is_no_array_of_real_numbers(images):
    with pytest.raises(TypeError, match="images must be"):
        from_arrays(images, LABELS)


def test_value_range():
    images = pixels(np.float64, -2) + 1  # 1 .. -1
    data = from_arrays(images, LABELS, value_range=(-1, 1))
    assert (data.images.min(), data.images.max()) == (0, 1)
    raw = from_arrays(images, LABELS, value_range="raw")
    assert torch.equal(raw.images[:, 0], torch.from_numpy(images).float())
    with pytest.raises(ValueError, match=r"lie in value_range, 0 \.\. 1; got -1 \.\. 1"):
        from_arrays(images, LABELS, value_range=(0, 1))
    with pytest.raises(TypeError, match=r"value_range must be \(low, high\) or 'raw'"):
        from_arrays(images, LABELS, value_range="all")


def test_layouts():
    chw = np.arange(3 * 3 * 4 * 5, dtype=np.uint8).reshape(3, 3, 4, 5)
    hwc = chw.transpose(0, 2, 3, 1)
    for images, layout in ((chw, None), (hwc, None), (chw, "CHW"), (hwc, "HWC")):
        data = from_arrays(images, LABELS, layout=layout)
        assert torch.equal(data.images, torch.from_numpy(chw))
    five = np.zeros((3, 5, 5, 5), np.uint8)
    assert from_arrays(five, LABELS, layout="HWC").image_shape == (5, 5, 5)
    assert torch.equal(from_arrays(chw[::-1], LABELS).images[0], torch.from_numpy(chw[2]))


@pytest.mark.parametrize(
    ("labels", "expected", "classes"),
    [
        ([2, 0, 1], [2, 0, 1], 3),
        (np.array([[2], [0], [1]], np.uint8), [2, 0, 1], 3),
        (np.array([2.0, 0.0, 1.0]), [2, 0, 1], 3),
        (np.array([True, False, True]), [1, 0, 1], 2),
        (torch.tensor([2, -1, 0], dtype=torch.int16), [2, -1, 0], 3),
        (np.eye(3)[[2, 0, 1]], [2, 0, 1], 3),
        (np.eye(4, dtype=bool)[[3, 0, 1]], [3, 0, 1], 4),
        (np.array(["b", "a", "b"]), [1, 0, 1], 2),
        (np.array([b"b", b"a", b"b"]), [1, 0, 1], 2),
        (None, [-1, -1, -1], 1),
        ([2, 2, 2], [2, 2, 2], 3),
    ],
    ids=str,
)
def test_labels(labels, expected, classes):
    data = from_arrays(pixels(np.uint8), labels)
    assert data.labels.tolist() == expected
    assert data.num_classes == classes


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        ([0, 1], r"labels must be \[3\].*got \(2,\)"),
        ([0, 1, -2], "got -2 for image 2"),
        ([0, 1.5, 1], "whole numbers; got 1.5 for image 1"),
        ([0, np.nan, 1], "whole numbers; got nan for image 1"),
        ([[0, 1], [1, 1], [1, 0]], r"one-hot; got \[1, 1\] for image 1"),
        ([[0.2, 0.8]] * 3, "one-hot"),
        ([0, 1, 500], "labels reach 500 for 3 images; give classes"),
        (["a", "b"], r"labels must be \[3\]"),
    ],
    ids=str,
)
def test_bad_labels(labels, match):
    with pytest.raises(ValueError, match=match):
        from_arrays(pixels(np.uint8), labels)


def test_classes_bound_the_labels():
    data = from_arrays(pixels(np.uint8), [0, 2, 0], classes=["a", "b", "c"])
    assert data.empty_classes == ("b",)
    with pytest.raises(ValueError, match=r"lie in 0 \.\. 1, the 2 classes.*got 2 for image 1"):
        from_arrays(pixels(np.uint8), [0, 2, 0], classes=["a", "b"])
    with pytest.raises(ValueError, match=r"labels must be among the 2 classes; got \['z'\]"):
        from_arrays(pixels(np.uint8), ["a", "b", "z"], classes=["a", "b"])


class Squares(Dataset):
    classes = ("dark", "light")

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int):
        value = np.full((3, 5), 60 * i, np.uint8)
        if self.kind == "pillow":
            return Image.fromarray(value), i // 2
        if self.kind == "tensor":
            return torch.from_numpy(value)[None] / 255, torch.tensor(i // 2)
        return value, np.int64(i // 2)


@pytest.mark.parametrize("kind", ["pillow", "tensor", "array"])
def test_torch_data_sets(kind):
    data = from_dataset(Squares(kind))
    assert data.classes == ("dark", "light")
    assert data.labels.tolist() == [0, 0, 1, 1]
    x, _ = data.batch(slice(0, 4))
    assert (x[:, 0, 0, 0] - torch.arange(4) * 60 / 255).abs().max() < 1e-6
    assert len(as_image_set(Subset(Squares(kind), [3, 0]))) == 2
    assert len(as_image_set(TensorDataset(torch.rand(3, 1, 2, 2), torch.tensor(LABELS)))) == 3


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.zeros(1, 2, 2), 0


class Lengthless:
    def __getitem__(self, i: int):
        return torch.zeros(1, 2, 2), 0


class Uneven(Squares):
    def __getitem__(self, i: int):
        return np.zeros((3, 5 + i % 2), np.uint8), 0


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        (Endless(), TypeError, "map-style, with a length; got an IterableDataset"),
        (DataLoader(Squares("array")), TypeError, r"got a DataLoader: give its \.dataset"),
        (Uneven("x"), ValueError, "item 1 is"),
        ([torch.zeros(1, 2, 2)], TypeError, r"items must be \(image, label\); item 0 is Tensor"),
        (7, TypeError, "got int"),
        (Lengthless(), TypeError, "as a map-style torch Dataset; got Lengthless"),
        (TensorDataset(torch.zeros(0, 1, 2, 2), torch.zeros(0)), ValueError, "it is empty"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_is_no_data_set(source, error, match):
    with pytest.raises(error, match=match):
        as_image_set(source)


@pytest.mark.parametrize(
    "images", [torch.ones(3, 1, 2, 2).to_sparse(), torch.ones(3, 1, 2, 2) * 1j], ids=["sparse", "j"]
)
def test_tensors_that_are_no_images(images):
    with pytest.raises(TypeError, match="images must be a dense tensor of real numbers; got torch"):
        from_arrays(images, LABELS)


def test_image_sets_stay():
    data = from_arrays(pixels(np.uint8), LABELS)
    assert as_image_set(data) is data
    with pytest.raises(ValueError, match="an ImageSet takes no options; got layout"):
        as_image_set(data, layout="CHW")


NAMES = {
    "keras": ("x_train", "y_train", "x_test", "y_test"),
    "medmnist": ("train_images", "train_labels", "test_images", "test_labels"),
    "capital": ("X_train", "Y_train", "X_val", "Y_val"),
    "targets": ("train_data", "train_targets", "val_data", "val_targets"),
}


@pytest.mark.parametrize("packed", [True, False], ids=["npz", "npy"])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_files_of_arrays(tmp_path, packed, names):
    arrays = (pixels(np.float64, 200), ["a", "b", "b"], pixels(np.float64, 100), ["b", "b", "a"])
    named = dict(zip(names, map(np.array, arrays), strict=True))
    path = tmp_path / "mine.npz"
    if packed:
        np.savez(path, **named)
    else:
        path = tmp_path / "folder"
        path.mkdir()
        for name, array in named.items():
            np.save(path / f"{name}.npy", array)
    train, test = load_pair(f"arrays:{path}")
    assert isinstance(train, ImageSet)
    assert test.classes == ("a", "b")
    assert test.labels.tolist() == [1, 1, 0]
    assert float(test.images.max()) == pytest.approx(100 / 255)
    alone = load(f"arrays:{path}", "test")
    assert torch.equal(alone.images, test.images)
    normal, _ = load_pair(f"arrays:{path}", normalise="train")
    assert normal.mean == pytest.approx((float(train.images.mean()),))


def test_parts_of_a_file_are_scaled_alike(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x_train=pixels(int, 3000), y_train=LABELS, x_test=pixels(int), y_test=LABELS)
    train, test = load_pair(str(path))
    assert train.images.max() == pytest.approx(3000 / 65535)
    assert test.images.max() == pytest.approx(255 / 65535)
    np.savez(path, x_train=pixels(int), y_train=LABELS, x_test=pixels(int, 3000), y_test=LABELS)
    with pytest.raises(ValueError, match=r"lie in value_range, 0 \.\. 255; got 0 \.\. 3000"):
        load(str(path), "test")


def test_arrays_without_a_test_part(tmp_path):
    path = tmp_path / "x.npz"
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1) + np.zeros((1, 1, 4, 4), np.uint8)
    np.savez(path, images=images, labels=np.arange(20) // 10)
    train, test = load_pair(str(path), holdout=0.3, limit=4)
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert not set(train.images[:, 0, 0, 0].tolist()) & set(test.images[:, 0, 0, 0].tolist())
    with pytest.raises(ValueError, match=r"no arrays of the part 'train', only of all.*holdout"):
        load(str(path))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"PK\x03\x04 cut", r"x\.npz cannot be read as an array"),
        ({"a": [1]}, r"must hold train_images, .*; got a"),
        ({"x_train": [1]}, "images of the part 'train' but no labels"),
        ({"x": np.array([{}]), "y": [0]}, r"x in .*x\.npz cannot be read as an array.*pickle"),
    ],
    ids=["cut", "names", "labels", "objects"],
)
def test_damaged_files_of_arrays(tmp_path, content, match):
    path = tmp_path / "x.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(ValueError, match=match) as error:
        load(f"arrays:{path}", "all")
    assert "download" not in str(error.value)
    with pytest.raises(ValueError, match="must name an existing file or folder"):
        load(f"arrays:{tmp_path}/none.npz")


def test_bytes_behind_the_values_of_an_array_are_noticed(tmp_path):
    for name, array in (("x", np.zeros((6, 4, 4), np.uint8)), ("y", np.arange(6) % 2)):
        np.save(tmp_path / f"{name}.npy", array)
    assert len(load(f"arrays:{tmp_path}", "all")) == 6
    path = tmp_path / "x.npy"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"x\.npy cannot be read as an array: there is more"):
        load(f"arrays:{tmp_path}", "all")


def test_a_member_of_an_npz_that_says_it_is_smaller(tmp_path):
    """NumPy reads no further then, and comes to no check sum."""
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((6, 400, 400), np.uint8), y=np.arange(6) % 2)
    path.write_bytes(path.read_bytes().replace(b"(6, 400, 400)", b"(6, 400, 200)"))
    assert np.load(path)["x"].shape == (6, 400, 200)
    with pytest.raises(ValueError, match=r"x\.npz cannot be read as an array: .*check sum"):
        load(f"arrays:{path}", "all")


def test_labels_that_do_not_fit_name_their_file(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((2, 4, 4), np.uint8), y=np.array([0, 99]))
    with pytest.raises(ValueError, match=r"labels reach 99 .*part 'all' of .*x\.npz"):
        load(f"arrays:{path}", "all")
