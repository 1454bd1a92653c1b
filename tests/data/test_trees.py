from __future__ import annotations

import pytest
import torch

from softhebb_fast.data import load
from tests.data.writers import write_tree


def test_tree(tmp_path):
    tree = write_tree(tmp_path / "tree", "train", {"b": 1, "a": 2})
    (tree / "train/a/notes.txt").write_text("not an image")
    loaded = load(f"imagefolder:{tree}", image_size=4)
    assert loaded.classes == ("a", "b")
    assert loaded.labels.tolist() == [0, 0, 1]
    assert loaded.images.shape == (3, 3, 4, 4)
    assert loaded.images.flatten(2).unique(dim=2)[0].tolist() == [[255], [0], [0]]
    x, _ = loaded.batch(torch.tensor([2]))
    # all is red at this size, in the training images too: a constant channel is not stretched
    assert x.flatten(2).unique(dim=2).flatten().tolist() == [0.0, 0.0, 0.0]
    assert loaded.mean == (1.0, 0.0, 0.0)
    red = load(f"imagefolder:{tree}", image_size=4, normalise="imagenet").batch(slice(2, 3))[0]
    assert red[0, 0].unique().tolist() == [torch.tensor(1.0).sub(0.485).div(0.229).item()]


def test_tree_scales_the_short_side(tmp_path):
    tree = write_tree(tmp_path, "train", {"a": 1})
    assert load(f"imagefolder:{tree}").image_shape == (3, 4, 8)
    halved = load(f"imagefolder:{tree}", image_size=2).images[0]
    assert (halved[0] > 200).all()
    assert (halved[2] < 60).all()


def test_named_tree_tests_on_val(tmp_path):
    for split, classes in (("train", {"cat": 1, "dog": 2}), ("val", {"dog": 1})):
        write_tree(tmp_path / "imagenette", split, classes)
    test = load("imagenette", "test", root=tmp_path, image_size=8, download=False)
    assert test.labels.tolist() == [1]
    assert test.classes == ("cat", "dog")
    (tmp_path / "imagenette").rename(tmp_path / "imagenette2-160")
    assert len(load("imagenette", "train", root=tmp_path, image_size=8, download=False)) == 3
    with pytest.raises(FileNotFoundError, match=r"imagenet \(test\) is incomplete.*lacks val"):
        load("imagenet", "test", root=tmp_path)


def test_tree_prefers_its_test_folder(tmp_path):
    for split, count in (("train", 1), ("test", 2), ("val", 3)):
        write_tree(tmp_path, split, {"a": count})
    sizes = {s: len(load(f"imagefolder:{tmp_path}", s)) for s in ("train", "test", "val")}
    assert sizes == {"train": 1, "test": 2, "val": 3}


def test_tree_limit_spreads_over_the_classes(tmp_path):
    tree = write_tree(tmp_path, "train", {"a": 4, "b": 4})
    assert load(f"imagefolder:{tree}", limit=4).labels.tolist() == [0, 0, 1, 1]
    assert len(load(f"imagefolder:{tree}", limit=100)) == 8


def test_bad_trees(tmp_path):
    tree = write_tree(tmp_path, "train", {"a": 1})
    write_tree(tree, "val", {"a": 1, "z": 1})
    with pytest.raises(ValueError, match=r"classes that .*train lacks: z"):
        load(f"imagefolder:{tree}", "val")
    image = tree / "train/a/0.png"
    image.write_bytes(image.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"0\.png cannot be read as an image.*[Tt]runcated"):
        load(f"imagefolder:{tree}")
    image.unlink()
    with pytest.raises(ValueError, match=r"train must hold images as <class>/<name>.*found none"):
        load(f"imagefolder:{tree}")
