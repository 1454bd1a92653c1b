"""Image sets from arrays of any type: the rules by which values, axes and labels are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softhebb_fast.data.images import CHUNK, ImageSet, check_finite

LAYOUTS = ("CHW", "HWC")
BYTES, WORDS, UNIT = (0.0, 255.0), (0.0, 65535.0), (0.0, 1.0)
ROUNDING = 1e-6  # of floats that were scaled before, as a share of their range
Range = tuple[float, float] | str | None


def from_arrays(
    images: Any,
    labels: Any = None,
    *,
    name: str = "arrays",
    split: str = "train",
    classes: Sequence[str] | None = None,
    layout: str | None = None,
    value_range: Range = None,
) -> ImageSet:
    """An ``ImageSet`` on the CPU from a tensor or NumPy array of any real type.

    Args:
        images: ``[N, H, W]``, ``[N, C, H, W]`` or ``[N, H, W, C]``; a list of equal arrays too.
        labels: see below; None for none.
        name, split: those of the set.
        classes: their names. By default as many as the labels name, or 1 without labels.
        layout: "CHW" or "HWC". By default the one in which there are 1 or 3 channels.
        value_range: the (low, high) that become 0 and 1, or "raw" to keep the values as they are.

    Values become x in [0, 1], by this rule unless ``value_range`` is given:

    ======================  =========================================================
    uint8                   the bytes stay; x = byte / 255
    bool                    0 and 1, kept as the bytes 0 and 255
    uint16                  x = value / 65535, float32
    other integers          within 0 .. 1 as they are, else within 0 .. 255 as bytes, else
                            within 0 .. 65535 / 65535
    floats                  within 0 .. 1 as they are; / 255 if the largest is from 2 to 255
    ======================  =========================================================

    Anything else is refused. Floats are kept as float32, also where they came as float64. What
    was changed is in ``converted``.

    Labels are ``[N]`` or ``[N, 1]`` of any integer type, bools, floats that are whole numbers, or
    strings (the classes, sorted), or one-hot ``[N, classes]``; -1 stands for no label.

    Raises:
        TypeError: what is no array, or of complex numbers or objects.
        ValueError: shapes, values or labels that the rules do not cover, or not finite.
    """
    array = to_tensor(images, "images")
    array = _channels_first(array, layout)
    low_high = value_rule(array, value_range)
    if labels is None:
        index, named = torch.full((len(array),), -1), ("unlabelled",)
    else:
        index, named = read_labels(labels, len(array), classes)
    converted = {said: len(array)} if (said := _said(array, low_high)) else {}
    like = {"value_range": low_high} if array.dtype != torch.uint8 or value_range else {}
    like |= {"layout": layout} if layout else {}
    chosen = named if classes is None else tuple(map(str, classes))
    scaled = _scaled(array, low_high)
    return ImageSet(name, split, scaled, index, chosen, converted=converted, like=like)


def to_tensor(values: Any, name: str) -> Tensor:
    """A tensor of the values, without a copy where that is possible.

    Raises TypeError, naming the argument, unless they are real numbers.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    else:
        if not isinstance(values, list | tuple | np.ndarray) and not hasattr(values, "__array__"):
            raise TypeError(f"{name} must be a tensor or an array; got {type(values).__name__}")
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"{name} must be equal in shape: {error}") from error
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name} must be real numbers; got an array of {array.dtype}")
        if array.dtype == np.longdouble:
            array = array.astype(np.float64)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()
        values = torch.from_numpy(array)
    if values.is_complex() or values.is_quantized or values.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor of real numbers; got {values.dtype}")
    return values


def value_rule(images: Tensor, value_range: Range) -> tuple[float, float] | str:
    """The range of values that becomes [0, 1] (or "raw"), given or by the rule of the type.

    Raises ValueError for values that no rule covers, or outside of ``value_range``.
    """
    if images.is_floating_point():
        check_finite(images)
    least, most = _extremes(images)
    if value_range is not None:
        return _given_range(value_range, least, most)
    if images.dtype in (torch.uint8, torch.bool):
        return BYTES
    if images.dtype == torch.uint16:
        return WORDS
    whole = not images.is_floating_point()
    rounding = 0 if whole else ROUNDING
    if -rounding <= least and most <= 1 + rounding:
        return UNIT
    if -rounding <= least and 2 <= most <= 255 * (1 + rounding):
        return BYTES
    if least >= 0 and whole and most <= 65535:
        return WORDS
    wanted = "0 .. 255 or 0 .. 65535" if whole else "0 .. 1, or 0 .. 255 with values above 2"
    raise ValueError(
        f"images of {_name(images)} must lie in {wanted}; got {least:g} .. {most:g}. Give "
        "value_range=(low, high), which become 0 and 1, or value_range='raw' to keep them"
    )


def _said(images: Tensor, value_range: tuple[float, float] | str) -> str:
    """What is done to the values, in words; empty for nothing."""
    name, whole = _name(images), not images.is_floating_point()
    if value_range == "raw" or value_range == UNIT:
        return "" if images.dtype == torch.float32 else f"{name} was kept as float32"
    if value_range == BYTES and images.dtype == torch.bool:
        return "bool became 0 and 255"
    if value_range == BYTES and whole:
        return "" if images.dtype == torch.uint8 else f"{name} became bytes"
    low, high = value_range
    return f"{name} was divided by {high:g}" if low == 0 else f"{name} was scaled by value_range"


def _name(images: Tensor) -> str:
    return str(images.dtype).removeprefix("torch.")


def read_labels(
    labels: Any, images: int, classes: Sequence[str] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels int64 ``[images]`` and the class names. Raises as ``from_arrays`` does."""
    names = None if classes is None else tuple(map(str, classes))
    array = labels if isinstance(labels, Tensor) else np.asarray(labels)
    if isinstance(array, np.ndarray) and array.dtype.kind in "USO":
        return _by_name(array.ravel() if array.ndim == 2 else array, images, names)
    index = to_tensor(array, "labels")
    if index.dim() == 2 and index.shape[1] == 1:
        index = index[:, 0]
    if index.dim() == 2:
        index, names = _from_one_hot(index), names or tuple(map(str, range(index.shape[1])))
    if index.shape != (images,):
        raise ValueError(f"labels must be [{images}], one an image; got {tuple(index.shape)}")
    if index.is_floating_point():
        bad = (index != index.round()).nonzero()  # also of NaN
        if len(bad):
            i = int(bad[0])
            raise ValueError(f"labels must be whole numbers; got {float(index[i]):g} for image {i}")
    index = index.to(torch.int64)
    if names is None:
        count = int(index.max()) + 1 if images else 0
        if count > max(images, 2):
            raise ValueError(
                f"labels reach {count - 1} for {images} images; give classes, their names, if "
                "there are that many"
            )
        names = tuple(map(str, range(max(count, 1))))
    return index, names


def _by_name(
    array: np.ndarray, images: int, names: tuple[str, ...] | None
) -> tuple[Tensor, tuple[str, ...]]:
    given = [v.decode() if isinstance(v, bytes) else v for v in array.tolist()]
    if not all(isinstance(v, str) for v in given):
        raise TypeError("labels must be numbers or strings, not objects")
    if len(given) != images:
        raise ValueError(f"labels must be [{images}], one an image; got {array.shape}")
    names = names or tuple(sorted(set(given)))
    index = {name: i for i, name in enumerate(names)}
    if unknown := sorted(set(given) - set(index)):
        raise ValueError(f"labels must be among the {len(names)} classes; got {unknown[:5]}")
    return torch.tensor([index[v] for v in given], dtype=torch.int64), names


def _from_one_hot(rows: Tensor) -> Tensor:
    rows = _wide(rows)
    sound = ((rows == 0) | (rows == 1)).all(dim=1) & (rows.to(torch.int64).sum(dim=1) == 1)
    if not sound.all():
        i = int(sound.logical_not().nonzero()[0])
        raise ValueError(
            f"labels of two axes must be one-hot; got {rows[i].tolist()} for image {i}"
        )
    return rows.to(torch.int64).argmax(dim=1)


def _channels_first(images: Tensor, layout: str | None) -> Tensor:
    shape = tuple(images.shape)
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    if images.dim() == 3:
        return images[:, None]
    if images.dim() != 4:
        raise ValueError(f"images must be [N, H, W], [N, C, H, W] or [N, H, W, C]; got {shape}")
    if layout is None:
        fitting = [
            name for name, axis in zip(LAYOUTS, (1, 3), strict=True) if shape[axis] in (1, 3)
        ]
        if len(fitting) != 1:
            raise ValueError(
                f"layout must be given, 'CHW' or 'HWC', where the shape does not tell; got {shape}"
            )
        [layout] = fitting
    return images if layout == "CHW" else images.movedim(3, 1)


def _given_range(value_range: Any, least: float, most: float) -> tuple[float, float] | str:
    if value_range == "raw":
        return "raw"
    try:
        low, high = map(float, value_range)
    except (TypeError, ValueError):
        raise TypeError(f"value_range must be (low, high) or 'raw'; got {value_range!r}") from None
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"value_range must be finite and rise; got {value_range!r}")
    rounding = ROUNDING * (high - low)
    if least < low - rounding or most > high + rounding:
        raise ValueError(
            f"images must lie in value_range, {low:g} .. {high:g}; got {least:g} .. {most:g}"
        )
    return low, high


def _extremes(images: Tensor) -> tuple[float, float]:
    if not images.numel():
        return 0.0, 0.0
    ends = [_wide(part) for part in images.split(CHUNK)]
    return float(min(part.min() for part in ends)), float(max(part.max() for part in ends))


def _scaled(images: Tensor, value_range: tuple[float, float] | str) -> Tensor:
    """uint8 or float32 ``[N, C, H, W]``."""
    if images.dtype == torch.uint8 and value_range == BYTES:
        return images
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if not images.is_floating_point() and value_range == BYTES:
        return images.to(torch.uint8)
    scaled = torch.empty(images.shape, dtype=torch.float32)
    for part, out in zip(images.split(CHUNK), scaled.split(CHUNK), strict=True):
        values = _wide(part)
        if value_range not in ("raw", UNIT):
            low, high = value_range
            values = (values.double() - low) / (high - low)
        out.copy_(values)
    return scaled


def _wide(part: Tensor) -> Tensor:
    """Numbers of a type with which torch calculates."""
    narrow = (torch.uint16, torch.uint32, torch.bool)
    if part.dtype == torch.uint64:
        return part.double() if not len(part) else torch.from_numpy(part.numpy().astype(np.float64))
    return part.to(torch.int64) if part.dtype in narrow else part
