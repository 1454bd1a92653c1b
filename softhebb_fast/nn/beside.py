"""Blocks of equal shape as one: their channels side by side, each block a set of groups."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from softhebb_fast.nn.activations import RePU, SplitTriangle, Triangle
from softhebb_fast.nn.agreement import (
    check_apart,
    check_as_written,
    check_equal,
    check_kind,
    options,
)
from softhebb_fast.nn.blocks import Block
from softhebb_fast.nn.conv import SoftHebbConv2d
from softhebb_fast.nn.hebbian import HebbianConv2d
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.temperatures import scaled, scales
from softhebb_fast.nn.whitening import PatchWhitening
from softhebb_fast.options import Competition, Convolution
from softhebb_fast.scalars import at_least_zero

# What no channel sees another in, so that more of them change nothing.
BY_CHANNEL = (nn.Identity, nn.ReLU, nn.Tanh, RePU)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)
COMPETITION = tuple(name for name in Competition._fields if name != "t_invert")
LAYER = ("kernel_size", *Convolution._fields, *COMPETITION, "lr_power", "update", "backend")
LAYER += ("schedule", "steps", "rounding", "waits_for_data", "processes", "training")
OF_ANY_RULE = ("rule", "normalise", "decay", "unit_norm", "conscience", "momentum")
NORM = ("num_features", "eps", "momentum", "track_running_stats", "training")


@torch.no_grad()
def side_by_side(blocks: Sequence[Block]) -> Block:
    """S blocks as one, which computes and learns for each what it does alone.

    Input ``[B, S C, H, W]``, the inputs of the blocks one after the other; output ``[B, S K, PH,
    PW]``. The convolution has S times the groups of one block's. A group competes, and is
    normalised by its largest magnitude, by itself, and rates follow from every neuron's norm. So
    the blocks may differ in weights, statistics, ``t_invert``, ``neuron_rates`` and, without a
    schedule, ``lr``. They agree in all else, their modes too. Weights and state are copies;
    ``take_apart_`` gives them back. Nothing is drawn at random.

    Raises:
        TypeError: a part that is no ``Block``, or of a kind in which channels see each other.
        ValueError: no block, blocks that differ, modules that are listened to or have a forward of
            their own, or an option that would mix them, naming it.
    """
    blocks = list(blocks)
    if not blocks:
        raise ValueError("blocks must hold one at least; got none")
    for block in blocks:
        if not isinstance(block, Block) or type(block).forward is not Block.forward:
            raise TypeError(f"blocks must hold Blocks; got {type(block).__name__}")
        check_as_written(block)
    check_equal("training", [block.training for block in blocks])
    layers = [block.layer for block in blocks]
    layer = _layer(layers)
    norm = _norm([block.norm for block in blocks])
    activation = _activation([block.activation for block in blocks])
    pool = _same("pool", [block.pool for block in blocks], POOLS)
    factors = scales(layers)
    if set(factors) != {1.0}:
        layer.t_invert = max(own.t_invert for own in layers)
        norm, activation = scaled(norm, activation, factors, layer)
    joint = Block(layer, norm=norm, activation=activation, pool=pool)
    joint.training = blocks[0].training
    return joint


@torch.no_grad()
def take_apart_(joint: Block, blocks: Sequence[Block]) -> None:
    """Copy what ``joint``, made by ``side_by_side(blocks)``, has learned into the ``blocks``, its
    count of steps too. Raises ValueError for blocks that it is not made of."""
    shapes = [block.layer.weight.shape for block in blocks]
    if (sum(shape[0] for shape in shapes), *shapes[0][1:]) != joint.layer.weight.shape:
        raise ValueError(
            f"blocks must be those that joint, of filters {tuple(joint.layer.weight.shape)}, is "
            f"made of; got {len(blocks)} of {tuple(shapes[0])}"
        )
    for i, block in enumerate(blocks):
        give_(joint, block, i, len(blocks))


@torch.no_grad()
def give_(joint: Block, block: Block, index: int, count: int) -> None:
    """Copy into ``block`` what the ``index``-th of ``count`` blocks side by side has learned."""
    own = dict(_tensors(block))
    for name, whole in _tensors(joint):
        if name in own:
            own[name].copy_(whole.chunk(count)[index] if whole.dim() else whole)
    block.layer.steps = joint.layer.steps


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers that learning moves."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not name.endswith("neuron_rates"):
            yield name, tensor


def _layer(layers: list[HebbianLayer]) -> HebbianLayer:
    first = layers[0]
    if type(first) not in (SoftHebbConv2d, HebbianConv2d):
        raise TypeError(
            "layer must be a SoftHebbConv2d or HebbianConv2d to have groups; got "
            f"{type(first).__name__}"
        )
    check_kind("layer", layers)
    names = LAYER + (OF_ANY_RULE if type(first) is HebbianConv2d else ())
    for name in names:
        check_equal(f"layer.{name}", [getattr(layer, name) for layer in layers])
    check_apart(layers)
    joint = copy.deepcopy(first)
    lrs = {layer.lr for layer in layers}
    differ = first.schedule is None and first.update != "grad" and len(lrs) > 1
    if differ or any(getattr(layer, "neuron_rates", None) is not None for layer in layers):
        joint = _with_rates(joint, layers, differ)
    if first.update == "grad" and len(lrs) > 1:
        joint.lr = None  # an optimizer has the rates
    for name in ("in_channels", "out_channels", "groups"):
        setattr(joint, name, len(layers) * getattr(first, name))
    _put_together("layer", joint, layers)
    return joint


def _with_rates(joint: HebbianLayer, layers: list[HebbianLayer], differ: bool) -> HebbianConv2d:
    """The first layer with all rates, a factor a neuron; ``lr`` is in it where some ``differ``."""
    if differ and any(layer.lr is None for layer in layers):
        raise ValueError("layer.lr must be given in all blocks, or in none; got both")
    if type(joint) is SoftHebbConv2d:
        joint = _of_any_rule(joint)
    sums = torch.float64 if joint.weight.dtype == torch.float64 else torch.float32
    factors = [
        torch.full(
            (len(layer.weight),),
            at_least_zero("layer.lr", layer.lr) if differ else 1.0,
            dtype=sums,
            device=layer.weight.device,
        )
        * (1 if getattr(layer, "neuron_rates", None) is None else layer.neuron_rates)
        for layer in layers
    ]
    if differ:
        joint.lr = 1.0
    joint.neuron_rates = torch.cat(factors)
    return joint


def _of_any_rule(layer: SoftHebbConv2d) -> HebbianConv2d:
    """The same layer in the form that has a rate for every neuron."""
    convolution = layer.convolution._asdict()
    del convolution["x_bound"]
    same = HebbianConv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        **convolution,
        **layer.competition._asdict(),
        bias=layer.bias is not None,
        lr=layer.lr,
        lr_power=layer.lr_power,
        update=layer.update,
        backend=layer.backend,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
        generator=torch.Generator(layer.weight.device),
    )
    same.load_state_dict(layer.state_dict(), strict=False)
    for own, p in zip(same.parameters(), layer.parameters(), strict=True):
        own.requires_grad_(p.requires_grad)
    same.steps, same.processes = layer.steps, layer.processes
    return same.train(layer.training)


def _put_together(part: str, joint: nn.Module, modules: Sequence[nn.Module]) -> None:
    """Let ``joint`` have the tensors of all modules, one after the other, but for their rates."""
    for kind in ("parameters", "buffers"):
        each = [dict(getattr(module, f"named_{kind}")()) for module in modules]
        for own in each:
            own.pop("neuron_rates", None)
        check_equal(f"the {kind} of {part}", [list(own) for own in each])
        for name in each[0]:
            whole = _joined(f"{part}.{name}", [own[name] for own in each])
            setattr(joint, name, whole)


def _joined(name: str, tensors: list[Tensor]) -> Tensor:
    """The ``tensors`` of that name, one after the other; of counts, which must be equal, one."""
    first = tensors[0]
    for what in ("shape", "dtype", "device", "requires_grad"):
        check_equal(f"{name}.{what}", [getattr(tensor, what) for tensor in tensors])
    if first.dim() == 0:
        check_equal(name, [int(tensor) for tensor in tensors])
        return first.clone()
    whole = torch.cat(tensors)
    if isinstance(first, nn.Parameter):
        return nn.Parameter(whole, requires_grad=first.requires_grad)
    return whole


class Apart(nn.Module):
    """Modules each of which sees its own part of the channels ``[B, S C, H, W]``."""

    parts: nn.ModuleList

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        found = zip(self.parts, x.chunk(len(self.parts), dim=1), strict=True)
        return torch.cat([part(own) for part, own in found], dim=1)


def _norm(norms: list[nn.Module | None]) -> nn.Module | None:
    first = norms[0]
    check_kind("norm", norms)
    if first is None:
        return None
    if type(first) is PatchWhitening:
        return Apart(copy.deepcopy(norms))
    if type(first) is not nn.BatchNorm2d:
        raise TypeError(
            f"norm must be an nn.BatchNorm2d, a PatchWhitening or None; got {type(first).__name__}"
        )
    if first.affine:
        raise ValueError("norm.affine must be False, what it scales by is learned from a loss")
    for name in NORM:
        check_equal(f"norm.{name}", [getattr(norm, name) for norm in norms])
    joint = copy.deepcopy(first)
    joint.num_features = len(norms) * first.num_features
    _put_together("norm", joint, norms)
    return joint


def _activation(activations: list[nn.Module | None]) -> nn.Module | None:
    first = activations[0]
    joint = _same("activation", activations, (Triangle, SplitTriangle, *BY_CHANNEL))
    if type(first) in (Triangle, SplitTriangle):
        joint.groups = len(activations) * first.groups
    return joint


def _same(name: str, modules: list[nn.Module | None], kinds: tuple[type, ...]) -> nn.Module | None:
    """A copy of modules that are the same, of one of ``kinds``."""
    first = modules[0]
    check_kind(name, modules)
    if first is not None and type(first) not in kinds:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} must be one of {names}, or None; got {type(first).__name__}")
    for option in {} if first is None else options(first):
        check_equal(f"{name}.{option}", [options(module).get(option) for module in modules])
    return copy.deepcopy(first)
