"""Arguments for every public function and module, drawn by hypothesis."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from hypothesis import strategies as st

from benchmarks.fire.calls.sizes import Size, convolutions, pairs, products
from benchmarks.fire.calls.tensors import LAYOUTS, NUMBERS, ORDINARY, SHARING, Drawn, unwritable
from softhebb_fast.kinds import NORMALISATIONS, RULES, TIE_RULES, WTA
from softhebb_fast.options import Epilogue, Rule

DTYPES = ("float32", "float64", "float16", "bfloat16")
LAYERS = ("conv2d", "conv1d", "linear", "block")
MODULES = (
    *("SoftHebbConv2d", "SoftHebbConv1d", "SoftHebbLinear", "SoftHebbBlock"),
    *("HebbianConv2d", "HebbianConv1d", "HebbianLinear"),
)
ACTIVATIONS = ("Triangle", "SplitTriangle", "RePU", "Softmax", "TopShare")
PARTS = (
    *("soft_wta", "hebbian_update", "norm_dependent_rate", "hebbian_step_"),
    "competition_statistics",
)


class Call(NamedTuple):
    """A call of a public function or module, as text.

    Attributes:
        name: of the function, or the class.
        backend: that computes it.
        tensors: its tensors by their names.
        options: all other arguments; of a module, those of its constructor.
        spoilt: the arguments that do not fit, one of which an error must name; none if all fit.
    """

    name: str
    backend: str
    tensors: dict[str, Drawn]
    options: dict[str, Any]
    spoilt: tuple[str, ...] = ()


@st.composite
def drawn(
    draw: st.DrawFn,
    shape: tuple[int, ...],
    dtype: str,
    *,
    extreme: bool = False,
    scale: float = 1.0,
    shared: bool = True,
) -> Drawn:
    layouts = [name for name in LAYOUTS if shared or name not in SHARING]
    return Drawn(
        shape,
        dtype,
        draw(st.sampled_from(NUMBERS if extreme else ORDINARY)),
        draw(st.sampled_from(layouts)),
        scale,
        draw(st.integers(0, 2**16)),
    )


def competitions(neurons: int, extreme: bool) -> dict[str, st.SearchStrategy]:
    """Options of the competition among so many neurons."""
    t = [1.0, 0.5, 12.0, 96.0, *([1e-30, 1e-6, 1e4, 1e9, 1e30] if extreme else [])]
    return {
        "t_invert": st.sampled_from(t),
        "wta": st.sampled_from(WTA),
        "delta": st.sampled_from([2.0, 0.0, 0.5, -1.0]),
        "rank": st.integers(1, neurons),
        "lebesgue_p": st.sampled_from([2.0, 2.0, 2.0, 1.0, 1.5, 3.0]),
        "tie_rule": st.sampled_from(TIE_RULES),
    }


@st.composite
def epilogues(draw: st.DrawFn, size: tuple[int, ...]) -> Epilogue:
    kernel = tuple(draw(st.integers(1, min(n, 3))) for n in size)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    pool, power = draw(st.sampled_from(["max", "avg"])), draw(st.sampled_from([1.0, 1.4, 2.0, 0.5]))
    return Epilogue(draw(st.booleans()), power, pool, kernel, draw(pairs(1, 3)), padding)


@st.composite
def rates(draw: st.DrawFn, neurons: int, rule: bool) -> tuple[dict[str, Any], dict[str, Drawn]]:
    """Arguments of a step, and tensors."""
    options = {
        "lr": draw(st.sampled_from([0.1, 1e-3, 0.0, 1e-12, 1e9, -0.1])),
        "lr_power": draw(st.sampled_from([0.5, 0.0, 1.0, 2.0, -0.5])),
    }
    tensors = {}
    if rule:
        options["unit_norm"] = draw(st.booleans())
        if draw(st.booleans()):
            numbers = draw(st.sampled_from(["some zeros", "ones"]))
            tensors["neuron_rates"] = Drawn((neurons,), "float32", numbers)
    return options, tensors


@st.composite
def rules(
    draw: st.DrawFn, kind: str, size: Size, groups: int, extreme: bool, settle: bool
) -> tuple[dict[str, Any], dict[str, Drawn]]:
    """The options of a rule, and the tensors that it wants."""
    names = [name for name, k in RULES.items() if settle or "lateral" not in k.activity]
    name = draw(st.sampled_from(names))
    own = RULES[name]
    options: dict[str, Any] = {"rule": name}
    normalise = draw(st.sampled_from([None, *NORMALISATIONS]))
    if normalise == "count" and own.gain != "activity":
        normalise = None
    if normalise is not None:
        options["normalise"] = normalise
    if draw(st.booleans()):
        options["decay"] = draw(st.sampled_from([0.0, 1e-3, 1.0]))
    wants = Rule(own.activity, own.gain, own.nearest, normalise or own.normalise).wants
    neurons, tensors = size.weight[0], {}
    lead = size.x[:-1] if kind == "linear" else size.x[: len(size.x) - len(size.weight) + 1]
    rest = size.u[len(lead) :]
    positions = lead if kind == "linear" else (*lead, 1, *rest[1:])
    dtype = draw(st.sampled_from(["float32", "float64"]))
    if "target" in wants:
        shape = draw(st.sampled_from([(*lead, *rest), (*lead, neurons), lead]))
        if shape == lead:
            tensors["target"] = Drawn(shape, "int64", scale=neurons, seed=draw(st.integers(0, 9)))
        else:
            tensors["target"] = draw(drawn(shape, dtype, extreme=extreme))
    if draw(st.integers(0, 2)) == 0:
        shape = draw(st.sampled_from([lead, positions]))
        tensors["modulator"] = draw(drawn(shape, dtype, extreme=extreme))
    if "threshold" in wants or (own.activity == "competition" and draw(st.integers(0, 3)) == 0):
        tensors["threshold"] = draw(drawn((neurons,), dtype, extreme=extreme))
    if "counts" in wants:
        tensors["counts"] = Drawn((neurons,), dtype, draw(st.sampled_from(["zeros", "ones"])))
    if "lateral" in wants:
        shape = (neurons, neurons // groups)
        tensors["lateral"] = draw(drawn(shape, dtype, scale=0.1 / neurons))
    return options, tensors


@st.composite
def layers(draw: st.DrawFn, backend: str) -> Call:
    """A call of a layer as a function."""
    small = backend == "triton"
    kind = draw(st.sampled_from(LAYERS))
    rule, extreme = draw(st.booleans()), draw(st.booleans())
    size = draw(products(small) if kind == "linear" else convolutions(kind == "conv1d", small))
    steps = draw(st.booleans()) if kind in ("conv2d", "linear") else False
    name = f"{'hebbian' if rule else 'softhebb'}_{kind}{'_step_' if steps else ''}"
    groups = size.geometry.get("groups", 1)
    neurons = size.weight[0] // groups
    options = dict(size.geometry)
    choices = competitions(neurons, extreme)
    if small:
        choices["tie_rule"] = st.just("first")
    if kind != "linear":
        choices["pre_triangle"] = st.booleans()
    given = draw(st.sets(st.sampled_from(sorted(choices))))
    if neurons < 3:
        given |= {"rank"}
    options |= {key: draw(choices[key]) for key in sorted(given)}
    dtype = draw(st.sampled_from([d for d in DTYPES if not small or d != "float64"]))
    scale = 1 / math.sqrt(math.prod(size.weight[1:]))
    tensors = {}
    if rule:
        more, tensors = draw(rules(kind, size, groups, extreme, settle=not small))
        wta = RULES[more["rule"]].wta
        if wta is not None:
            options.pop("wta", None)
        options |= more
    update = draw(st.sampled_from([None, "delta_w", "in_place"])) if kind == "block" else None
    if kind == "block":
        options["epilogue"] = draw(epilogues(size.u[-2:]))
        if update is not None:
            options["update"] = update
        else:  # a rule is not looked at
            tensors = {}
    writes = steps or update == "in_place"
    if writes:
        more, own = draw(rates(size.weight[0], rule))
        options, tensors = options | more, tensors | own
    x = draw(drawn(size.x, dtype, extreme=extreme))
    weight = draw(drawn(size.weight, dtype, extreme=extreme, scale=scale))
    tensors |= {"x": x, "weight": weight}
    if draw(st.integers(0, 2)) == 0:
        tensors["bias"] = draw(drawn(size.weight[:1], dtype, extreme=extreme, scale=0.2))
    if small:  # the dispatcher, which is passed by, resolves them before the kernels
        plain = {
            key: t._replace(layout="sliced") for key, t in tensors.items() if t.layout == "negated"
        }
        tensors |= plain
    spoilt = ("weight",) if writes and unwritable(tensors["weight"]) else ()
    return Call(name, backend, tensors, options, spoilt)


def u_shape(draw: st.DrawFn) -> tuple[tuple[int, ...], int]:
    """Of pre-activations ``[B, K, ...]``, and a number of groups."""
    groups, neurons = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 7]))
    rest = draw(st.sampled_from([(), (3,), (2, 5), (0,)]))
    return (draw(st.sampled_from([1, 2, 0, 13])), groups * neurons, *rest), groups


@st.composite
def parts(draw: st.DrawFn) -> Call:
    """A call of a part of the layer."""
    name = draw(st.sampled_from(PARTS))
    dtype, extreme = draw(st.sampled_from(DTYPES)), draw(st.booleans())
    if name in ("soft_wta", "competition_statistics"):
        shape, groups = u_shape(draw)
        choices = competitions(shape[1] // groups, extreme)
        del choices["lebesgue_p"]
        if name == "soft_wta":
            choices["overwrite"] = st.booleans()
        else:
            del choices["delta"], choices["rank"]
        options = {key: draw(choice) for key, choice in choices.items()}
        u = draw(drawn(shape, dtype, extreme=extreme))
        return Call(name, "reference", {"u": u}, options | {"groups": groups})
    if name == "hebbian_update":
        size = draw(st.one_of(convolutions(small=True), products()))
        if len(size.weight) == 2 and len(size.x) > 2:
            size = size._replace(x=(3, size.weight[1]), u=(3, size.weight[0]))
        shapes = {"x": size.x, "weight": size.weight, "y": size.u, "u": size.u}
        tensors = {key: draw(drawn(s, dtype, extreme=extreme)) for key, s in shapes.items()}
        return Call(name, "reference", tensors, dict(size.geometry))
    shape = draw(st.sampled_from([(3, 5), (1, 1), (7, 2, 3, 3), (2, 13), (5, 2, 3)]))
    rate, tensors = draw(rates(shape[0], name == "hebbian_step_"))
    rate["lebesgue_p"] = draw(st.sampled_from([2.0, 1.0, 3.0, 1.5, 7.0]))
    weight = draw(drawn(shape, dtype, extreme=extreme))
    tensors["weight"] = weight
    spoilt: tuple[str, ...] = ()
    if name == "hebbian_step_":
        tensors["delta_w"] = draw(drawn(shape, dtype, extreme=extreme))
        if unwritable(weight):
            spoilt = ("weight",)
    return Call(name, "reference", tensors, rate, spoilt)


@st.composite
def modules(draw: st.DrawFn, backend: str) -> Call:
    """A layer as a module: one forward, in training or evaluation mode."""
    name = draw(st.sampled_from(MODULES))
    extreme, rule = draw(st.booleans()), name.startswith("Hebbian")
    if name.endswith("Linear"):
        size, kind = draw(products()), "linear"
        options = {"in_features": size.weight[1], "out_features": size.weight[0]}
    else:
        one_row = name.endswith("1d")
        kind = "conv1d" if one_row else "conv2d"
        size = draw(convolutions(one_row, small=True))
        groups = size.geometry.get("groups", 1)
        kernel = size.weight[2] if one_row else size.weight[2:]
        options = {"in_channels": size.weight[1] * groups, "out_channels": size.weight[0]}
        options |= {"kernel_size": kernel, **size.geometry}
    groups = size.geometry.get("groups", 1)
    choices = competitions(size.weight[0] // groups, extreme)
    given = draw(st.sets(st.sampled_from(sorted(choices)))) | {"rank"}
    options |= {key: draw(choices[key]) for key in sorted(given)}
    dtype, tensors = draw(st.sampled_from(DTYPES)), {}
    if rule:
        more, tensors = draw(rules(kind, size, groups, False, settle=True))
        if RULES[more["rule"]].wta is not None:
            options.pop("wta", None)
        for state in ("threshold", "counts", "lateral"):
            tensors.pop(state, None)
        options |= more
    if draw(st.booleans()):
        options |= {"update": "in_place", "lr": draw(st.sampled_from([0.1, 0.0, 1e-3]))}
    options |= {"bias": draw(st.booleans()), "train": draw(st.booleans())}
    scale = 1 / math.sqrt(math.prod(size.weight[1:]))
    tensors["x"] = draw(drawn(size.x, dtype, extreme=extreme))
    tensors["weight"] = draw(drawn(size.weight, dtype, extreme=extreme, scale=scale))
    return Call(name, backend, tensors, options)


@st.composite
def activations(draw: st.DrawFn) -> Call:
    name = draw(st.sampled_from(ACTIVATIONS))
    dtype, extreme = draw(st.sampled_from(DTYPES)), draw(st.booleans())
    shape = draw(st.sampled_from([(2, 3), (5,), (1, 2, 3, 5), (0, 2), (7, 13, 2), (2, 3, 0, 2)]))
    values = {
        "Softmax": [1.0, 100.0, 1e-6, 1e9, 1e30],
        "TopShare": [0.4, 0.01, 0.99, 0.5],
    }.get(name, [1.0, 0.5, 1.4, 2.0])
    option = {"Softmax": "t_invert", "TopShare": "share"}.get(name, "power")
    u = draw(drawn(shape, dtype, extreme=extreme))
    return Call(name, "torch", {"u": u}, {option: draw(st.sampled_from(values))})
