"""One image file, by Pillow: its header, and its pixels in the channels and depth asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

GREY = ("1", "L", "LA", "La", "I", "F")
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
BY_RGBA = {"P": "RGBA", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
UNREADABLE = ("EPS", "MPEG")  # Pillow knows their headers alone, or calls other programs


class Header(NamedTuple):
    """Height, width and channels (1 or 3) of an image; ``deep`` if it has over 8 bits."""

    height: int
    width: int
    channels: int
    deep: bool


@cache
def suffixes() -> frozenset[str]:
    """The suffixes of the formats that Pillow reads by itself, in lower case."""
    Image.init()
    kinds = {name: kind for name, (kind, _) in Image.OPEN.items() if name not in UNREADABLE}
    readable = {
        name
        for name, kind in kinds.items()
        if not (isinstance(kind, type) and issubclass(kind, ImageFile.StubImageFile))
    }
    return frozenset(
        suffix for suffix, name in Image.registered_extensions().items() if name in readable
    )


def header(path: Path) -> Header:
    """The header of an image. Raises ValueError, naming the file, if Pillow cannot read it."""
    with _opened(path) as image:
        deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
        return Header(image.height, image.width, 1 if _grey(image) else 3, deep)


def pixels(
    path: Path, size: tuple[int, int], channels: int, deep: bool
) -> tuple[np.ndarray, list[str]]:
    """The pixels [C, H, W] of an image, and what was changed in words.

    It is scaled to ``size`` (height, width) on the side that fits worse, and cropped in the
    centre. uint8, or with ``deep`` float32 in [0, 1]: values of 8 bits are divided by 255, of 16
    bits by 65535 (in a TIFF of 12 bits by 4095); floats must lie in [0, 1] and stay. Alpha is
    dropped. Of several frames the first is taken. Grey values are repeated for three channels;
    colours become their luminance (ITU-R 601) for one.

    Raises ValueError, naming the file, if it is truncated or has another kind of pixels.
    """
    with _opened(path) as image:
        if image.format == "PNG":  # Pillow decodes pixels without a look at their check sums
            image.verify()
    with _opened(path) as image:
        changes, divisor = _changes(image), _divisor(image)
        if divisor is None:
            mode = "L" if channels == 1 else "RGB"
            if image.mode in ("CMYK", "YCbCr", "HSV") or (channels == 1 and not _grey(image)):
                changes.append(f"{image.mode} became {mode}")
            if image.mode in BY_RGBA:
                image = image.convert(BY_RGBA[image.mode])
            changed = image.convert(mode)
            planes = [changed] if channels == 1 else list(changed.split())
        else:
            stored = np.asarray(image)
            values = stored.astype(np.float32) / np.float32(divisor)
            if not (values.min(initial=0.0) >= 0 and values.max(initial=0.0) <= 1):
                raise ValueError(
                    f"its values must lie in 0 .. {divisor}; got {stored.min():g} .. "
                    f"{stored.max():g}; scale them, or give arrays"
                )
            planes = [Image.fromarray(values)] * channels
    if planes[0].size != size[::-1]:
        planes = [ImageOps.fit(p, size[::-1], Image.Resampling.BILINEAR) for p in planes]
        changes.append(f"scaled and cropped to {size[0]}x{size[1]}")
    array = np.stack([np.asarray(plane) for plane in planes])
    if deep and array.dtype == np.uint8:
        array = array.astype(np.float32) / np.float32(255)
    if not deep and array.dtype != np.uint8:
        array = np.rint(array * 255).astype(np.uint8)
        changes.append("scaled to 8 bits")
    return array, changes


def _grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in GREY or image.mode.startswith("I;16")


def _changes(image: Image.Image) -> list[str]:
    changes = []
    if image.mode in ALPHA or "transparency" in image.info:
        changes.append("alpha was dropped")
    if getattr(image, "n_frames", 1) > 1:
        changes.append("frames after the first were left out")
    if divisor := _divisor(image):
        changes.append(f"values were divided by {divisor}" if divisor > 1 else "floats stayed")
    elif ";16" in _raw_mode(image):
        changes.append("of 16 bits a colour Pillow gives the upper 8")
    return changes


def _divisor(image: Image.Image) -> int | None:
    """By what the pixels are divided; None for 8 bits, which stay. ValueError for other kinds."""
    if image.mode == "F":
        return 1
    if image.mode.startswith("I;16"):
        return 4095 if "I;12" in _raw_mode(image) else 65535
    if image.mode == "I":
        # Pillow spreads the grey values of PGM over 16 bits, in this mode for want of another.
        if image.format in ("PNG", "PPM"):
            return 65535
        raise ValueError("integers of 32 bits, or signed ones, have no stated range")
    return None


def _raw_mode(image: Image.Image) -> str:
    return str(image.tile[0][3]) if getattr(image, "tile", None) else ""


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # a damaged image can fail in any way
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
