"""Layers and networks as text, in the published notation and a small extension of it.

A layer is a method and its keys: "softkrotov-c96-k5-p2-t1-lr0.08-lp0.5". Methods are the published
ones ("softhebb" is another word for softkrotov) and the other rules by their names. The keys:

    c   outputs (left out: one a class)     lr  base learning rate eta
    k   kernel (left out: linear layer)     lp  power q of the learning rate
    p   padding                             lb  Lebesgue p of the norm
    s   stride                              t   inverse temperature
    d   dilation                            r   radius of the initialisation
    g   groups                              a   delta of hardkrotov
    b   bias, 0 or 1                        v   1: rate by norm, 0: linear decay
    e   triangle before the competition     m   mask, checked and unused
    ls  learning rate of backpropagation

What surrounds the layer follows in any order, each after a colon: an input operation
("batchnorm2d" or "none" for a conv layer, where batchnorm2d is the default; "flatten" or
"unitlength" for a linear one), an activation ("triangle_0.7"), a pool ("max_4_2_1": kernel,
stride, padding) and a "dropout_0.5". "whiten-e0.1-n0.00015" takes the place of the batch norm;
its keys are

    e   epsilon, added to the variances
    n   contrast normalisation: what is added to the variance of a patch
    m   components to keep, of "whiten_pca"
    i   images of which the statistics are taken (left out: all)

A network is its layers with spaces between them. Case does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from .types import ACTIVATIONS, RULES, USUAL, Layer, Pool, Preset, defaults
from .whitening import Whitening

METHODS = {  # the published names of rules
    "softkrotov": "soft_anti",
    "hardkrotov": "hard_anti",
    "supervisedsoftkrotov": "supervised",
    "BP": "bp",
}
KEYS = {
    "c": ("out", int),
    "k": ("kernel", int),
    "p": ("padding", int),
    "s": ("stride", int),
    "d": ("dilation", int),
    "g": ("groups", int),
    "t": ("t_invert", float),
    "lr": ("lr", float),
    "lp": ("lr_power", float),
    "lb": ("lebesgue_p", float),
    "r": ("radius", float),
    "a": ("delta", float),
    "b": ("bias", bool),
    "v": ("schedule", bool),
    "e": ("pre_triangle", bool),
    "m": ("mask", float),
    "ls": ("lr_supervised", float),
}
WHITENING_KEYS = {
    "e": ("epsilon", float),
    "n": ("contrast", float),
    "m": ("components", int),
    "i": ("images", int),
}
OPERATIONS = {
    "conv": {"batchnorm2d": ("batch_norm", True), "none": ("batch_norm", False)},
    "linear": {"flatten": ("batch_norm", False), "unitlength": ("unit_length", True)},
}
_WRITTEN = {"padding_mode": ("reflect",), "schedule": ("norm", "linear")}
_NAMES = {rule: rule for rule in RULES} | {rule: method for method, rule in METHODS.items()}
_RULES = {name.lower(): rule for rule in RULES for name in (rule, _NAMES[rule])}
_RULES["softhebb"] = "soft_anti"

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")
_DASH = re.compile(r"(?<!\de)-")  # leaves 1e-05 whole


def parse_pool(text: str) -> Pool:
    """The pool written as kind_kernel_stride_padding, for example "max_4_2_1".

    Raises:
        ValueError: for another number of pieces, an unknown kind, or sizes that do not fit.

    ``text`` may be of any case.
    """
    kind, *sizes = text.strip().lower().split("_")
    if len(sizes) != 3:
        raise ValueError(
            f"pool {text!r}: expected kind_kernel_stride_padding, for example max_4_2_1"
        )
    try:
        return Pool(kind, *(_number(size, int) for size in sizes))
    except ValueError as error:
        raise ValueError(f"pool {text!r}: {error}") from None


def parse_activation(text: str) -> tuple[str, float]:
    """The activation written as name or name_parameter; the parameter defaults to 1, for
    topshare to 0.4.

    Raises:
        ValueError: for an unknown name or a parameter that is not a number.

    ``text`` may be of any case.
    """
    name, *rest = text.strip().lower().split("_", 1)
    if name not in ACTIVATIONS:
        raise ValueError(
            f"activation {text!r}: unknown name {name!r}; known are {', '.join(ACTIVATIONS)}"
        )
    try:
        return name, _number(rest[0], float) if rest else USUAL.get(name, 1.0)
    except ValueError as error:
        raise ValueError(f"activation {text!r}: {error}") from None


def parse_whitening(text: str) -> Whitening:
    """The whitening written as "whiten" or "whiten_pca" and its keys, "whiten_pca-e0.01-m50".

    Raises:
        ValueError: for an unknown method or key, a key given twice, or values out of range.

    ``text`` may be of any case.
    """
    name, *pieces = _DASH.split(text.strip().lower())
    word, _, method = name.partition("_")
    try:
        if word != "whiten" or name.endswith("_"):
            raise ValueError("expected whiten, whiten_zca or whiten_pca")
        return Whitening(method or Whitening.method, **_keyed(pieces, WHITENING_KEYS, {}))
    except ValueError as error:
        raise ValueError(f"whitening {text!r}: {error}") from None


def parse_layer(text: str) -> Layer:
    """The layer written as in the head of this file, with what surrounds it if that is given.

    A rule does not read every key (t means nothing to hard, a nothing to softkrotov); such keys
    are accepted, as published. `ls` belongs to the network: parse_network keeps it.

    Raises:
        ValueError: for an unknown method, key or piece, one that appears twice, a malformed
            number, or values that do not make a layer; the message quotes the text.
    """
    return _parse_block(text)[0]


def parse_network(text: str | Sequence[str], name: str = "custom") -> Preset:
    """The network written as layers with spaces between them, or as a list of layers.

    Raises:
        ValueError: as parse_layer; for layers that cannot follow each other; for two values of ls.

    ``text`` is one string or a list of them; ``name`` is that of the new preset.
    """
    blocks = [_parse_block(part) for part in (text.split() if isinstance(text, str) else text)]
    rates = {rate for _, rate in blocks if rate is not None}
    if len(rates) > 1:
        raise ValueError(f"network {text!r}: ls must be the same everywhere, got {sorted(rates)}")
    rate = rates.pop() if rates else Preset.lr_supervised
    return Preset(name, tuple(layer for layer, _ in blocks), lr_supervised=rate)


def format_layer(layer: Layer) -> str:
    """The layer as text, defaults left out: parse_layer(format_layer(layer)) == layer.

    Raises:
        ValueError: for a field that the notation has no word for: `rank` other than the rule's,
            `padding_mode` other than "reflect", `schedule` "exponential" or "constant".
    """
    return _format_block(layer)


def format_network(preset: Preset) -> str:
    """The preset's layers as text, for parse_network; its name and source are not in it.

    Raises:
        ValueError: as format_layer.
    """
    *hidden, last = preset.layers
    rate = preset.lr_supervised
    tail = "" if rate == Preset.lr_supervised else f"-ls{_text(rate)}"
    return " ".join((*map(_format_block, hidden), _format_block(last, tail)))


def _parse_block(text: str) -> tuple[Layer, float | None]:
    core, *around = text.strip().lower().split(":")
    try:
        given = _keys(core)
        given.pop("mask", None)
        rate = given.pop("lr_supervised", None)
        kind = "conv" if "kernel" in given else "linear"
        for piece in around:
            field, value = _surrounding(piece, kind)
            if field in given:
                raise ValueError(f"{piece!r} gives {field} a second time")
            given[field] = value
        return Layer(kind, **given), rate
    except ValueError as error:
        raise ValueError(f"layer {text!r}: {error}") from None


def _keys(core: str) -> dict[str, Any]:
    method, *pieces = _DASH.split(core)
    if method not in _RULES:
        raise ValueError(f"unknown method {method!r}; known are {', '.join(_NAMES.values())}")
    given = _keyed(pieces, KEYS, {"rule": _RULES[method]})
    if "schedule" in given:
        given["schedule"] = "norm" if given["schedule"] else "linear"
    return given


def _keyed(
    pieces: list[str], keys: dict[str, tuple[str, type]], given: dict[str, Any]
) -> dict[str, Any]:
    """``given`` and what the pieces, a key and a number each, say."""
    for piece in pieces:
        key = re.match("[a-z]*", piece).group()
        if key not in keys:
            raise ValueError(f"unknown key {key!r} in {piece!r}; known are {', '.join(keys)}")
        field, kind = keys[key]
        if field in given:
            raise ValueError(f"{piece!r} gives key {key!r} a second time")
        try:
            given[field] = _number(piece[len(key) :], kind)
        except ValueError as error:
            raise ValueError(f"{piece!r}: {error}") from None
    return given


def _surrounding(piece: str, kind: str) -> tuple[str, Any]:
    name, _, rest = piece.partition("_")
    if re.match("[a-z]*", piece).group() == "whiten":
        return "whiten", parse_whitening(piece)
    if piece in OPERATIONS[kind]:
        return OPERATIONS[kind][piece]
    if name in ("max", "avg"):
        return "pool", parse_pool(piece)
    if name in ACTIVATIONS:
        return "activation", parse_activation(piece)
    if name == "dropout":
        return "dropout", _number(rest, float)
    raise ValueError(
        f"unknown piece {piece!r}; a {kind} layer takes {', '.join(OPERATIONS[kind])}, an "
        "activation (triangle_0.7), a pool (max_4_2_1), whiten-e0.1 or dropout_0.5"
    )


def _number(text: str, kind: type) -> Any:
    if kind is float and _NUMBER.fullmatch(text):
        return float(text)
    if kind is int and re.fullmatch(r"\d+", text):
        return int(text)
    if kind is bool and text in ("0", "1"):
        return text == "1"
    expected = {float: "a number", int: "a whole number", bool: "0 or 1"}[kind]
    raise ValueError(f"expected {expected}, got {text!r}")


def _text(value: float | bool) -> str:
    return str(int(value)) if isinstance(value, bool) else repr(float(value)).removesuffix(".0")


def _format_block(layer: Layer, tail: str = "") -> str:
    usual = {field.name: field.default for field in fields(Layer)}
    usual |= defaults(layer.kind, layer.rule)
    for name, only in {**_WRITTEN, "rank": (usual["rank"],)}.items():
        if getattr(layer, name) not in only:
            raise ValueError(
                f"format_layer: no key stands for {name}={getattr(layer, name)!r}; only "
                f"{', '.join(map(repr, only))} can be written"
            )
    core = _NAMES[layer.rule]
    for key, (name, _) in KEYS.items():
        value = getattr(layer, name, None)
        if value is not None and value != usual[name]:
            core += f"-{key}" + ("0" if name == "schedule" else _text(value))
    around = []
    if layer.whiten:
        around.append(_format_whitening(layer.whiten))
    elif layer.batch_norm != usual["batch_norm"]:
        around.append("none")
    if layer.unit_length:
        around.append("unitlength")
    if layer.activation:
        around.append(f"{layer.activation[0]}_{_text(layer.activation[1])}")
    if layer.pool:
        pool = layer.pool
        around.append(f"{pool.kind}_{pool.kernel}_{pool.stride}_{pool.padding}")
    if layer.dropout:
        around.append(f"dropout_{_text(layer.dropout)}")
    return ":".join((core + tail, *around))


def _format_whitening(whitening: Whitening) -> str:
    usual = Whitening(whitening.method)
    text = "whiten" if whitening.method == Whitening.method else f"whiten_{whitening.method}"
    for key, (name, _) in WHITENING_KEYS.items():
        value = getattr(whitening, name)
        if value != getattr(usual, name):
            text += f"-{key}{_text(value)}"
    return text
