"""The batches of a data set in a given order."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from softhebb_fast.data.images import ImageSet, checked_index

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def permutation(n: int, seed: int, epoch: int = 0) -> Tensor:
    """The order of epoch ``epoch``: a permutation of 0 .. n - 1, int64 [n] on the CPU.

    A function of its three arguments alone, drawn by a CPU generator: the same on every device.

    Raises:
        ValueError: a negative ``n``.

    ``n``, ``seed`` and ``epoch`` are whole numbers.
    """
    if n < 0:
        raise ValueError(f"n must not be negative; got {n=}")
    return torch.randperm(n, generator=seeded("order", seed, epoch))


def batches(
    dataset: ImageSet,
    batch_size: int,
    *,
    order: Tensor | None = None,
    start_batch: int = 0,
    augment: Augmentation | None = None,
    augment_seed: tuple[int, int] | None = None,
    drop_last: bool = False,
    part: Callable[[int], slice] | None = None,
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
        part: the rows to yield of a batch of so many images, which may be none. They are the same
            as in the whole batch, its augmentation included.

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
        order = checked_index(order, len(dataset), "order").to(dataset.device)
    samples = len(dataset) if order is None else len(order)
    count = samples // batch_size if drop_last else -(-samples // batch_size)
    if not 0 <= start_batch <= count:
        raise ValueError(f"start_batch must be 0 to {count}, the batches there are; {start_batch=}")

    def walk() -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(start_batch, count):
            rows = range(i * batch_size, min((i + 1) * batch_size, samples))
            own = slice(len(rows)) if part is None else part(len(rows))
            if augment is None:
                rows, own = rows[own], slice(None)
            window = slice(rows.start, rows.stop)
            x, labels = dataset.batch(window if order is None else order[window])
            if augment is not None:
                x = augment(x, seeded("augment", *augment_seed, i))
            yield (x, labels) if part is None else (x[own], labels[own])

    return walk()


def seeded(purpose: str, *numbers: int) -> torch.Generator:
    """A generator of the CPU of its own for that purpose, seed, epoch and the like."""
    # A hash, because neighbouring seeds, epochs and batches must not share a stream.
    text = " ".join((purpose, *(str(operator.index(n)) for n in numbers)))
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    return torch.Generator().manual_seed(seed)
