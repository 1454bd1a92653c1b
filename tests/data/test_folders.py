from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from softhebb_fast.data import load, load_pair


def grey(path: Path, value: int = 100, size: tuple[int, int] = (4, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)
    return path


def flat(root: Path, **counts: int) -> Path:
    for name, count in counts.items():
        for i in range(count):
            grey(root / name / f"{i}.png", 10 * i)
    return root


def test_folders_are_read_as_torchvision_reads_them(tmp_path):
    train = tmp_path / "train"
    order = ["Z/b.png", "Z/deep/a.png", "Z/deep/er/c.PNG", "a/1.BMP", "a/10.tif", "a/9.pgm"]
    for i, name in enumerate(order):
        grey(train / name, i)
    loaded = load(str(tmp_path), normalise="off")
    assert loaded.classes == ("Z", "a")  # capitals first
    assert loaded.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert loaded.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert loaded.image_shape == (1, 4, 6)
    assert loaded.name == f"imagefolder:{tmp_path}"


@pytest.mark.parametrize("suffix", ["gif", "webp", "ppm", "tiff", "tga", "jp2", "ico", "pcx"])
def test_formats_of_pillow(tmp_path, suffix):
    (tmp_path / "train/a").mkdir(parents=True)
    pixels = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"train/a/x.{suffix}")
    loaded = load(f"imagefolder:{tmp_path}", normalise="off")
    assert loaded.image_shape == (3, 16, 16)
    colour = loaded.images.float().mean(dim=(0, 2, 3))
    assert (colour - torch.tensor([200.0, 100, 50])).abs().max() < 30  # lossy formats and palettes


def test_what_is_skipped_is_counted(tmp_path):
    train = flat(tmp_path / "train", a=2, b=1)
    (train / "empty").mkdir()
    grey(train / ".ipynb_checkpoints/a-checkpoint.png")
    grey(train / "a/._0.png")
    grey(train / "a/.thumbs/0.png")
    (train / "a/notes.TXT").write_text("words")
    (train / "a/README").write_text("words")
    (train / "b/scan.eps").write_text("%!PS")
    (train / "list.csv").write_text("1")
    (train / "a/gone.png").symlink_to(tmp_path / "nowhere.png")
    loaded = load(f"imagefolder:{tmp_path}")
    assert loaded.classes == ("a", "b", "empty")
    assert loaded.labels.tolist() == [0, 0, 1]
    assert loaded.empty_classes == ("empty",)
    assert dict(loaded.skipped) == {
        "hidden": 3,
        "outside of the folders of classes": 1,
        "no format that Pillow reads (.txt)": 1,
        "no format that Pillow reads (no suffix)": 1,
        "no format that Pillow reads (.eps)": 1,
        "a link to nothing, or no regular file": 1,
    }
    assert any("1 of 3 classes are empty: empty" in line for line in loaded.report())


def test_links_are_followed_but_not_round(tmp_path):
    train = flat(tmp_path / "train", a=1)
    outside = flat(tmp_path / "elsewhere", b=2) / "b"
    (train / "b").symlink_to(outside)
    (train / "a/linked.png").symlink_to(outside / "1.png")
    (train / "a/loop").symlink_to(train)
    os.symlink(train / "a", train / "a/self")
    loaded = load(f"imagefolder:{tmp_path}", normalise="off")
    assert loaded.classes == ("a", "b")
    # below a/loop lies the other class again, as torchvision sees it, and a itself is not entered
    assert loaded.labels.bincount().tolist()[1] == 2
    assert loaded.skipped["a link to a folder around it"] >= 2


@pytest.mark.parametrize("name", ["test", "val", "valid", "Validation", "TEST"])
def test_names_of_the_test_part(tmp_path, name):
    flat(tmp_path / "train", a=2, b=2)
    flat(tmp_path / name, b=1)
    train, test = load_pair(f"imagefolder:{tmp_path}")
    assert len(train) == 4
    assert test.labels.tolist() == [1]
    assert test.mean == train.mean
    assert test.empty_classes == ("a",)


def test_unlabelled_test_images_are_no_test_part(tmp_path):
    flat(tmp_path / "train", a=2)
    flat(tmp_path / "val", a=1)
    grey(tmp_path / "test/0.png")
    assert len(load(f"imagefolder:{tmp_path}", "test")) == 1


def test_a_tree_without_parts(tmp_path):
    flat(tmp_path, cats=10, dogs=5)
    with pytest.raises(
        ValueError, match=r"no folder train; it holds 2 folders \(cats, dogs\).*0\.2"
    ):
        load(f"imagefolder:{tmp_path}")
    assert len(load(f"imagefolder:{tmp_path}", "all")) == 15
    train, test = load_pair(f"imagefolder:{tmp_path}", holdout=0.2)
    assert train.labels.bincount().tolist() == [8, 4]
    assert test.labels.bincount().tolist() == [2, 1]
    both = torch.cat((train.images, test.images))[:, 0, 0, 0].sort().values
    assert both.tolist() == sorted([*range(0, 100, 10), *range(0, 50, 10)])
    again, _ = load_pair(f"imagefolder:{tmp_path}", holdout=0.2)
    other, _ = load_pair(f"imagefolder:{tmp_path}", holdout=0.2, seed=1)
    assert torch.equal(train.images, again.images)
    assert not torch.equal(train.images, other.images)
    with pytest.raises(ValueError, match="holdout must leave images to test on"):
        load(f"imagefolder:{tmp_path}", holdout=0.01)


def test_a_tree_without_tests(tmp_path):
    flat(tmp_path / "train", a=4, b=4)
    assert len(load(f"imagefolder:{tmp_path}")) == 8
    with pytest.raises(ValueError, match=r"no folder of the part 'test'.*only of train.*holdout"):
        load(f"imagefolder:{tmp_path}", "test")
    assert len(load(f"imagefolder:{tmp_path}", "test", holdout=0.25)) == 2
    flat(tmp_path / "test", a=1)
    with pytest.raises(ValueError, match="holdout is for data without a part for tests"):
        load(f"imagefolder:{tmp_path}", holdout=0.25)


def test_a_class_may_be_called_train(tmp_path):
    flat(tmp_path, train=4, bus=4)
    train, test = load_pair(f"imagefolder:{tmp_path}", holdout=0.5)
    assert train.classes == ("bus", "train")
    assert len(test) == 4


def test_tiny_imagenet(tmp_path):
    for name in ("n02", "n01"):
        grey(tmp_path / f"train/{name}/images/{name}_0.JPEG", 50)
        (tmp_path / f"train/{name}/{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t5\t5\n")
    for i in range(3):
        grey(tmp_path / f"val/images/val_{i}.JPEG", 100 * i)
    grey(tmp_path / "val/images/unlisted.JPEG")
    grey(tmp_path / "test/images/test_0.JPEG")
    lines = ["val_2.JPEG\tn01\t0\t0\t5\t5", "val_0.JPEG\tn02\t0\t0\t5\t5", ""]
    annotations = tmp_path / "val/val_annotations.txt"
    annotations.write_text("\n".join(lines))
    train, test = load_pair(f"imagefolder:{tmp_path}", normalise="off")
    assert train.classes == ("n01", "n02")
    assert dict(train.skipped) == {"no format that Pillow reads (.txt)": 2}
    assert test.labels.tolist() == [0, 1]
    assert test.images[:, 0, 0, 0].tolist() == [200, 0]
    assert dict(test.skipped) == {"not in val_annotations.txt": 2}
    annotations.write_text("val_2.JPEG\tn07\t0\t0\t5\t5\n")
    with pytest.raises(ValueError, match=r"line 1 of .*val_annotations\.txt must name.*n07"):
        load(f"imagefolder:{tmp_path}", "test")


def test_images_of_different_sizes_need_one(tmp_path):
    flat(tmp_path / "train", a=1)
    grey(tmp_path / "train/a/wide.png", size=(4, 9))
    match = r"image_size must be given, as.*0\.png is 4x6, wide\.png 4x9"
    with pytest.raises(ValueError, match=match):
        load(f"imagefolder:{tmp_path}")
    loaded = load(f"imagefolder:{tmp_path}", image_size=(3, 5))
    assert loaded.image_shape == (1, 3, 5)
    assert loaded.converted == {"scaled and cropped to 3x5": 2}


def test_channels_and_normalisation_are_options(tmp_path):
    flat(tmp_path / "train", a=3)
    three = load(f"imagefolder:{tmp_path}", channels=3, normalise="imagenet")
    assert three.image_shape == (3, 4, 6)
    assert three.mean == (0.485, 0.456, 0.406)
    assert torch.equal(three.images[:, 0], three.images[:, 2])
    assert load(f"imagefolder:{tmp_path}", normalise="off").mean is None
    given = load(f"imagefolder:{tmp_path}", normalise=[[0.5], [0.25]])
    assert (given.mean, given.std) == ((0.5,), (0.25,))
    assert load(f"imagefolder:{tmp_path}").mean == pytest.approx((10 / 255,))
    with pytest.raises(ValueError, match=r"mean and std must both be None or have 1 values"):
        load(f"imagefolder:{tmp_path}", normalise="imagenet")


@pytest.mark.parametrize(
    ("option", "error", "match"),
    [
        ({"image_size": 0}, ValueError, "image_size must be a positive side"),
        ({"image_size": (4, 4, 4)}, ValueError, "image_size must be a positive side"),
        ({"channels": 2}, ValueError, "channels must be 1 or 3; got 2"),
        ({"normalise": "mean"}, ValueError, "normalise must be one of off, train, imagenet"),
        ({"normalise": [[0.5], [0.0]]}, ValueError, "positive deviations"),
        ({"holdout": 1.5}, ValueError, "holdout must be a fraction"),
        ({"holdout": "a"}, TypeError, "holdout must be a number"),
        ({"layout": "CHW"}, ValueError, "layout is for arrays; got 'CHW' for imagefolder"),
        ({"skip_damaged": 1}, TypeError, "skip_damaged must be a bool"),
    ],
)
def test_options_are_checked(tmp_path, option, error, match):
    flat(tmp_path / "train", a=1)
    with pytest.raises(error, match=match):
        load(f"imagefolder:{tmp_path}", **option)


@pytest.mark.parametrize("content", [b"", b"no image", "cut"], ids=["empty", "text", "cut"])
def test_damaged_images(tmp_path, content):
    flat(tmp_path / "train", a=3)
    path = tmp_path / "train/a/1.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (4, 6), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-30] if content == "cut" else content)
    match = r"a/1\.png cannot be read as an image: .*leave such files out with skip_damaged"
    with pytest.raises(ValueError, match=match) as error:
        load(f"imagefolder:{tmp_path}")
    assert "download" not in str(error.value)
    loaded = load(f"imagefolder:{tmp_path}", skip_damaged=True, normalise="off")
    assert loaded.images[:, 0, 0, 0].tolist() == [0, 20]


def test_nothing_to_read(tmp_path):
    (tmp_path / "train/a").mkdir(parents=True)
    (tmp_path / "train/a/words.txt").write_text("")
    with pytest.raises(ValueError, match=r"found none, skipped 1: no format.*\.txt"):
        load(f"imagefolder:{tmp_path}")


def test_more_memory_than_there_is(tmp_path):
    flat(tmp_path / "train", a=3)
    with pytest.raises(ValueError, match=r"3 images of 1x1000000x1000000 need .* GiB of memory"):
        load(f"imagefolder:{tmp_path}", image_size=10**6)
