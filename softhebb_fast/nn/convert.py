"""Turn a model's convolutions and linear layers into SoftHebb layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from softhebb_fast.init.common import check_model
from softhebb_fast.nn.layer import HebbianLayer
from softhebb_fast.nn.replacement import Unsuitable, replacement
from softhebb_fast.nn.unkept import is_example_layer
from softhebb_fast.options import Rule

DECIDED = {"bias", "init", "generator", "device", "dtype"}
LAST = "the last linear layer, taken to be the classifier"
PARTS = ("_parameters", "_buffers", "_modules")


@dataclass
class Conversion:
    """What ``convert`` did.

    Attributes:
        model: the converted model.
        converted: qualified names of the layers that are SoftHebb layers now.
        left: qualified names of the layers that were left alone, and why.
    """

    model: nn.Module
    converted: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        converted = [name or "the model" for name in self.converted]
        lines = [f"converted: {', '.join(converted) or 'nothing'}"]
        lines += [f"left alone: {name or 'the model'}: {why}" for name, why in self.left.items()]
        return "\n".join(lines)


def convert(
    model: nn.Module, *, exclude: Iterable[str] = (), head: bool = False, **options: Any
) -> Conversion:
    """Replace suitable layers of ``model``, in place, by SoftHebb layers with the same weights.

    Suitable are ``nn.Conv2d``, ``nn.Linear``, and any module with the attributes of the published
    example's convolution (``weight``, ``in_channels``, ``out_channels``, ``kernel_size``,
    ``stride``, ``t_invert``). In evaluation mode the model computes what it did, which is tried on
    random inputs for every layer. Of other classes than torch's, what a forward learns must also
    be what the new layer learns. A layer that differs, or has what the new one cannot keep, such as
    hooks, masks or a parametrization, is left alone; the result says why.

    Parameters are passed on, not copied: optimizers and shared weights stay valid, and a layer used
    in several places is one layer still. A bias is kept and frozen. A weight that is a buffer
    becomes a parameter. A new layer is in training mode if the old one and all around it are. The
    last ``nn.Linear`` is taken to be the classifier and left, unless ``head``.

    Args:
        exclude: qualified names of modules to leave alone, with all that they contain.
        options: for the new layers, for example ``t_invert`` or ``update``. With a ``rule`` they
            are ``HebbianConv2d`` and ``HebbianLinear``; not with one that needs a target, which a
            model does not hand on.

    Raises TypeError if ``model`` is no module, ValueError if ``exclude`` names a module that it
    does not have, or ``options`` hold what the replaced layers decide. These and every error of the
    new layers leave ``model`` as it was.
    """
    check_model(model)
    if decided := sorted(DECIDED.intersection(options)):
        raise ValueError(f"options must not hold what the layers keep; got {', '.join(decided)}")
    wants = Rule.of(options["rule"]).wants if "rule" in options else ()
    if "target" in wants:
        raise ValueError(
            f"rule must not need a target, which a model does not hand on; got {options['rule']!r}"
        )
    places = dict(model.named_modules(remove_duplicate=False))
    exclude = {exclude} if isinstance(exclude, str) else set(exclude)
    if unknown := exclude - set(places):
        raise ValueError(f"exclude must name modules of model; got {sorted(unknown)}")
    candidates = {name: m for name, m in places.items() if _holds_a_product(m)}
    left = _left_unseen(places, candidates, exclude, head)
    new: dict[nn.Module, HebbianLayer] = {}
    with torch.inference_mode(False):
        for name, module in candidates.items():
            if module in left or module in new:
                continue
            training = all(places[n].training for n in _path(name))
            try:
                new[module] = replacement(module, options, training)
            except Unsuitable as reason:
                left[module] = str(reason)
        while tied := _tied_elsewhere(places, new):
            for module, where in tied.items():
                del new[module]
                left[module] = f"it shares a tensor with {where}, which is not converted"
        result = Conversion(model)
        result.converted = [name for name, m in candidates.items() if m in new]
        result.left = {name: left[m] for name, m in candidates.items() if m in left}
        result.model = _replaced(model, places, {n: new[places[n]] for n in result.converted})
    return result


def _holds_a_product(module: nn.Module) -> bool:
    kinds = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear)
    if isinstance(module, HebbianLayer) or "_orig_mod" in module._modules:
        return False
    return isinstance(module, kinds) or is_example_layer(module)


def _left_unseen(
    places: dict[str, nn.Module],
    candidates: dict[str, nn.Module],
    exclude: set[str],
    head: bool,
) -> dict[nn.Module, str]:
    """The candidates that are left for where they stand, and why."""
    linears = [m for m in places.values() if type(m) is nn.Linear]
    left = {m: f"{where} refers to it too" for m, where in _other_references(places)}
    if linears and not head:
        left[linears[-1]] = LAST
    for name, module in candidates.items():
        around = [places[n] for n in _path(name)][:-1]
        copying = next((m for m in around if _copies_its_layers(m)), None)
        if name.split(".")[-1] == "_orig_mod":
            left[module] = "it is compiled; convert it before that"
        elif copying is not None:
            left[module] = f"it is inside {type(copying).__name__}; convert it before it is wrapped"
    return left | {m: "excluded" for name, m in places.items() if exclude & {*_path(name)}}


def _path(name: str) -> list[str]:
    """The names of all that holds a module, from the model on, and its own."""
    parts = name.split(".") if name else []
    return [".".join(parts[:i]) for i in range(len(parts) + 1)]


def _copies_its_layers(module: nn.Module) -> bool:
    """Whether a wrapper computes with copies of its layers, or has counted their parameters."""
    if isinstance(module, nn.DataParallel):
        return bool(module.device_ids)
    return isinstance(module, nn.parallel.DistributedDataParallel)


def _other_references(places: dict[str, nn.Module]) -> Iterator[tuple[nn.Module, str]]:
    """Modules that an attribute holds which a replacement would not reach, such as a list."""
    for name, owner in places.items():
        for attribute, value in vars(owner).items():
            if attribute not in PARTS:
                where = f"{name}.{attribute}" if name else attribute
                yield from ((m, where) for m in _modules_in(value) if m is not owner)


def _modules_in(value: Any, depth: int = 2) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(getattr(value, "__self__", None), nn.Module):
        yield value.__self__
    elif depth and isinstance(value, (list, tuple, set, frozenset, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _modules_in(item, depth - 1)


def _tied_elsewhere(
    places: dict[str, nn.Module], new: dict[nn.Module, HebbianLayer]
) -> dict[nn.Module, str]:
    """The modules of ``new`` that share a parameter or buffer with another, and its name."""
    others: dict[Tensor, str] = {}
    for name, module in places.items():
        if module not in new:
            own = [*module._parameters.values(), *module._buffers.values()]
            others |= {t: name or type(module).__name__ for t in own if t is not None}
    tensors = {m: (m.weight, getattr(m, "bias", None)) for m in new}
    return {m: others[t] for m, both in tensors.items() for t in both if t in others}


def _replaced(
    model: nn.Module, places: dict[str, nn.Module], layers: dict[str, HebbianLayer]
) -> nn.Module:
    """The model with ``layers`` in their places and their biases frozen, or as it was."""
    biases = [layer.bias for layer in layers.values() if layer.bias is not None]
    learning = [bias for bias in biases if bias.requires_grad]
    done: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        for name, layer in layers.items():
            if not name:
                model = layer
                continue
            parent, _, leaf = name.rpartition(".")
            done.append((places[parent], leaf, places[name]))
            setattr(places[parent], leaf, layer)
        for bias in biases:
            bias.requires_grad_(False)
    except BaseException:
        for parent, leaf, old in done:
            parent._modules[leaf] = old
        for bias in learning:
            bias.requires_grad_()
        raise
    return model
