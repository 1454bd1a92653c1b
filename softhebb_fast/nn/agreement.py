"""What blocks must be and agree in to stand side by side."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from softhebb_fast.kinds import RULES
from softhebb_fast.nn.blocks import Block
from softhebb_fast.nn.hebbian import HebbianConv2d
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.plain import heard


def check_equal(name: str, values: Sequence[object]) -> None:
    """Raise ValueError where the ``values`` of what has that name are not the same."""
    different = next((value for value in values if value != values[0]), values[0])
    if different != values[0]:
        raise ValueError(
            f"blocks must agree in {name} to stand side by side; got {values[0]} and {different}"
        )


def check_kind(name: str, modules: Sequence[object]) -> None:
    """Raise ValueError where the ``modules`` are of different classes."""
    check_equal(f"the kind of {name}", [type(module).__name__ for module in modules])


def check_as_written(block: Block) -> None:
    """Raise ValueError where a module of ``block`` does more than its class says."""
    for name, module in block.named_modules():
        what = f"block.{name}" if name else "block"
        if heard(module):
            raise ValueError(
                f"{what} must have no hooks, and all modules none, to stand side by side"
            )
        if "forward" in vars(module):
            raise ValueError(f"{what} must have the forward of its class to stand side by side")


def options(module: nn.Module) -> dict[str, object]:
    """What a module without tensors was made with."""
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return {name: value for name, value in own.items() if name != "training"}


def check_apart(layers: list[HebbianLayer]) -> None:
    """Raise ValueError where groups of one layer would not be to each other what layers are."""
    first = layers[0]
    if any((layer.bias is None) != (first.bias is None) for layer in layers):
        raise ValueError("layers must all have a bias, or none; got both")
    if first.bias is not None and any(layer.bias.requires_grad for layer in layers):
        raise ValueError(
            "layer.bias must be frozen: the update of a bias is divided by its largest magnitude "
            "in all groups, which would tie the blocks to each other"
        )
    if first.pre_triangle and len(layers) > 1:
        raise ValueError(
            "layer.pre_triangle must be False: it takes the mean over the channels of all blocks"
        )
    if first.rounding != "nearest":
        raise ValueError(
            f"layer.rounding must be 'nearest', every layer draws its own; got {first.rounding!r}"
        )
    if first.waits_for_data:
        raise ValueError("layer must have its start; call nn.initialise_from first")
    if type(first) is HebbianConv2d:
        named = first.named_rule()
        if first.own is not None or named.activity in ("target", "error"):
            raise ValueError(
                f"layer.rule must be one of {', '.join(RULES)} that is told no labels; got "
                f"{first.rule if first.own is None else first.own!r}"
            )
