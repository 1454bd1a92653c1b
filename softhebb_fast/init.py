"""Weight initialisation for SoftHebb layers; `diversity` reports how different the filters are.

A weight is [K, C/g, R, S] (convolution) or [K, N] (linear); row k is the filter of neuron k, with
fan-in N = (C/g)·R·S. Functions ending in `_` fill it in place without autograd and return it, like
`torch.nn.init`. Random numbers are always drawn on the CPU in float32, in one call of the weight's
shape, and then copied: one seed gives one network on every device and in every dtype. Tensors on
the meta device hold nothing to fill and consume no random numbers.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from softhebb_fast.diversity import Diversity as Diversity
from softhebb_fast.diversity import check_weight
from softhebb_fast.diversity import distinct_filters as distinct_filters
from softhebb_fast.diversity import diversity as diversity

Init = str | Mapping[str, Any] | Callable[[Tensor], Any]

ZERO_SCALES = ("algorithm2", "orthonormal", "fork")


@torch.no_grad()
def normal_(
    weight: Tensor,
    radius: float = 25.0,
    lebesgue_p: float = 2.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Gaussian weights whose filters have about `radius` as their p-norm.

    The deviation is (R^p / (N·E|z|^p))^(1/p), z standard normal; for p = 2 that is R/√N, the rule
    of Journé et al. 2023 as their code applies it. Any p > 0 will do, 1 and fractions included.

    Raises ValueError for a radius or p that is not positive and finite.
    """
    check_weight(weight)
    _check_positive("radius", radius)
    _check_positive("lebesgue_p", lebesgue_p)
    moment = 2 ** (lebesgue_p / 2) * math.gamma((lebesgue_p + 1) / 2) / math.sqrt(math.pi)
    deviation = radius / (_fan_in(weight) * moment) ** (1 / lebesgue_p)
    return weight.copy_(_draw(torch.randn, weight, generator).mul_(deviation))


@torch.no_grad()
def positive_(
    weight: Tensor,
    radius: float = 25.0,
    lebesgue_p: float = 2.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Uniform weights on [0, a) with a = ((p+1)·R^p / N)^(1/p); for p = 2, a = R·√(3/N).

    The published SoftHebb code starts every layer without batch normalisation this way.

    Raises ValueError for a radius or p that is not positive and finite.
    """
    check_weight(weight)
    _check_positive("radius", radius)
    _check_positive("lebesgue_p", lebesgue_p)
    width = radius * ((lebesgue_p + 1) / _fan_in(weight)) ** (1 / lebesgue_p)
    return weight.copy_(_draw(torch.rand, weight, generator).mul_(width))


@torch.no_grad()
def negative_(
    weight: Tensor,
    radius: float = 25.0,
    lebesgue_p: float = 2.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The mirror image of `positive_`: uniform weights on (-a, 0], same draws, same errors."""
    return positive_(weight, radius, lebesgue_p, generator).neg_()


@torch.no_grad()
def zerO_(weight: Tensor, scale: str = "algorithm2", radius: float | None = None) -> Tensor:
    """ZerO: a deterministic start from identity and Hadamard matrices (Zhao et al. 2022).

    With K rows and C columns (C/g for a grouped convolution), K <= C gives the partial identity;
    K > C gives the first K rows and C columns of the Sylvester-Hadamard matrix of size 2^m,
    m = ceil(log2 K), times a constant. A convolution carries this matrix at its tap (R//2, S//2),
    also where R or S is even, and is zero elsewhere. The constant, by `scale`:

    - "algorithm2": 2^(-(m-1)/2), as Zhao et al. write Algorithm 1 (linear) and 2 (convolution).
    - "orthonormal": 2^(-m/2), which makes the full Hadamard matrix orthonormal.
    - "fork": what the published ZerO-SoftHebb code computes (Le, Xu, Zhuang): both constants
      multiplied for a convolution, 2^(-(2m-1)/2), and 2^(-m/2) for a linear weight.

    `radius` replaces the constant, and the ones of the identity, so that every filter has this
    2-norm; SoftHebb starts at 25, ZerO itself below 1. Beware: in the Hadamard case only
    min(K, 2^ceil(log2 C)) filters are distinct, see `distinct_filters`.

    Raises ValueError for an unknown scale or a radius that is not positive and finite.
    """
    check_weight(weight)
    if scale not in ZERO_SCALES:
        raise ValueError(f"scale must be one of {', '.join(ZERO_SCALES)}; got {scale=}")
    if radius is not None:
        _check_positive("radius", radius)
    rows, columns = weight.shape[:2]
    if rows <= columns:
        return partial_identity_(weight).mul_(1.0 if radius is None else radius)
    log_size = (rows - 1).bit_length()
    if radius is not None:
        magnitude = radius / math.sqrt(columns)
    elif scale == "algorithm2":
        magnitude = 2 ** (-(log_size - 1) / 2)
    elif scale == "orthonormal" or weight.dim() == 2:
        magnitude = 2 ** (-log_size / 2)
    else:
        magnitude = 2 ** (-(2 * log_size - 1) / 2)
    weight.zero_()
    _centre(weight).copy_(_hadamard_signs(rows, columns, weight.device)).mul_(magnitude)
    return weight


@torch.no_grad()
def random_binary_(
    weight: Tensor, probability: float = 0.5, generator: torch.Generator | None = None
) -> Tensor:
    """Unscaled zeros and ones, each entry one with `probability`.

    The "random ZerO" of Le, Xu, Zhuang. At one half the draw is an integer one, which reproduces
    the published counts of non-zeros from their seeds.

    Raises ValueError unless 0 <= probability <= 1.
    """
    check_weight(weight)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be between 0 and 1; got {probability=}")
    if probability == 0.5:
        return weight.copy_(_draw(_random_bits, weight, generator))
    return weight.copy_(_draw(torch.rand, weight, generator) < probability)


def identity_(weight: Tensor) -> Tensor:
    """Neuron k copies input k: ones on the diagonal, for a convolution at the tap (R//2, S//2).

    Raises ValueError unless there are as many neurons as input channels (per group).
    """
    check_weight(weight)
    if weight.shape[0] != weight.shape[1]:
        raise ValueError(
            "weight must have as many filters as input channels for 'identity', "
            f"got {tuple(weight.shape)}; use 'partial_identity' or 'zerO'"
        )
    return partial_identity_(weight)


@torch.no_grad()
def partial_identity_(weight: Tensor) -> Tensor:
    """Like `identity_` for any shape: the neurons beyond the last input channel are all zero."""
    check_weight(weight)
    weight.zero_()
    _centre(weight).diagonal().fill_(1.0)
    return weight


@torch.no_grad()
def constant_(weight: Tensor, value: float | None = None, radius: float = 25.0) -> Tensor:
    """Identical filters with identical entries: a start without any feature diversity.

    This asks the question of ConstNet (Blumenfeld et al. 2020) in its plainest form. Every entry
    is `value`, or radius/√N where none is given, so that each filter has `radius` as its 2-norm.

    Raises ValueError for a value that is not finite or a radius that is not positive and finite.
    """
    check_weight(weight)
    _check_positive("radius", radius)
    if value is None:
        value = radius / math.sqrt(_fan_in(weight))
    elif not math.isfinite(value):
        raise ValueError(f"value must be finite; got {value=}")
    return weight.fill_(value)


@torch.no_grad()
def random_bias_(
    weight: Tensor,
    bias: Tensor | None,
    distribution: str = "normal",
    scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """All weights zero, the symmetry broken by random biases alone (Schicho 2023).

    `bias` is [K], filled with `scale` times N(0, 1) ("normal") or U[0, 1) ("uniform").

    Raises ValueError without a bias of that shape, for an unknown distribution, or a scale that
    is not positive and finite.
    """
    check_weight(weight)
    _check_positive("scale", scale)
    samplers = {"normal": torch.randn, "uniform": torch.rand}
    if distribution not in samplers:
        raise ValueError(f"distribution must be 'normal' or 'uniform'; got {distribution=}")
    if bias is None:
        raise ValueError("bias must be a tensor for 'random_bias', got None; build it with a bias")
    if bias.shape != weight.shape[:1]:
        raise ValueError(
            f"bias must have one entry per filter, {weight.shape[0]}; got {tuple(bias.shape)}"
        )
    bias.copy_(_draw(samplers[distribution], bias, generator).mul_(scale))
    return weight.zero_()


INITS: dict[str, Callable[..., Tensor]] = {
    "normal": normal_,
    "positive": positive_,
    "negative": negative_,
    "zerO": zerO_,
    "random_binary": random_binary_,
    "identity": identity_,
    "partial_identity": partial_identity_,
    "constant": constant_,
    "random_bias": random_bias_,
}


def initialise(
    weight: Tensor,
    bias: Tensor | None = None,
    init: Init = "normal",
    *,
    radius: float = 25.0,
    lebesgue_p: float = 2.0,
    generator: torch.Generator | None = None,
) -> None:
    """Fill `weight` (and, for "random_bias" only, `bias` [K]) as `init` says.

    `init` is a name of `INITS` (in any case), a dict such as {"name": "zerO", "scale": "fork"}
    with further arguments of that function, or a callable that fills the weight it is given.
    `radius`, `lebesgue_p` and `generator` are the layer's own; they go to the functions that take
    them, and a dict overrides them. "zerO" alone keeps its own norms unless its dict names a
    radius, as in Le, Xu, Zhuang.

    Raises TypeError or ValueError for an init that is none of these, an unknown name or argument,
    and whatever the chosen function raises.
    """
    function, options = _resolve(init)
    if function not in INITS.values():
        with torch.no_grad():
            function(weight)
        return
    layer = {"bias": bias, "radius": radius, "lebesgue_p": lebesgue_p, "generator": generator}
    if function is zerO_:
        del layer["radius"]
    takes = inspect.signature(function).parameters
    function(weight, **{key: layer[key] for key in takes if key in layer} | options)


def per_layer(init: Init | list | tuple | Mapping[int, Init], n_layers: int) -> list[Init]:
    """One init per layer, for ablations such as ZerO on the first and third layer only.

    `init` is a single init for all layers, a list or tuple of `n_layers` of them, or a dict from
    the layer's index (from 0) to its init, in which the layers left out are "normal":
    {0: "zerO", 2: "zerO"}.

    Raises ValueError for a wrong length, an index outside the network or an unknown name or
    argument, TypeError for anything that is no init.
    """
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
        _resolve(one)
    return inits


def _resolve(init: Init) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function that `init` stands for, and the options it carries."""
    if callable(init):
        return init, {}
    if isinstance(init, Mapping):
        options = dict(init)
        name = options.pop("name", None)
    else:
        options, name = {}, init
    if not isinstance(name, str):
        raise TypeError(f"init must be a name, a dict with a 'name' or a callable; got {init!r}")
    found = [function for known, function in INITS.items() if known.lower() == name.lower()]
    if not found:
        raise ValueError(f"init must be one of {', '.join(INITS)}; got {name!r}")
    takes = [key for key in inspect.signature(found[0]).parameters if key not in ("weight", "bias")]
    for key in options:
        if key not in takes:
            allowed = ", ".join(takes) or "no arguments"
            raise ValueError(f"init {name!r} takes {allowed}; got the unknown key {key!r}")
    return found[0], options


def _check_positive(name: str, value: float) -> None:
    if not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive, finite number; got {value!r}")


def _fan_in(weight: Tensor) -> int:
    return math.prod(weight.shape[1:])


def _centre(weight: Tensor) -> Tensor:
    """The [K, C/g] view of the middle tap; a linear weight is its own."""
    if weight.dim() == 2:
        return weight
    return weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2]


def _draw(sampler: Callable, like: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(
            f"generator must live on the CPU, where all draws are made; got {generator.device}"
        )
    if like.is_meta:
        return torch.empty_like(like)
    return sampler(like.shape, generator=generator, device="cpu", dtype=torch.float32)


def _random_bits(shape: torch.Size, **options: Any) -> Tensor:
    return torch.randint(0, 2, shape, **options)


def _hadamard_signs(rows: int, columns: int, device: torch.device) -> Tensor:
    """H[i, j] = (-1)^popcount(i & j), where the popcount is the product of the binary digits."""
    digits = torch.arange(rows.bit_length(), device=device)
    left = (torch.arange(rows, device=device).unsqueeze(1) >> digits & 1).float()
    return 1 - 2 * (left @ left[:columns].T).fmod_(2)
