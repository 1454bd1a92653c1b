"""Starting all layers of any model at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from softhebb_fast.init.branches import PRODUCTS, branch_ends
from softhebb_fast.init.common import check_model
from softhebb_fast.init.registry import Init, initialise, needs_bias, resolve
from softhebb_fast.naming import parse_init

# Names, in lower case, that mean a whole model's start, and what its layers get.
STARTS: dict[str, dict[str, Any]] = {
    "zero": {"name": "zerO", "scale": "orthonormal"},
    "constant": {"name": "averaging"},
    "zero_bias": {"name": "random_bias"},
}
NORMALISATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


@dataclass
class Applied:
    """What `apply` did.

    Attributes:
        model: the model it was given.
        started: qualified names of the layers that were started, and how.
        left: qualified names of the modules with parameters that were left alone, and why.
        note: what else there is to know; "" if nothing.
    """

    model: nn.Module
    started: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        lines = [f"{name or 'the model'}: {what}" for name, what in self.started.items()]
        lines += [f"{name or 'the model'}: left alone, {why}" for name, why in self.left.items()]
        return "\n".join([*lines, *filter(None, [self.note])])


@torch.no_grad()
def apply(
    model: nn.Module,
    init: Init,
    *,
    zero_branches: bool | None = None,
    zero_head: bool | None = None,
    branches: Iterable[str] = (),
    exclude: Iterable[str] = (),
    generator: torch.Generator | None = None,
) -> Applied:
    """Start every `nn.Linear`, `nn.Conv1d`, `nn.Conv2d` and attention of `model`, in place.

    `init` is one of these, or an init as `initialise` takes it (with radius 1 unless it names one):

    - "zerO" (Zhao, Schäfer, Anandkumar 2022, Algorithms 1 and 2): identities and Hadamard matrices,
      with the constant of the authors' code, 2^(-m/2). {"name": "zerO", "scale": "algorithm2"}
      takes the printed one. Attention gets W_Q = I, W_K = W_V = 0.
    - "constant" (ConstNet, Blumenfeld et al. 2020): every neuron the mean of its inputs; the ends
      of residual branches and the head zero.
    - "zero_bias" (Schicho 2023): zero weights, biases from N(0, 1);
      {"name": "zero_bias", "distribution": "uniform", "scale": 0.01} draws from [0, 0.01).
    - "zeros": nothing but zeros.

    Biases are zero where they are not drawn. Groups of a convolution are started one by one, and
    so are query, key and value of attention. A weight that two layers share is started once.
    Starts without draws have the same bits on every call and device.

    Args:
        zero_branches: zero the last layer of every residual branch; None as published, which is
            for "constant" alone. Branches are found by tracing the model's forward pass.
        zero_head: zero the last `nn.Linear`; None as published, for "constant" alone.
        branches: names of layers that end branches, for models that cannot be traced.
        exclude: names of modules to leave alone, with all that they contain.

    Raises TypeError for an argument of a wrong kind, ValueError for an unknown init or argument of
    it or names that `model` does not have. What an init raises for a layer is raised on. The model
    is then as it was.

    ``generator`` is for what is drawn.
    """
    check_model(model)
    for argument, flag in (("zero_branches", zero_branches), ("zero_head", zero_head)):
        if flag is not None and not isinstance(flag, bool):
            raise TypeError(f"{argument} must be a bool or None; got {flag!r}")
    published, init = _published(init)
    resolve(init)
    modules = dict(model.named_modules())
    places = dict(model.named_modules(remove_duplicate=False))
    branches, excluded = _names(branches, "branches", places), _names(exclude, "exclude", places)
    zero_branches = published == "constant" if zero_branches is None else zero_branches
    zero_head = published == "constant" if zero_head is None else zero_head
    result = Applied(model)
    ends = {places[name] for name in branches}
    if zero_branches:
        found, result.note = branch_ends(model)
        ends |= {places[name] for name in found}
        if result.note:
            result.note = f"residual branches not found: {result.note}; name them in branches="
    linears = [module for module in modules.values() if isinstance(module, nn.Linear)]
    zeroed = {linears[-1]: "zero, the head"} if linears and zero_head else {}
    for end in ends - zeroed.keys():
        zeroed[end] = "zero, the end of a residual branch"
    result.left = _left_alone(modules, excluded)
    before = [(p, p.clone()) for p in model.parameters() if not nn.parameter.is_lazy(p)]
    try:
        _start_all(result, modules, init, zeroed, generator)
    except Exception:
        for parameter, value in before:
            parameter.copy_(value)
        raise
    return result


def _start_all(
    result: Applied,
    modules: dict[str, nn.Module],
    init: Init,
    zeroed: dict[nn.Module, str],
    generator: torch.Generator | None,
) -> None:
    """Start the layers that are not left alone, in their order; those of `zeroed` as zeros."""
    owners = {id(p): name for name in result.left for p in modules[name].parameters(recurse=False)}
    for name, module in modules.items():
        if name in result.left or not _holds_a_product(module):
            continue
        weight = module.in_proj_weight if _is_attention(module) else module.weight
        shared = owners.setdefault(id(weight), name)
        if shared in result.left:
            kind = type(modules[shared]).__name__
            result.left[name] = f"its weight is also that of {shared} ({kind})"
        elif shared != name:
            _start(module, init, generator, tied=True)
            result.started[name] = f"tied to {shared}"
        elif module in zeroed and not (_is_zerO(init) and _follows_attention(name, modules)):
            for tensor in module.parameters(recurse=False):
                tensor.zero_()
            result.started[name] = zeroed[module]
        else:
            result.started[name] = _start(module, init, generator)


def _published(init: Init) -> tuple[str, Init]:
    """The name of a whole model's start ("" for another init), and the init of its layers."""
    init = parse_init(init) if isinstance(init, str) else init
    options = dict(init) if isinstance(init, Mapping) else {"name": init}
    name = options.pop("name", None)
    key = name.lower() if isinstance(name, str) else ""
    return (key, STARTS[key] | options) if key in STARTS else ("", init)


def _names(names: Iterable[str], argument: str, places: dict[str, nn.Module]) -> set[str]:
    if not isinstance(names, Iterable):
        raise TypeError(f"{argument} must be names of modules; got {names!r}")
    names = {names} if isinstance(names, str) else set(names)
    if unknown := names - set(places):
        raise ValueError(f"{argument} must name modules of model; got {sorted(map(str, unknown))}")
    return names


def _left_alone(modules: dict[str, nn.Module], excluded: set[str]) -> dict[str, str]:
    """The modules with parameters of their own that are not started, and why."""
    left = {}
    for name, module in modules.items():
        own = [key for key, p in module._parameters.items() if p is not None]
        if not own:
            continue
        if any(not e or name == e or name.startswith(f"{e}.") for e in excluded):
            left[name] = "excluded"
        elif (why := _unsuitable(module, own)) is not None:
            left[name] = why
    return left


def _unsuitable(module: nn.Module, own: list[str]) -> str | None:
    kind = type(module).__name__
    if isinstance(module, NORMALISATIONS):
        return "normalisation"
    if not _holds_a_product(module):
        return f"{kind} holds {', '.join(own)}, which no start is known for"
    if nn.parameter.is_lazy(next(module.parameters())):
        return "it is lazy and has not seen an input"
    if _is_attention(module):
        return None if module._qkv_same_embed_dim else "its keys have a width of their own"
    if parametrize.is_parametrized(module) or "weight" not in own:
        return "its weight is computed from other parameters"
    return None if module.weight.is_floating_point() else "its weight is not floating point"


def _holds_a_product(module: nn.Module) -> bool:
    return isinstance(module, PRODUCTS) or _is_attention(module)


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention)


def _is_zerO(init: Init) -> bool:
    return isinstance(init, Mapping) and init["name"].lower() == "zero"


def _follows_attention(name: str, modules: dict[str, nn.Module]) -> bool:
    """Of values that are zero, such a projection must not be zero: neither would ever change."""
    return _is_attention(modules.get(name.rpartition(".")[0]))


def _start(
    module: nn.Module, init: Init, generator: torch.Generator | None, tied: bool = False
) -> str:
    """Start a layer, or, where its weight is tied to another's, its bias alone."""
    also = ""
    if _is_attention(module):
        weight, bias, inits = module.in_proj_weight, module.in_proj_bias, [init] * 3
        if _is_zerO(init):
            inits, also = [init, "zeros", "zeros"], ", query alone: key and value zero"
    else:
        groups = getattr(module, "groups", 1)
        weight, bias, inits = module.weight, module.bias, [init] * groups
        also = f", {groups} groups apart" * (groups > 1)
    parts = (weight.clone() if tied else weight).chunk(len(inits))
    biases = [None] * len(parts) if bias is None else bias.zero_().chunk(len(parts))
    done = [_fill(*part, generator) for part in zip(parts, biases, inits, strict=True)]
    return done[0] + also


def _fill(
    weight: Tensor, bias: Tensor | None, init: Init, generator: torch.Generator | None
) -> str:
    if callable(init):
        initialise(weight, bias, init)
        return getattr(init, "__name__", "a callable")
    options = dict(init) if isinstance(init, Mapping) else {"name": init}
    what = options["name"]
    if bias is None and needs_bias(options):
        options.pop("random_bias", None)
        if what.lower() == "random_bias":
            options = {"name": "zeros"}
        what += ", without a bias to draw"
    elif _is_zerO(options):
        rows, columns = weight.shape[:2]
        what += f", {'Hadamard' if rows > columns else 'identity'} {rows}x{columns}"
    view = weight.unsqueeze(2) if weight.dim() == 3 else weight
    initialise(view, bias, options, radius=1.0, generator=generator)
    return what
