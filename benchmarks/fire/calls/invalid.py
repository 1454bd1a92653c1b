"""Calls of which one argument does not fit."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from benchmarks.fire.calls.arguments import ACTIVATIONS, MODULES, Call
from softhebb_fast.options import Epilogue

NOT_A_NUMBER = ("1", None, [1.0], 1j, True)
NOT_POSITIVE = (0, 0.0, -1, -1e-9, math.nan, math.inf, -math.inf, 10**400)
NOT_A_SIZE = (0, -1, (0, 1), (1, -2), (1, 2, 3), 1.5, "2", None, [], True, math.nan)
VALUES: dict[str, tuple] = {
    "t_invert": (*NOT_A_NUMBER, *NOT_POSITIVE, 1e31, 1e-31),
    "wta": ("softest", "", 3, ("soft",)),
    "delta": (*NOT_A_NUMBER, 10**400),
    "rank": ("1", 1.5, None, [1], True),
    "lebesgue_p": (*NOT_A_NUMBER[:4], 0.99, 0, -2.0, math.nan, math.inf),
    "tie_rule": ("last", None, 1),
    "groups": (0, -1, 1.5, "1", None, 10**6, True),
    "stride": NOT_A_SIZE,
    "dilation": NOT_A_SIZE,
    "padding": (-1, (0, -1), (1, 2, 3), 0.5, "all", None, [], True),
    "padding_mode": ("constant", None, 1),
    "lr": ("1", [0.1], None, 1j),
    "lr_power": ("1", [0.1], 1j),
    "rule": ("softheb", None, 3, ["oja"]),
    "normalise": ("sum", 3),
    "decay": ("1", [0.1], -1.0, math.nan, math.inf),
    "update": ("grad ", 3, True),
    "epilogue": (
        *(None, "max", Epilogue(pool="sum"), Epilogue(power=0.0), Epilogue(power=math.nan)),
        *(Epilogue(kernel=(99, 99)), Epilogue(stride=0), Epilogue(padding=(9, 9))),
    ),
    "backend": ("cuda", "", 3, None),
    "overwrite": (),
    "power": NOT_POSITIVE + NOT_A_NUMBER,
    "share": (0.0, 1.0, -0.5, math.nan, "1", None),
    "in_channels": (0, -1, 1.5, "3", None, True),
    "out_channels": (0, -1, 1.5, "3", None, True),
    "in_features": (0, -1, 1.5, "3", None, True),
    "out_features": (0, -1, 1.5, "3", None, True),
    "kernel_size": NOT_A_SIZE,
}
ADDED = {  # to modules, beside what they have
    "radius": (0.0, -1.0, math.nan, "25"),
    "rounding": ("up", 3, None),
    "init": ("none", 3, {"nam": "normal"}, {"name": "normal", "radios": 1}),
    "backend": VALUES["backend"],
    "update": ("grads", 3),
    "lr": ("1", -0.1, math.nan, math.inf),
}
OTHERS = {"out_channels": ("groups", "weight"), "in_channels": ("groups", "weight")}


@st.composite
def spoilt(draw: st.DrawFn, calls: st.SearchStrategy[Call]) -> Call:
    """One of ``calls`` whose tensor or option does not fit."""
    call = draw(calls)
    if call.spoilt:
        return call
    options = [name for name in call.options if VALUES.get(name)]
    if call.name in MODULES:
        options += [f"+{name}" for name in ADDED]
    tensors = [] if call.name in ACTIVATIONS else list(call.tensors)
    names = [*options, *[f"tensor {name}" for name in tensors]]
    if not names:
        return call
    name = draw(st.sampled_from(names))
    if name.startswith("tensor "):
        return draw(spoilt_tensor(call, name.removeprefix("tensor ")))
    values = ADDED[name[1:]] if name[0] == "+" else VALUES[name]
    if call.name in ACTIVATIONS and name == "t_invert":
        values = values[:-2]
    return with_option(call, name.removeprefix("+"), draw(st.sampled_from(values)))


def with_option(call: Call, name: str, value: Any) -> Call:
    named = (name, *OTHERS.get(name, ()))
    if name == "epilogue":
        named = ("epilogue", "kernel", "stride", "padding", "pooled")
    if "rule" in call.options and (value is None or name == "wta"):
        value = ["neither", "nor"]  # the rule's own is taken for None, and some have a wta alone
    if call.options.get("padding") == "same":
        named += ("padding",)
    return call._replace(options=call.options | {name: value}, spoilt=named)


@st.composite
def spoilt_tensor(draw: st.DrawFn, call: Call, name: str) -> Call:
    """With a tensor of another dtype, of other dimensions, or something else."""
    own, others = call.tensors[name], list(call.tensors)
    of_rule = name in ("target", "modulator", "threshold", "counts", "lateral", "neuron_rates")
    ways = ["dtype", "size", "kind"]
    way = draw(st.sampled_from(ways))
    alone = call.name in ("norm_dependent_rate", "soft_wta", "competition_statistics")
    if way == "kind":
        made: Any = draw(st.sampled_from([[1.0], "x", 3.0]))
    elif way == "dtype":
        wrong = ["complex64"] if of_rule else ["complex64", "int64", "bool"]
        made = own._replace(dtype=draw(st.sampled_from(wrong)), layout="plain", scale=3)
    else:
        if alone or not own.shape or 0 in own.shape:
            return call
        shape = list(own.shape)
        shape[_fixed(call, name, len(shape))] += draw(st.sampled_from([1, 3]))
        made = own._replace(shape=tuple(shape), layout="plain")
    if call.name in MODULES and name == "weight":
        return call  # it is the layer's own
    named = tuple(dict.fromkeys((name, *others, "output")))
    if way != "size":
        named = (name, "x", "weight")
    return call._replace(tensors=call.tensors | {name: made}, spoilt=named)


def _fixed(call: Call, name: str, dims: int) -> int:
    """A dimension whose size follows from the other tensors: of a convolution the channels."""
    if name == "weight":
        return 1
    kernel = len(call.tensors["weight"].shape) - 2 if "weight" in call.tensors else 0
    return dims - 1 - kernel if name == "x" else dims - 1
