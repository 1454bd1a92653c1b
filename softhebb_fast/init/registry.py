"""An initialisation by name, and what may be put on top of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from softhebb_fast.init.breakers import draw_bias_, noise_, random_bias_
from softhebb_fast.init.hadamard import hadamard_patches_, walsh_binary_
from softhebb_fast.init.patches import A_FILTER, LEAST, kmeans_, patches_
from softhebb_fast.init.random import (
    averaging_,
    constant_,
    negative_,
    normal_,
    positive_,
    random_binary_,
    zeros_,
)
from softhebb_fast.init.residues import residue_binary_
from softhebb_fast.init.taps import hadamard_taps_, identity_taps_
from softhebb_fast.init.zero import identity_, partial_identity_, zerO_
from softhebb_fast.naming import did_you_mean, parse_init
from softhebb_fast.scalars import whole

Init = str | Mapping[str, Any] | Callable[[Tensor], Any]

INITS: dict[str, Callable[..., Tensor]] = {
    "normal": normal_,
    "positive": positive_,
    "negative": negative_,
    "zerO": zerO_,
    "hadamard_patches": hadamard_patches_,
    "hadamard_taps": hadamard_taps_,
    "identity_taps": identity_taps_,
    "walsh_binary": walsh_binary_,
    "residue_binary": residue_binary_,
    "random_binary": random_binary_,
    "identity": identity_,
    "partial_identity": partial_identity_,
    "constant": constant_,
    "averaging": averaging_,
    "zeros": zeros_,
    "random_bias": random_bias_,
}
FROM_DATA: dict[str, Callable[..., Tensor]] = {"patches": patches_, "kmeans": kmeans_}
BREAKERS = ("noise", "random_bias")


def initialise(
    weight: Tensor,
    bias: Tensor | None = None,
    init: Init = "normal",
    *,
    radius: float = 25.0,
    lebesgue_p: float = 2.0,
    generator: torch.Generator | None = None,
    patches: Tensor | None = None,
) -> None:
    """Fill `weight` (and `bias` [K], where random biases are asked for) as `init` says.

    `init` is a name of `INITS` (in any case), a text such as "zerO:scale=fork" or a dict such as
    {"name": "zerO", "scale": "fork"}, with further arguments of that function, or a callable that
    fills the weight it is given or returns one of its shape and dtype.
    Any dict may also hold "noise", the scale of `noise_`, and "random_bias", the deviation of
    normal biases (as "random_bias" draws them, but on top of the weights).

    A name of `FROM_DATA` takes `patches` [P, N] of what the layer sees, too.

    `radius`, `lebesgue_p` and `generator` are the layer's own; they go to the functions that take
    them, and a dict overrides them. "zerO" alone keeps its own norms unless its dict names a
    radius, as in Le, Xu, Zhuang.

    Raises TypeError or ValueError for an init that is none of these, an unknown name or argument,
    a callable that leaves numbers that are not finite, a start from data without `patches`, and
    whatever the chosen function raises.
    """
    function, options = resolve(init)
    if function in FROM_DATA.values():
        if patches is None:
            raise ValueError(
                f"init {init!r} needs images to start from: call nn.initialise_from(layer, images)"
            )
        function = partial(function, patches=patches)
    elif function not in INITS.values():
        _call(function, weight)
        return
    breakers = {key: options.pop(key) for key in BREAKERS if key in options}
    layer = {"bias": bias, "radius": radius, "lebesgue_p": lebesgue_p, "generator": generator}
    if function is zerO_:
        del layer["radius"]
    takes = inspect.signature(function).parameters
    function(weight, **{key: layer[key] for key in takes if key in layer} | options)
    if "noise" in breakers:
        noise_(weight, breakers["noise"], generator)
    if "random_bias" in breakers:
        draw_bias_(weight, bias, scale=breakers["random_bias"], generator=generator)


@torch.no_grad()
def _call(function: Callable[[Tensor], Any], weight: Tensor) -> None:
    """Let a user's function fill `weight`, or copy what it returns."""
    given = function(weight)
    if given is not None and given is not weight:
        if not isinstance(given, Tensor):
            raise TypeError(
                "init must fill the weight that it is given and return None, or return a tensor; "
                f"it returned {type(given).__name__}"
            )
        if given.shape != weight.shape:
            raise ValueError(
                f"init must return a tensor of shape {tuple(weight.shape)}; got "
                f"{tuple(given.shape)}"
            )
        if given.dtype != weight.dtype:
            raise TypeError(
                f"init must return a tensor of {weight.dtype}, the weight's dtype; got "
                f"{given.dtype}. Convert it with .to(weight.dtype)"
            )
        weight.copy_(given)
    if not weight.is_meta and not weight.isfinite().all():
        raise ValueError(
            "init left numbers that are not finite: a callable must fill the whole weight that it "
            f"is given, {tuple(weight.shape)}, or return such a tensor"
        )


def needs_bias(init: Init | None) -> bool:
    """Whether `init` draws random biases, and so wants a layer that has a bias."""
    if isinstance(init, Mapping):
        return "random_bias" in init or needs_bias(init.get("name"))
    if isinstance(init, str) and ":" in init:
        return needs_bias(parse_init(init))
    return isinstance(init, str) and init.lower() == "random_bias"


def needs_data(init: Init | None) -> bool:
    """Whether `init` is made of what a layer sees: a name of `FROM_DATA`, with or without
    settings."""
    if init is None or isinstance(init, list | tuple):
        return False
    if isinstance(init, Mapping) and "name" not in init:
        return False
    return resolve(init)[0] in FROM_DATA.values()


def sample_size(init: Init, filters: int) -> int:
    """How many patches a start from data wants for so many filters: its `sample`, or its own."""
    function, options = resolve(init)
    sample = options.get("sample")
    return max(LEAST, A_FILTER[function] * filters) if sample is None else sample


def per_layer(init: Init | Sequence[Init] | Mapping[int, Init], n_layers: int) -> list[Init]:
    """One init per layer, for ablations such as ZerO on the first and third layer only.

    `init` is a single init for all layers, a list or tuple of `n_layers` of them, or a dict from
    the layer's index (from 0) to its init, in which the layers left out are "normal":
    {0: "zerO", 2: "zerO"}. A text is read by `parse_init`, where layers count from 1.

    Raises ValueError for a wrong length, an index outside the network or an unknown name or
    argument, TypeError for anything that is no init.
    """
    init = parse_init(init) if isinstance(init, str) else init
    if isinstance(init, list | tuple):
        if len(init) != n_layers:
            raise ValueError(f"init must have one entry per layer, {n_layers}; got {len(init)}")
        inits = list(init)
    elif isinstance(init, Mapping) and "name" not in init:
        strangers = [key for key in init if key not in range(n_layers)]
        if strangers:
            raise ValueError(
                f"init by layer must have indices from 0 to {n_layers - 1} as keys; "
                f"got {strangers} (one init for all layers has the key 'name')"
            )
        inits = [init.get(index, "normal") for index in range(n_layers)]
    else:
        inits = [init] * n_layers
    for one in inits:
        resolve(one)
    return inits


def resolve(init: Init) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function that `init` stands for, and the options it carries."""
    init = parse_init(init) if isinstance(init, str) else init
    if callable(init):
        return init, {}
    if isinstance(init, Mapping):
        options = dict(init)
        name = options.pop("name", None)
    else:
        options, name = {}, init
    if not isinstance(name, str):
        raise TypeError(f"init must be a name, a dict with a 'name' or a callable; got {init!r}")
    known_names = INITS | FROM_DATA
    found = [known_names[known] for known in known_names if known.lower() == name.lower()]
    if not found:
        hint = did_you_mean(name, known_names)
        raise ValueError(f"init must be one of {', '.join(known_names)}; got {name!r}{hint}")
    tensors = ("weight", "bias", "patches")
    takes = [key for key in inspect.signature(found[0]).parameters if key not in tensors]
    for key in options:
        if key not in (*takes, *BREAKERS):
            allowed = ", ".join(takes) or "no arguments"
            raise ValueError(
                f"init {name!r} takes {allowed}, and any init {' and '.join(BREAKERS)}; "
                f"got the unknown key {key!r}"
            )
    if found[0] in A_FILTER:
        for key in ("sample", "passes"):
            if options.get(key) is not None:
                options[key] = whole(key, options[key], least=1)
    return found[0], options
