"""A data set as two tensors, and its batches in a given order."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images, resident on one device.

    Attributes:
        name: canonical name of the data set, such as ``"cifar10"``.
        split: the part that was loaded, such as ``"train"``.
        images: uint8 [N, C, H, W], made contiguous.
        labels: int64 [N] on the same device; -1 where there is no label.
        classes: class names; label i is ``classes[i]``.
        mean, std: per-channel constants that ``batch`` applies as (x - mean) / std to x in
            [0, 1]; None for the sets that were published without a normalisation.

    Raises:
        TypeError: images not uint8, or labels not int64.
        ValueError: shapes that do not fit together, or tensors on two devices.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or labels.dtype != torch.int64:
            raise TypeError(
                f"images must be uint8 and labels int64; got {images.dtype=} and {labels.dtype=}"
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
        object.__setattr__(self, "images", images.contiguous())

    def __len__(self) -> int:
        return self.images.shape[0]

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

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set on ``device``."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, selection: int | Sequence[int] | Tensor) -> ImageSet:
        """The first ``selection`` images (an int: at most so many), or those at its indices.

        Raises:
            TypeError, ValueError: a selection that is no such count and no such list.
        """
        if isinstance(selection, int) and not isinstance(selection, bool):
            if selection < 1:
                raise ValueError(f"selection must be a count of at least 1; got {selection}")
            return replace(self, images=self.images[:selection], labels=self.labels[:selection])
        index = _checked_index(torch.as_tensor(selection), len(self), "selection")
        index = index.to(self.device)
        return replace(self, images=self.images[index], labels=self.labels[index])

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """The images and labels at ``indices``, ready for a network.

        Args:
            indices: int64 [B], on the set's device for speed, or a slice. Values are not
                checked here, so that nothing waits for the device.

        Returns:
            x float32 [B, C, H, W], the stored bytes / 255 (then normalised, if the set has a
            mean and std), and labels int64 [B].
        """
        if isinstance(indices, slice):
            images, labels = self.images[indices], self.labels[indices]
        else:
            index = indices.to(self.device)
            images, labels = self.images.index_select(0, index), self.labels.index_select(0, index)
        last = images.is_cuda  # where loads are wider for it
        layout = torch.channels_last if last else torch.preserve_format
        x = images.to(torch.float32, memory_format=layout).div_(255)
        if self.mean is not None:
            for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
                x.select(1, channel).sub_(mean).div_(std)
        return x, labels


def permutation(n: int, seed: int, epoch: int = 0) -> Tensor:
    """The order of epoch ``epoch``: a permutation of 0 .. n - 1, int64 [n] on the CPU.

    A function of its three arguments alone, drawn by a CPU generator: the same on every device.

    Raises:
        ValueError: a negative ``n``.

    ``n``, ``seed`` and ``epoch`` are whole numbers.
    """
    if n < 0:
        raise ValueError(f"n must not be negative; got {n=}")
    return torch.randperm(n, generator=_generator("order", seed, epoch))


def batches(
    dataset: ImageSet,
    batch_size: int,
    *,
    order: Tensor | None = None,
    start_batch: int = 0,
    augment: Augmentation | None = None,
    augment_seed: tuple[int, int] | None = None,
    drop_last: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, labels) batch by batch, as ``ImageSet.batch`` gives them.

    Batch i depends on the arguments and on i alone, augmentation included, so a run that stops
    in mid-epoch goes on bit-exactly with ``start_batch``.

    Args:
        dataset: what to iterate.
        batch_size: images per batch; the last batch may be smaller.
        order: int64 [M], indices into the set, on any device; None walks it in sequence.
        start_batch: batches of this order to skip.
        augment: applied to each x with a CPU generator of its own.
        augment_seed: (seed, epoch), from which batch i's generator is seeded; required with
            ``augment``.
        drop_last: leave out a last batch that is not full.

    Raises:
        TypeError: an order of another dtype.
        ValueError: sizes or indices out of range, or ``augment`` without ``augment_seed``.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    if augment is not None and augment_seed is None:
        raise ValueError("augment needs augment_seed=(seed, epoch), which seeds its generators")
    if augment_seed is not None and (not isinstance(augment_seed, tuple) or len(augment_seed) != 2):
        raise ValueError(f"augment_seed must be a pair (seed, epoch); got {augment_seed!r}")
    if order is not None:
        order = _checked_index(order, len(dataset), "order").to(dataset.device)
    samples = len(dataset) if order is None else len(order)
    count = samples // batch_size if drop_last else -(-samples // batch_size)
    if not 0 <= start_batch <= count:
        raise ValueError(f"start_batch must be 0 to {count}, the batches there are; {start_batch=}")

    def walk() -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(start_batch, count):
            window = slice(i * batch_size, (i + 1) * batch_size)
            x, labels = dataset.batch(window if order is None else order[window])
            if augment is not None:
                x = augment(x, _generator("augment", *augment_seed, i))
            yield x, labels

    return walk()


def _generator(purpose: str, *numbers: int) -> torch.Generator:
    # A hash, because neighbouring seeds, epochs and batches must not share a stream.
    text = " ".join((purpose, *(str(operator.index(n)) for n in numbers)))
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return torch.Generator().manual_seed(seed)


def _checked_index(index: Tensor, n: int, name: str) -> Tensor:
    if index.dtype != torch.int64:
        raise TypeError(f"{name} must hold int64 indices; got {index.dtype}")
    if index.dim() != 1:
        raise ValueError(f"{name} must be one-dimensional; got {tuple(index.shape)}")
    if len(index):
        low, high = (int(v) for v in index.aminmax())
        if low < 0 or high >= n:
            raise ValueError(f"{name} must lie in 0 .. {n - 1}; got {low} .. {high}")
    return index
