from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from softhebb_fast.data import load
from softhebb_fast.data.pillow import pixels

RAMP = np.array([[0, 1, 256, 65535], [4096, 32768, 12345, 255]], np.uint16)


def folder(root: Path, image: Image.Image, name: str = "x.png", **options) -> str:
    (root / "train/a").mkdir(parents=True, exist_ok=True)
    image.save(root / "train/a" / name, **options)
    return f"imagefolder:{root}"


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_keep_their_depth(tmp_path, suffix):
    loaded = load(folder(tmp_path, Image.fromarray(RAMP), f"x.{suffix}"), normalise="off")
    assert loaded.images.dtype == torch.float32
    expected = torch.from_numpy(RAMP.astype(np.float32) / 65535)
    assert torch.equal(loaded.images[0, 0], expected)
    assert loaded.converted == {"values were divided by 65535": 1}


def test_depths_mix(tmp_path):
    folder(tmp_path, Image.fromarray(RAMP), "deep.png")
    name = folder(tmp_path, Image.fromarray(np.full((2, 4), 51, np.uint8)), "flat.png")
    images = load(name, normalise="off").images
    assert images[1].unique().tolist() == [torch.tensor(0.2).item()]
    assert images[0].max() == 1
    three = load(name, normalise="off", channels=3).images
    assert torch.equal(three[:, 2], images[:, 0])


def test_sixteen_bits_are_resized_in_floats(tmp_path):
    name = folder(tmp_path, Image.fromarray(np.full((8, 8), 300, np.uint16)))
    images = load(name, image_size=4, normalise="off").images
    assert (images - 300 / 65535).abs().max() < 1e-7


def test_one_bit_and_palettes(tmp_path):
    bits = np.array([[0, 1], [1, 0]], bool)
    loaded = load(folder(tmp_path / "bits", Image.fromarray(bits)), normalise="off")
    assert loaded.images[0, 0].tolist() == [[0, 255], [255, 0]]
    colours = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    colours.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    loaded = load(folder(tmp_path / "p", colours), normalise="off")
    assert loaded.images[0, :, 0, 0].tolist() == [255, 0, 0]
    assert loaded.images[0, :, 1, 0].tolist() == [0, 0, 255]
    greys = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    greys.putpalette([7, 7, 7, 9, 9, 9])
    loaded = load(folder(tmp_path / "g", greys), normalise="off")
    assert loaded.images[0].tolist() == [[[7, 9], [9, 7]]]


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "shape", "change"),
    [
        ("RGBA", (200, 100, 50, 0), "png", 3, "alpha was dropped"),
        ("LA", (200, 0), "png", 1, "alpha was dropped"),
        ("CMYK", (0, 0, 0, 0), "jpg", 3, "CMYK became RGB"),
        ("RGB", (9, 9, 9), "png", 3, None),
    ],
)
def test_modes(tmp_path, mode, colour, suffix, shape, change):
    image = Image.new(mode, (4, 4), colour)
    loaded = load(folder(tmp_path, image, f"x.{suffix}"), normalise="off")
    assert loaded.image_shape == (shape, 4, 4)
    assert loaded.converted == ({change: 1} if change else {})
    rgb = np.asarray(Image.open(tmp_path / f"train/a/x.{suffix}").convert("RGB"))
    assert np.abs(loaded.images[0, 0].numpy().astype(int) - rgb[..., 0]).max() == 0


def test_colours_become_grey_on_request_with_a_word(tmp_path):
    loaded = load(folder(tmp_path, Image.new("RGB", (3, 3), (255, 0, 0))), channels=1)
    assert loaded.images.unique().tolist() == [76]  # 0.299 * 255
    assert loaded.converted == {"RGB became L": 1}


def test_frames_after_the_first_are_left_out_with_a_word(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), v, np.uint8)) for v in (10, 200, 90)]
    name = folder(tmp_path, frames[0], "x.gif", save_all=True, append_images=frames[1:])
    loaded = load(name, normalise="off")
    assert loaded.images.unique().tolist() == [10]
    assert loaded.converted == {"frames after the first were left out": 1}


def test_floats_in_the_unit_range_stay(tmp_path):
    values = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
    loaded = load(folder(tmp_path, Image.fromarray(values), "x.tif"), normalise="off")
    assert loaded.images[0, 0].tolist() == values.tolist()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.array([[0, 2.5]], np.float32), r"x\.tif .*must lie in 0 \.\. 1; got 0 \.\. 2\.5"),
        (np.array([[0, -0.1]], np.float32), r"x\.tif .*must lie in 0 \.\. 1"),
        (np.array([[0, np.nan]], np.float32), r"x\.tif .*must lie in 0 \.\. 1"),
        (np.array([[0, 70000]], np.int32), r"x\.tif .*32 bits"),
    ],
)
def test_values_without_a_range_are_refused(tmp_path, values, match):
    with pytest.raises(ValueError, match=match):
        load(folder(tmp_path, Image.fromarray(values), "x.tif"), normalise="off")


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path):
    path = tmp_path / "x.png"
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert pixels(path, (16, 16), 1, False)[0].tolist() == [noise.tolist()]
    whole = path.read_bytes()
    start, end = whole.index(b"IDAT") + 4, whole.index(b"IEND") - 8
    for place in range(start, end, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"x\.png cannot be read as an image"):
            pixels(path, (16, 16), 1, False)
