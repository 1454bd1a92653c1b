"""A data set as two tensors."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor

CHUNK = 1000  # images that are looked at together


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Labelled images, resident on one device.

    ``len``, iteration and ``set[i]`` give samples (x float32 [C, H, W], label int), as ``batch``
    makes them, so that a ``DataLoader`` takes the set. ``set[part]`` with a slice, indices or a
    mask is the ``subset``.

    Attributes:
        name: canonical name of the data set, such as ``"cifar10"``.
        split: the part that was loaded, such as ``"train"``.
        images: [N, C, H, W], made contiguous: uint8, of which ``batch`` makes x = byte / 255, or
            finite float32, which are x as they are.
        labels: int64 [N] on the same device; -1 where there is no label.
        classes: class names; label i is ``classes[i]``.
        mean, std: per-channel constants that ``batch`` applies as (x - mean) / std;
            None for the sets that were published without a normalisation.
        skipped: what was found and left out: how many files, by reason.
        converted: what was changed in reading: how many images, by change.
        like: options of ``load`` by which another part is read as this one was.

    Raises:
        TypeError: images neither uint8 nor float32, or labels not int64.
        ValueError: shapes that do not fit together, tensors on two devices, labels out of range,
            or values that are not finite, with the number of their image.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    converted: Mapping[str, int] = field(default_factory=dict)
    like: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype not in (torch.uint8, torch.float32) or labels.dtype != torch.int64:
            raise TypeError(
                "images must be uint8 or float32 and labels int64; "
                f"got {images.dtype=} and {labels.dtype=}; data.from_arrays converts others"
            )
        if images.dim() != 4 or labels.shape != images.shape[:1]:
            raise ValueError(
                "images must be [N, C, H, W] and labels [N]; "
                f"got {tuple(images.shape)} and {tuple(labels.shape)}"
            )
        if images.device != labels.device:
            raise ValueError(
                f"images and labels must be on one device; got {images.device} and {labels.device}"
            )
        constants = [v for v in (self.mean, self.std) if v is not None]
        if len(constants) == 1 or any(len(v) != images.shape[1] for v in constants):
            raise ValueError(
                f"mean and std must both be None or have {images.shape[1]} values, one a channel; "
                f"got {self.mean=} and {self.std=}"
            )
        check_labels(labels, len(self.classes))
        check_finite(images)
        object.__setattr__(self, "images", images.contiguous())

    def __len__(self) -> int:
        return self.images.shape[0]

    def __getitem__(self, index: Any) -> tuple[Tensor, int] | ImageSet:
        if isinstance(index, slice):
            return self._rows(index)
        if isinstance(index, Tensor | np.ndarray) and index.ndim == 0:
            index = index.item()
        if isinstance(index, SupportsIndex) and not isinstance(index, Tensor | np.ndarray):
            i = operator.index(index)
            if not -len(self) <= i < len(self):
                raise IndexError(f"index must lie in {-len(self)} .. {len(self) - 1}; got {i}")
            x, labels = self.batch(slice(i % len(self), i % len(self) + 1))
            return x[0], int(labels[0])
        index = torch.as_tensor(index)
        if index.dtype == torch.bool:
            if index.shape != (len(self),):
                raise ValueError(f"a mask must be [{len(self)}]; got {tuple(index.shape)}")
            return self._rows(index.to(self.device))
        return self.subset(index)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        size = "x".join(map(str, self.image_shape))
        dtype = str(self.images.dtype).removeprefix("torch.")
        classes = f"{self.num_classes} class{'es' * (self.num_classes != 1)}"
        parts = [f"{len(self)} images {size} {dtype}", classes, str(self.device)]
        if self.mean is not None:
            moments = (" ".join(f"{v:.4g}" for v in given) for given in (self.mean, self.std))
            parts.append("mean {}, std {}".format(*moments))
        return f"ImageSet({self.name!r}, {self.split!r}: {', '.join(parts)})"

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return tuple(self.images.shape[1:])

    @property
    def device(self) -> torch.device:
        return self.images.device

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """The classes of which the set has no image."""
        counts = self.labels[self.labels >= 0].bincount(minlength=self.num_classes).tolist()
        return tuple(name for name, n in zip(self.classes, counts, strict=True) if not n)

    def report(self) -> list[str]:
        """What was skipped or changed in reading, a line each; empty where nothing was."""
        name = f"{self.name} ({self.split})"
        lines = [f"{name}: skipped {n}: {reason}" for reason, n in self.skipped.items()]
        lines += [f"{name}: {n} images: {change}" for change, n in self.converted.items()]
        if (empty := self.empty_classes) and len(empty) < self.num_classes:
            shown = ", ".join(empty[:5]) + ", ..." * (len(empty) > 5)
            lines.append(f"{name}: {len(empty)} of {self.num_classes} classes are empty: {shown}")
        return lines

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set on ``device``."""
        return self._with(self.images.to(device), self.labels.to(device))

    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over all pixels in [0, 1].

        Both in float64; a channel that is constant has the deviation 1. ValueError if empty.
        """
        if not len(self):
            raise ValueError("an empty set has no mean")
        total = square = torch.zeros(self.images.shape[1], dtype=torch.float64)
        plain = replace(self, mean=None, std=None)
        for start in range(0, len(self), CHUNK):
            x = plain.batch(slice(start, start + CHUNK))[0].double()
            total = total + x.sum(dim=(0, 2, 3)).cpu()
            square = square + x.square().sum(dim=(0, 2, 3)).cpu()
        n = self.images[:, 0].numel()
        mean = total / n
        std = (square / n - mean * mean).clamp(min=0).sqrt()
        std = torch.where(std > 1e-6, std, 1.0)  # below it a float32 sum says nothing
        return tuple(mean.tolist()), tuple(std.tolist())

    def subset(self, selection: int | Sequence[int] | Tensor) -> ImageSet:
        """The first ``selection`` images (an int: at most so many), or those at its indices.

        Raises:
            TypeError, ValueError: a selection that is no such count and no such list.
        """
        if isinstance(selection, int) and not isinstance(selection, bool):
            if selection < 1:
                raise ValueError(f"selection must be a count of at least 1; got {selection}")
            return self._rows(slice(selection))
        index = torch.as_tensor(selection)
        if not index.numel():
            index = index.long()
        return self._rows(checked_index(index, len(self), "selection").to(self.device))

    def mirrored(self) -> ImageSet:
        """The same images, and behind them, in their order, their mirror images."""
        both = torch.cat((self.images, self.images.flip(-1)))
        return self._with(both, self.labels.repeat(2))

    def _rows(self, rows: slice | Tensor) -> ImageSet:
        if isinstance(rows, slice) and (rows.step or 1) < 0:  # which a tensor does not take
            rows = torch.tensor(range(len(self))[rows], dtype=torch.int64, device=self.device)
        return self._with(self.images[rows], self.labels[rows])

    def _with(self, images: Tensor, labels: Tensor) -> ImageSet:
        """The same set of such tensors made of its own, whose values are sound."""
        made = copy.copy(self)
        object.__setattr__(made, "images", images.contiguous())
        object.__setattr__(made, "labels", labels)
        return made

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """The images and labels at ``indices``, ready for a network.

        Args:
            indices: int64 [B], on the set's device for speed, or a slice. Values are not
                checked here, so that nothing waits for the device.

        Returns:
            x float32 [B, C, H, W], the stored bytes / 255 or the stored floats (then normalised,
            if the set has a mean and std), and labels int64 [B].
        """
        if isinstance(indices, slice):
            images, labels = self.images[indices], self.labels[indices]
        else:
            index = indices.to(self.device)
            images, labels = self.images.index_select(0, index), self.labels.index_select(0, index)
        if images.dtype == torch.uint8:
            last = images.is_cuda  # where loads are wider for it
            layout = torch.channels_last if last else torch.preserve_format
            x = images.to(torch.float32, memory_format=layout).div_(255)
        else:
            x = images.clone() if isinstance(indices, slice) else images
        return self.normalised_(x), labels

    def normalised_(self, x: Tensor) -> Tensor:
        """``x`` in [0, 1], [B, C, H, W], less the mean and by the std in place, if there are."""
        if self.mean is not None:
            for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
                x.select(1, channel).sub_(mean).div_(std)
        return x


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise ValueError unless all labels are those of ``classes`` classes, or -1 for none."""
    bad = ((labels < -1) | (labels >= classes)).nonzero()
    if len(bad):
        i = int(bad[0])
        raise ValueError(
            f"labels must lie in 0 .. {classes - 1}, the {classes} classes, or be -1 for none; "
            f"got {int(labels[i])} for image {i}"
        )


def check_finite(images: Tensor) -> None:
    """Raise ValueError if a value of float images is not finite, with the number of its image."""
    if not images.is_floating_point():
        return
    for start in range(0, len(images), CHUNK):
        sound = images[start : start + CHUNK].isfinite().flatten(1).all(dim=1)
        if not sound.all():
            i = int(sound.logical_not().nonzero()[0])
            value = float(images[start + i][~images[start + i].isfinite()][0])
            raise ValueError(f"images must be finite; image {start + i} has the value {value}")


def checked_index(index: Tensor, n: int, name: str) -> Tensor:
    """``index`` unless it holds anything but indices 0 .. n - 1, int64 [M]."""
    if index.dtype != torch.int64:
        raise TypeError(f"{name} must hold int64 indices; got {index.dtype}")
    if index.dim() != 1:
        raise ValueError(f"{name} must be one-dimensional; got {tuple(index.shape)}")
    if len(index):
        low, high = (int(v) for v in index.aminmax())
        if low < 0 or high >= n:
            raise ValueError(f"{name} must lie in 0 .. {n - 1}; got {low} .. {high}")
    return index
