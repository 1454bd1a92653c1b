"""Neurons that never win: finding them, and starting them again from inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.checks import put_around
from softhebb_fast.nn.conv import SoftHebbConv1d, SoftHebbConv2d
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.plasticity import Plastic
from softhebb_fast.nn.windows import windows
from softhebb_fast.options import padded_sides
from softhebb_fast.reference import accumulated, winners
from softhebb_fast.reference.rules import rivals


@torch.no_grad()
def wins(layer: HebbianLayer, x: Tensor) -> Tensor:
    """At how many positions of ``x`` each neuron of a ``layer`` wins, int64 ``[K]``.

    By the largest u of its group, or as its rule decides: the smallest distance of ``"kmeans"``,
    less the handicap of a conscience. Changes nothing.
    """
    x = _images(layer, x)
    u = accumulated(layer._product(x, *layer.detached()))
    linear = layer.weight.dim() == 2
    u = u.reshape(-1, u.shape[-1]) if linear else u.movedim(-3, 0).flatten(1).t()
    if isinstance(layer, Plastic):
        rule = layer.named_rule()._replace(threshold=layer.handicap())
        u = rivals(u, accumulated(layer.weight), rule)
    groups = getattr(layer, "groups", 1)
    found = torch.zeros(u.shape[1], dtype=torch.int64, device=u.device)
    for i, part in enumerate(u.chunk(groups, 1)):
        winner = winners(part, layer.tie_rule).flatten() + i * part.shape[1]
        found.scatter_add_(0, winner, torch.ones_like(winner))
    return found


@torch.no_grad()
def reseed_(
    layer: HebbianLayer,
    x: Tensor,
    dead: Tensor,
    *,
    norm: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Start the ``dead`` neurons of a ``layer`` again, from patches of ``x``; returns the weight.

    Patches are drawn at random, by ``generator``, each at most once in a group. What a rule keeps
    of these neurons (counts, thresholds, lateral weights, shares) starts again too; a bias stays.

    Args:
        dead: which neurons, a mask ``[K]`` or their indices.
        norm: Lebesgue norm of the new weights. If not given they are the patches themselves for
            ``"kmeans"``, else they have the mean norm of the other neurons.

    Raises ValueError if ``dead`` does not fit, or if ``x`` has fewer patches other than 0 than a
    group has dead neurons; nothing is changed then.
    """
    places = _indices(layer, dead)
    if not len(places):
        return layer.weight
    nearest = isinstance(layer, Plastic) and layer.named_rule().nearest
    if norm is None and not nearest:
        others = torch.ones(layer.weight.shape[0], dtype=torch.bool, device=places.device)
        others[places] = False
        norm = float(layer.norms()[others].mean()) if others.any() else 1.0
    seeds = _patches(layer, _images(layer, x))
    size = layer.weight.shape[0] // len(seeds)
    new = []
    for i, patches in enumerate(seeds):
        wanted = int(((places >= i * size) & (places < (i + 1) * size)).sum())
        patches = patches[patches.any(dim=1)]
        if len(patches) < wanted:
            raise ValueError(
                f"x must have {wanted} patches other than 0 for dead neurons; got {len(patches)}"
            )
        order = torch.randperm(len(patches), generator=generator, device=_where(generator))
        new.append(patches[order[:wanted].to(patches.device)])
    rows = torch.cat(new)
    if norm is not None:
        rows = F.normalize(rows, p=layer.lebesgue_p, dim=1) * norm
    layer.weight[places] = rows.view(len(places), *layer.weight.shape[1:]).to(layer.weight.dtype)
    if isinstance(layer, Plastic):
        _forget(layer, places, size)
    return layer.weight


def _forget(layer: Plastic, places: Tensor, size: int) -> None:
    for buffer in (layer.counts, layer.threshold):
        if buffer is not None:
            buffer[places] = 0
    if layer.shares is not None:
        layer.shares[places] = 1 / size
    if layer.lateral is not None:
        layer.lateral[places] = 0
        for place in places.tolist():
            first = place - place % size
            layer.lateral[first : first + size, place % size] = 0


def _indices(layer: HebbianLayer, dead: Tensor) -> Tensor:
    """Ascending indices of the dead neurons, each once."""
    neurons = layer.weight.shape[0]
    if not isinstance(dead, Tensor):
        raise TypeError(f"dead must be a torch.Tensor; got {type(dead).__name__}")
    if dead.dtype == torch.bool:
        if tuple(dead.shape) != (neurons,):
            raise ValueError(f"dead must be a mask [{neurons}]; got {tuple(dead.shape)}")
        return dead.nonzero().flatten().to(layer.weight.device)
    if dead.is_floating_point() or dead.is_complex() or dead.dim() != 1:
        raise ValueError(
            f"dead must be a mask [{neurons}] or indices; got {dead.dtype} of {tuple(dead.shape)}"
        )
    if len(dead) and not (int(dead.min()) >= 0 and int(dead.max()) < neurons):
        raise ValueError(f"dead must lie in 0..{neurons - 1}; got {dead.tolist()}")
    return dead.unique().to(layer.weight.device)


def _images(layer: HebbianLayer, x: Tensor) -> Tensor:
    """x as the layer's function takes it."""
    return layer._row(x) if isinstance(layer, SoftHebbConv1d) else x


def _patches(layer: HebbianLayer, x: Tensor) -> list[Tensor]:
    """The patches of every group, ``[positions, patch]``, in the dtype of the sums."""
    x = accumulated(x)
    if not isinstance(layer, SoftHebbConv2d):
        return [x.reshape(-1, x.shape[-1])]
    x = x.unsqueeze(0) if x.dim() == 3 else x
    sides = padded_sides(layer.padding, layer.kernel_size, layer.stride, layer.dilation)
    x = put_around(x, *sides, layer.padding_mode)
    seen = windows(x, layer.kernel_size, layer.stride, dilation=layer.dilation)
    return [part.flatten(3).flatten(0, 2) for part in seen.chunk(layer.groups, dim=3)]


def _where(generator: torch.Generator | None) -> torch.device | str:
    return "cpu" if generator is None else generator.device
