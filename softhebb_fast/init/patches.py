"""Starts from what a layer sees: patches of it, or the means of their clusters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from softhebb_fast.init.common import check_positive, fan_in
from softhebb_fast.scalars import whole

PASSES, BATCH = 10, 2000
LEAST = 1000  # patches to choose from


@torch.no_grad()
def patches_(
    weight: Tensor,
    patches: Tensor,
    radius: float = 25.0,
    lebesgue_p: float = 2.0,
    generator: torch.Generator | None = None,
    sample: int | None = None,
) -> Tensor:
    """Filters that are different patches, drawn from ``patches [P, N]`` and scaled to ``radius``.

    Patches of zeros are left out. ``sample`` is for who draws ``patches``: how many they shall be,
    ten a filter if None.

    Source: the dictionaries of Coates, Ng 2011 and Thiry et al. 2021 (arXiv 2101.07528).

    Raises ValueError for patches of another size, numbers that are not finite, fewer different
    patches than filters, or a radius or p that is not positive and finite.
    """
    radius, lebesgue_p = _checked(radius, lebesgue_p, sample)
    chosen = _different(weight, patches, generator)[: weight.shape[0]]
    return _scaled(weight, chosen, radius, lebesgue_p)


@torch.no_grad()
def kmeans_(
    weight: Tensor,
    patches: Tensor,
    radius: float = 25.0,
    lebesgue_p: float = 2.0,
    generator: torch.Generator | None = None,
    sample: int | None = None,
    passes: int = PASSES,
) -> Tensor:
    """Filters that are means of clusters of ``patches [P, N]``, scaled to ``radius``.

    Mini-batch k-means (Sculley 2010) from the filters of `patches_`: each of ``passes`` over the
    patches goes through them in batches of 2000, in an order of its own. A batch's patches go to
    the nearest mean each, and every mean is that of all patches that ever came to it. A mean that
    is zero gives way to the patch that it began from. It runs on the CPU in float32. ``sample`` as
    in `patches_`, fifty a filter if None.

    Source: Coates, Ng, Lee 2011. Raises as `patches_`, and for passes below 1.
    """
    radius, lebesgue_p = _checked(radius, lebesgue_p, sample)
    passes = whole("passes", passes, least=1)
    different = _different(weight, patches, generator).float()
    first = different[: weight.shape[0]]
    means = first.clone()
    counts = torch.zeros(len(means))
    for _ in range(passes):
        order = torch.randperm(len(different), generator=generator)
        for rows in order.split(BATCH):
            _step(means, counts, different[rows])
    means = torch.where(means.any(dim=1, keepdim=True), means, first)
    return _scaled(weight, means, radius, lebesgue_p)


def _checked(radius: float, lebesgue_p: float, sample: int | None) -> tuple[float, float]:
    if sample is not None:
        whole("sample", sample, least=1)
    return check_positive("radius", radius), check_positive("lebesgue_p", lebesgue_p)


def _different(weight: Tensor, patches: Tensor, generator: torch.Generator | None) -> Tensor:
    """The different patches that are not zero, on the CPU in a random order, in their dtype or
    float32 if that is wider."""
    size = fan_in(weight)
    if patches.dim() != 2 or patches.shape[1] != size:
        raise ValueError(f"patches must be [P, {size}]; got {tuple(patches.shape)}")
    patches = patches.to("cpu", torch.promote_types(patches.dtype, torch.float32))
    if not patches.isfinite().all():
        raise ValueError("patches must be finite; some of those given are not")
    found = torch.unique(patches[patches.any(dim=1)], dim=0)
    if len(found) < weight.shape[0]:
        raise ValueError(
            f"patches must hold {weight.shape[0]} different ones that are not zero, one a filter; "
            f"got {len(found)} among {len(patches)}. Give more images, or fewer filters"
        )
    return found[torch.randperm(len(found), generator=generator)]


def _step(means: Tensor, counts: Tensor, batch: Tensor) -> None:
    """Move the means to those of ``counts`` patches so far and of the ``batch``'s own."""
    # The square of a patch's own norm is the same for all means.
    nearest = (means.square().sum(dim=1) - 2 * (batch @ means.T)).argmin(dim=1)
    own = torch.zeros_like(counts).index_add_(0, nearest, torch.ones(len(batch)))
    sums = torch.zeros_like(means).index_add_(0, nearest, batch)
    counts += own
    met = own > 0
    means[met] += (sums[met] - own[met, None] * means[met]) / counts[met, None]


def _scaled(weight: Tensor, rows: Tensor, radius: float, lebesgue_p: float) -> Tensor:
    rows = rows.double()
    rows = rows / rows.abs().amax(dim=1, keepdim=True)  # whose powers neither vanish nor overflow
    norms = torch.linalg.vector_norm(rows, ord=lebesgue_p, dim=1, keepdim=True)
    return weight.copy_((radius * rows / norms).view_as(weight))


A_FILTER: dict[Callable[..., Tensor], int] = {patches_: 10, kmeans_: 50}
