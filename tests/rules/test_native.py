"""Every rule by the native kernels: as the reference has it, on every path and at its edges."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from softhebb_fast import extension
from softhebb_fast.functional import hebbian_block, hebbian_conv2d, hebbian_conv2d_step_
from softhebb_fast.kinds import RULES
from softhebb_fast.options import Competition, Epilogue, Rate, Rule
from tests.by_keyword import ops, reference
from tests.cpp.native import assert_same_bits
from tests.cpp.test_layer import LINEAR, OPTIONS, layer, layouts
from tests.cpp.test_step import epilogue_of, epilogues, fits
from tests.cpp.test_winograd import SWITCH, cases
from tests.rules.cases import OWN, needs
from tests.strategies import Case, conv_cases, linear_cases
from tests.tolerances import TOLERANCES, assert_close, clear_of_band

pytestmark = pytest.mark.skipif(extension.MISSING is not None, reason=str(extension.MISSING))

PAIRS = (
    *product(("competition", "target", "error"), ("none", "activity", "product")),
    *product(("linear", "threshold"), ("none", "product")),
    ("linear", "lower"),
    ("linear", "activity"),
    *product(("target", "lateral", "rectified_lateral"), ("square",)),
    ("lateral", "product"),
)
MODULATORS = (None, "sample", "position")
BAD = (float("nan"), float("inf"), -float("inf"))


def rule_for(
    u: Tensor,
    pair: tuple[str, str],
    normalise: str = "none",
    modulator: str | None = None,
    dtype: torch.dtype = torch.float64,
    groups: int = 1,
    handicap: bool = False,
    **fields: object,
) -> Rule:
    """A rule with whatever tensors it wants, for pre-activations of the shape of ``u``."""
    activity, gain = pair
    neurons = u.shape[1]
    generator = torch.Generator().manual_seed(u.numel())

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    tensors = {}
    if modulator:
        own = u.shape[2:] if modulator == "position" else [1] * (u.dim() - 2)
        tensors["modulator"] = draw(u.shape[0], 1, *own).expand(u.shape[0], 1, *u.shape[2:])
    if activity in ("target", "error"):
        tensors["target"] = draw(*u.shape)
    if activity == "threshold" or handicap:
        generator.manual_seed(neurons)  # whatever the batch
        tensors["threshold"] = draw(neurons).abs()
    if activity.endswith("lateral"):
        own = torch.arange(neurons) % (neurons // groups)
        m = draw(neurons, neurons // groups) / (3 * neurons)
        tensors["lateral"] = m.scatter(1, own[:, None], 0.0)
    if normalise == "count":
        tensors["counts"] = draw(neurons).abs() * 10 + u.numel()  # away from a sum of 0
    return Rule(activity, gain, normalise=normalise, **tensors, **fields)


@st.composite
def rules(draw: st.DrawFn) -> dict:
    """What ``rule_for`` takes beside u."""
    pair = draw(st.sampled_from(PAIRS))
    counted = ("count",) if pair[1] == "activity" else ()
    return {
        "pair": pair,
        "normalise": draw(st.sampled_from(("none", "mean", "max", *counted))),
        "modulator": draw(st.sampled_from(MODULATORS)),
        "nearest": pair[0] == "competition" and draw(st.booleans()),
        "handicap": pair[0] == "competition" and draw(st.booleans()),
        "decay": draw(st.sampled_from((0.0, 0.3))),
    }


def largest_term(x: Tensor, weight: Tensor, u: Tensor, rule: Rule, options: dict) -> float:
    """No sum that makes up D exceeds it: what rounding is relative to."""
    competition = Competition(**{n: options[n] for n in Competition._fields if n in options})
    groups = options.get("groups", 1)
    a = reference.activity(u, weight, competition, rule, groups=groups).abs()
    a = a * (1 if rule.modulator is None else rule.modulator.abs())
    other = 1 + u.abs() + (0 if rule.target is None else rule.target.abs())
    w = float(weight.abs().max()) * weight.shape[0]
    lost = float((a * other).sum(dim=(0, *range(2, u.dim()))).max()) + rule.decay * u.numel()
    total = float(a.sum(dim=(0, *range(2, u.dim()))).max())
    return max(1.0, total * float(x.abs().max()) + lost * w)


def assert_alike(own, expected, tol: float, scale: float) -> None:
    """u, delta_b and the statistic within ``tol`` of their scale, delta_w of the given one."""
    assert (own.delta_w.double() - expected.delta_w).abs().max() <= tol * scale
    for found, wanted in zip((own.u, *own[2:]), (expected.u, *expected[2:]), strict=True):
        assert (found is None) == (wanted is None)
        if wanted is not None:
            assert_close(found, wanted, tol)


def check(call: str, case: Case, given_: dict, dtype: torch.dtype, tol: float) -> None:
    """The layer of a case in ``dtype`` against the reference in float64."""
    plain, exact, options = getattr(ops, call), getattr(reference, call), case.options
    given_ = given_ | {"groups": options.get("groups", 1)}
    narrow = [None if t is None else t.to(dtype) for t in case.tensors()]
    wide = [None if t is None else t.double() for t in narrow]
    u = exact(*wide, **options).u
    if dtype != torch.float64 and given_["pair"][0] == "competition":
        assume(options["t_invert"] <= 12)
        clear = clear_winners(narrow[0], wide[1], u, rule_for(u, **given_), options)
        assume(len(clear))
        narrow[0], wide[0] = clear, clear.double()
        u = exact(*wide, **options).u
    rule = in_dtype(rule_for(u, **given_), dtype)
    wide_rule = in_dtype(rule, torch.float64)
    expected = exact(*wide, rule=wide_rule, **options)
    scale = largest_term(wide[0], wide[1], u, wide_rule, options)
    if rule.normalise == "max":
        d = exact(*wide, rule=wide_rule._replace(normalise="none"), **options).delta_w
        least = float(d.reshape(given_["groups"], -1).abs().amax(1).min())
        assume(scale < 1e3 * least)
        scale /= least
    assert_alike(plain(*narrow, rule=rule, **options), expected, tol, scale)


def in_dtype(rule: Rule, dtype: torch.dtype) -> Rule:
    return rule._make(t.to(dtype) if isinstance(t, Tensor) else t for t in rule)


def clear_winners(x: Tensor, weight: Tensor, u: Tensor, rule: Rule, options: dict) -> Tensor:
    """The samples of x where no winner hangs on rounding."""
    beside = -1, *[1] * (u.dim() - 2)
    if rule.nearest:
        u = u - (weight.flatten(1).square().sum(1) / 2).view(beside)
    if rule.threshold is not None:
        u = u - rule.threshold.view(beside)
    rank = options["rank"] if options["wta"] == "hard_anti" else 1
    return clear_of_band(x, u, groups=options.get("groups", 1), rank=rank)


@settings(max_examples=500)
@given(conv_cases(), rules())
def test_convolutions_are_the_reference(case: Case, given_: dict):
    check("conv2d", case, given_, torch.float64, TOLERANCES["float64"])


@settings(max_examples=300)
@given(linear_cases(), rules())
def test_linear_layers_are_the_reference(case: Case, given_: dict):
    check("linear", case, given_, torch.float64, TOLERANCES["float64"])


@settings(max_examples=300)
@given(conv_cases(), rules())
def test_float32_is_the_reference_outside_the_band(case: Case, given_: dict):
    check("conv2d", case, given_, torch.float32, TOLERANCES["float32_delta_w"])


@settings(max_examples=150)
@given(cases(), rules())
def test_winograd_is_the_reference(case: Case, given_: dict):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, "1")
        check("conv2d", case, given_, torch.float64, TOLERANCES["float64"])


# Which way a layer takes: sums tile by tile, by slices of patches or of neurons, in several panels.
PATHS = {
    "small": ((3, 3, 20, 21), (40, 3, 5, 5)),
    "by-patch": ((3, 34, 12, 12), (300, 34, 3, 3)),
    "by-neuron": ((2, 64, 8, 8), (700, 64, 3, 3)),
    "panels": ((40, 64, 16, 16), (160, 64, 3, 3)),
}
NAMED = {
    "instar": (("competition", "activity"), {}),
    "kmeans": (("competition", "activity"), {"nearest": True, "normalise": "count"}),
    "hebb": (("linear", "none"), {"normalise": "max"}),
    "oja": (("linear", "product"), {}),
    "sanger": (("linear", "lower"), {}),
    "bcm": (("threshold", "none"), {"decay": 0.1}),
    "teacher": (("target", "product"), {}),
    "delta_rule": (("error", "none"), {}),
    "conscience": (("competition", "activity"), {"nearest": True, "handicap": True}),
    "similarity": (("lateral", "square"), {}),
    "nonnegative_similarity": (("rectified_lateral", "square"), {}),
    "settled": (("target", "square"), {}),
}


def named(name: str, u: Tensor, **fields: object) -> Rule:
    pair, own = NAMED[name]
    return rule_for(u, pair, **({"normalise": "mean"} | own | fields))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def every_path() -> list:
    """Of the large shapes one modulator each is quick enough for every run."""
    cases = product(NAMED, PATHS, MODULATORS)
    quick = {("small", m) for m in MODULATORS} | {("by-patch", "sample"), ("by-neuron", "position")}
    return [
        pytest.param(*case, marks=() if case[1:] in quick else pytest.mark.slow) for case in cases
    ]


@pytest.mark.parametrize(("name", "path", "modulator"), every_path())
def test_every_path_gives_every_rule(name, path, modulator):
    x, weight = layer(*PATHS[path], torch.float64)
    options = OPTIONS | dict(wta="hard", pre_triangle=name == "oja")
    u = reference.conv2d(x, weight, None, **options).u
    rule = named(name, u, modulator=modulator)
    expected = reference.conv2d(x, weight, None, rule=rule, **options)
    scale = max(1.0, float(expected.delta_w.abs().max()))
    own = ops.conv2d(x, weight, None, rule=rule, **options)
    assert_alike(own, expected, TOLERANCES["float64"], scale)


@pytest.mark.parametrize(
    ("batch", "inputs", "neurons"),
    [
        *((20, 500, 300), (900, 70, 300), (3, 1000, 257), (65, 40, 129)),
        pytest.param(9000, 100, 700, marks=pytest.mark.slow),
    ],
)
def test_a_triangle_by_correlations_and_block_by_block(batch, inputs, neurons):
    x, weight = layer((batch, inputs), (neurons, inputs), torch.float64)
    u = reference.linear(x, weight, None, **LINEAR).u
    for modulator in MODULATORS:
        rule = named("sanger", u, modulator=modulator, normalise="none")
        expected = reference.linear(x, weight, None, rule=rule, **LINEAR)
        scale = float(expected.delta_w.abs().max())
        own = ops.linear(x, weight, None, rule=rule, **LINEAR)
        assert_alike(own, expected, TOLERANCES["float64"], scale)


@pytest.mark.parametrize("name", ["sanger", "similarity", "nonnegative_similarity"])
@pytest.mark.parametrize("neurons", [6, 400])
@pytest.mark.usefixtures("two_threads")
def test_correlations_end_at_their_group(neurons, name):
    x, weight = layer((2, 30, 9, 9), (3 * neurons, 10, 3, 3), torch.float64)
    options = OPTIONS | dict(groups=3)
    u = reference.conv2d(x, weight, None, **options).u
    rule = named(name, u, groups=3, modulator="position")
    expected = reference.conv2d(x, weight, None, rule=rule, **options)
    own = ops.conv2d(x, weight, None, rule=rule, **options)
    assert_alike(own, expected, TOLERANCES["float64"], 10.0)


@pytest.mark.parametrize("name", ["sanger", "similarity"])
def test_correlations_of_several_panels_add_up(name):
    x, weight = layer((40, 64, 16, 16), (300, 64, 3, 3), torch.float64)
    u = reference.conv2d(x, weight, None, **OPTIONS).u
    rule = named(name, u)
    expected = reference.conv2d(x, weight, None, rule=rule, **OPTIONS)
    own = ops.conv2d(x, weight, None, rule=rule, **OPTIONS)
    assert_alike(own, expected, TOLERANCES["float64"], 10.0)


@pytest.mark.parametrize("switch", ["0", "1"])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("where", ["x", "modulator", "target", "threshold"])
@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_finite_goes_where_the_reference_lets_it(name, where, bad, switch, monkeypatch):
    monkeypatch.setenv(SWITCH, switch)
    x, weight = layer((3, 7, 9, 9), (20, 7, 3, 3), torch.float64)
    u = reference.conv2d(x, weight, None, **OPTIONS).u
    rule = named(name, u, modulator="position")
    if where == "x":
        x[1, 1, 2, 3] = bad
    elif getattr(rule, where) is None:
        return
    else:
        getattr(rule, where).view(-1)[7] = bad
    expected = reference.conv2d(x, weight, None, rule=rule, **OPTIONS)
    own = ops.conv2d(x, weight, None, rule=rule, **OPTIONS)
    assert torch.equal(own.u.isfinite(), expected.u.isfinite())
    assert torch.equal(own.delta_w.isfinite(), expected.delta_w.isfinite())


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("where", ["modulator", "target"])
@pytest.mark.parametrize("name", ["oja", "teacher", "delta_rule"])
@pytest.mark.parametrize("batch", [1, 3])
def test_what_is_not_finite_does_not_spread_by_winograd(batch, name, where, bad, monkeypatch):
    """Of weights that are too many for one tile of the batch; of one tile, and beside others."""
    monkeypatch.setenv(SWITCH, "1")
    x, weight = layer((batch, 128, 6, 6), (64, 128, 3, 3), torch.float64)
    u = reference.conv2d(x, weight, None, **OPTIONS).u
    rule = named(name, u, modulator="position")
    if getattr(rule, where) is None:
        return
    getattr(rule, where).view(-1)[7] = bad
    expected = reference.conv2d(x, weight, None, rule=rule, **OPTIONS)
    own = ops.conv2d(x, weight, None, rule=rule, **OPTIONS)
    assert torch.equal(own.delta_w.isfinite(), expected.delta_w.isfinite())


@pytest.mark.parametrize("pair", [("target", "none"), ("linear", "none")])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("normalise", ["none", "max"])
def test_weights_that_are_not_lost_do_not_spread(pair, bad, normalise):
    x, weight = layer((30, 12), (9, 12), torch.float64)
    weight[3, 4] = bad
    rule = rule_for(torch.zeros(30, 9), pair, normalise=normalise)
    expected = reference.linear(x, weight, None, rule=rule, **LINEAR)
    own = ops.linear(x, weight, None, rule=rule, **LINEAR)
    assert torch.equal(own.delta_w.isfinite(), expected.delta_w.isfinite())


@pytest.mark.parametrize("twins", [2, 97])
def test_identical_centres_tie_and_the_first_wins(twins):
    x = torch.randn(4, 5, 9, 9)
    weight = torch.randn(1, 5, 3, 3).expand(twins, 5, 3, 3).contiguous()
    u = torch.zeros(4, twins, 9, 9)
    rule = named("kmeans", u)._replace(counts=torch.zeros(twins))
    out = ops.conv2d(x, weight, None, rule=rule, **(OPTIONS | dict(wta="hard")))
    assert out.statistic.tolist() == [4.0 * 81] + [0.0] * (twins - 1)
    assert out.delta_w[1:].count_nonzero() == 0


def test_one_step_of_kmeans_is_the_mean_of_what_it_won():
    x = torch.tensor([[0.0, 1.0], [0.0, 3.0], [5.0, 5.0]])
    weight = torch.tensor([[0.0, 0.0], [4.0, 4.0]])  # the largest u is neuron 1's, everywhere
    rule = Rule("competition", "activity", True, "count", counts=torch.tensor([0.0, 3.0]))
    step = dict(lr=1.0, lr_power=0.0)
    u, _, wins = ops.linear_step_(x, weight, None, rule=rule, **step, **(LINEAR | dict(wta="hard")))
    assert u.tolist() == [[0.0, 4.0], [0.0, 12.0], [0.0, 40.0]]
    assert wins.tolist() == [2.0, 1.0]
    assert weight.tolist() == [[0.0, 2.0], [4.25, 4.25]]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("path", ["small", "by-patch", "by-neuron"])
def test_one_and_more_threads_give_the_same_bits(name, path):
    x, weight = layer(*PATHS[path])
    u = ops.conv2d(x, weight, None, **OPTIONS).u
    rule = named(name, u, modulator="sample", dtype=torch.float32)

    def compute() -> tuple[Tensor, ...]:
        out = ops.conv2d(x, weight, None, rule=rule, **OPTIONS)
        return tuple(t for t in out if t is not None)

    assert_same_bits(compute, (1, 2, 3))


@pytest.mark.parametrize("neurons", [300, 500])
def test_a_linear_triangle_has_the_same_bits_for_any_number_of_threads(neurons):
    x, weight = layer((40, 600), (neurons, 600))
    rule = named("sanger", torch.zeros(40, neurons), dtype=torch.float32)
    assert_same_bits(lambda: ops.linear(x, weight, None, rule=rule, **LINEAR)[:2], (1, 2, 3))


@settings(max_examples=100)
@given(conv_cases(), rules(), st.booleans(), st.sampled_from((0.0, 0.5)))
def test_a_step_is_along_the_direction(case: Case, given_: dict, unit_norm: bool, lr_power: float):
    x, weight, bias = case.tensors()
    u = ops.conv2d(x, weight, bias, **case.options).u
    rule = rule_for(u, groups=case.options["groups"], **given_)
    out = ops.conv2d(x, weight, bias, rule=rule, **case.options)
    rates = torch.linspace(0, 1, len(weight), dtype=torch.float64)
    step = dict(lr=0.3, lr_power=lr_power, neuron_rates=rates, unit_norm=unit_norm)
    expected = weight.clone()
    reference.step_(expected, out.delta_w, Rate(**step), case.options["lebesgue_p"])
    before = weight.clone()
    stepped = ops.conv2d_step_(x, weight, bias, rule=rule, **step, **case.options)
    assert torch.equal(stepped[0], out.u)
    assert torch.equal(weight[0], before[0])
    for own, wanted in zip(stepped[1:], out[2:], strict=True):
        assert (own is None) == (wanted is None)
        assert own is None or torch.equal(own, wanted)
    assert_close(weight, expected, TOLERANCES["float64"])


@settings(max_examples=100)
@given(conv_cases(), epilogues(), rules())
def test_a_block_is_a_layer_and_its_epilogue(case: Case, e: Epilogue, given_: dict):
    x, weight, bias = case.tensors()
    u = ops.conv2d(x, weight, bias, **case.options).u
    assume(fits(u, e))
    rule = rule_for(u, groups=case.options["groups"], **given_)
    out = ops.conv2d(x, weight, bias, rule=rule, **case.options)
    pooled, *rest = ops.block_update(x, weight, bias, e, rule=rule, **case.options)
    assert_close(pooled, epilogue_of(out.u, e), TOLERANCES["float64"])
    for own, wanted in zip(rest, out[1:], strict=True):
        assert (own is None) == (wanted is None)
        assert own is None or torch.equal(own, wanted)
    step = dict(lr=0.3, lr_power=0.0)
    twin = weight.clone()
    ops.conv2d_step_(x, twin, bias, rule=rule, **step, **case.options)
    ops.block_step_(x, weight, bias, e, rule=rule, **step, **case.options)
    assert torch.equal(weight, twin)


@pytest.mark.parametrize("name", NAMED)
def test_a_block_of_large_maps_is_a_layer(name):
    x, weight = layer((2, 16, 60, 61), (260, 16, 4, 4))
    e = Epilogue(True, 0.5, "max", (3, 2), (2, 3), (1, 0))
    options = OPTIONS | dict(padding=(2, 2), pre_triangle=name == "oja")
    u = ops.conv2d(x, weight, None, **options).u
    rule = named(name, u, modulator="sample", dtype=torch.float32)
    out = ops.conv2d(x, weight, None, rule=rule, **options)
    pooled, delta_w, *_ = ops.block_update(x, weight, None, e, rule=rule, **options)
    assert_close(pooled, epilogue_of(u, e), TOLERANCES["float32_u"])
    assert_close(delta_w, out.delta_w, TOLERANCES["float32_delta_w"])  # other tiles


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMED)
def test_half_precision_is_summed_in_float32(name, dtype):
    x, weight = layer((2, 8, 12, 12), (48, 8, 3, 3), dtype)
    u = torch.zeros(2, 48, 12, 12)
    rule = named(name, u, modulator="position", dtype=torch.float32)
    out = ops.conv2d(x, weight, None, rule=rule, **OPTIONS)
    expected = ops.conv2d(x.float(), weight.float(), None, rule=rule, **OPTIONS)
    assert torch.equal(out.u, expected.u.to(dtype))
    assert torch.equal(out.delta_w, expected.delta_w.to(dtype))
    assert (out.statistic is None) == (expected.statistic is None)
    assert out.statistic is None or torch.equal(out.statistic, expected.statistic)


@pytest.mark.parametrize("name", NAMED)
def test_layouts_give_the_same_bits(name):
    x, weight = layer((2, 18, 9, 11), (30, 18, 3, 3))
    rule = named(name, torch.zeros(2, 30, 9, 11), dtype=torch.float32)
    expected = ops.conv2d(x, weight, None, rule=rule, **OPTIONS)
    for layout, view in layouts(x):
        assert torch.equal(
            ops.conv2d(view, weight, None, rule=rule, **OPTIONS).delta_w, expected.delta_w
        ), layout
    if rule.target is None:
        return
    for layout, target in layouts(rule.target):
        own = ops.conv2d(x, weight, None, rule=rule._replace(target=target), **OPTIONS)
        assert torch.equal(own.delta_w, expected.delta_w), layout


@pytest.mark.parametrize("spoilt", ["nothing", "weight", "bias"])
@pytest.mark.parametrize("name", NAMED)
def test_an_empty_batch_changes_nothing(name, spoilt):
    """Nor does it of a weight or a bias that is NaN or infinite."""
    x, weight = layer((0, 3, 6, 6), (10, 3, 3, 3))
    rule = named(name, torch.zeros(0, 10, 6, 6), dtype=torch.float32)
    bias = None if spoilt == "nothing" else torch.ones(10)
    flat, flat_bias = torch.ones(600, 700), None if bias is None else torch.ones(600)
    bad = {"weight": (weight, flat), "bias": (bias, flat_bias)}.get(spoilt, ())
    for tensor in bad:
        tensor.view(-1)[:2] = torch.tensor([float("nan"), float("inf")])
    for backend in (ops, reference):
        out = backend.conv2d(x, weight, bias, rule=rule, **OPTIONS)
        assert out.delta_w.count_nonzero() == 0
        assert out.delta_b is None or out.delta_b.count_nonzero() == 0
        assert out.statistic is None or out.statistic.count_nonzero() == 0
    rule = named(name, torch.zeros(0, 600), dtype=torch.float32)
    for backend in (ops, reference):
        out = backend.linear(torch.ones(0, 700), flat, flat_bias, rule=rule, **LINEAR)
        assert out.delta_w.count_nonzero() == 0


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rule", RULES)
def test_the_public_functions_run_natively(rule, groups):
    x, weight = layer((4, 6, 9, 8), (12, 6 // groups, 3, 3), torch.float64)
    wanted = needs(rule, (4, 12, 7, 6), groups, torch.Generator().manual_seed(0))
    given_ = OWN.get(rule, {}) | wanted | dict(rule=rule, groups=groups)
    modulator = torch.linspace(-1, 2, 4)
    e = Epilogue(True, 0.7, "max", (2, 2), (2, 2))
    found = {}
    for backend in ("cpp", "reference"):
        call = dict(given_, modulator=modulator, backend=backend)
        found[backend] = [
            hebbian_conv2d(x, weight, **call),
            hebbian_block(x, weight, e, update="delta_w", **call),
        ]
        stepped = weight.clone()
        hebbian_conv2d_step_(x, stepped, lr=0.1, unit_norm=True, **call)
        assert not torch.equal(stepped, weight)
        found[backend].append((stepped,))
    for own, expected in zip(*found.values(), strict=True):
        for found_, wanted_ in zip(own, expected, strict=True):
            assert (found_ is None) == (wanted_ is None)
            if wanted_ is not None:
                assert_close(found_, wanted_, TOLERANCES["float64"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(activity="target"), "needs a target"),
        (dict(activity="target", target=torch.zeros(2, 7, 8, 8)), "target must be"),
        (dict(activity="threshold", threshold=torch.zeros(7)), r"threshold must be \[8\]"),
        (dict(modulator=torch.zeros(3, 1)), "modulator must be"),
        (dict(normalise="count", gain="activity"), "needs counts"),
        (dict(activity="hebb"), "activity must be one of"),
        (dict(gain="square"), "gain square"),
        (dict(gain="lower"), "gain lower"),
        (dict(activity="lateral"), "needs lateral"),
        (dict(activity="lateral", lateral=torch.zeros(8, 7)), r"lateral must be \[8, 8\]"),
    ],
)
def test_the_operator_itself_refuses_what_would_read_out_of_bounds(fields, message):
    x, weight = layer((2, 3, 8, 8), (8, 3, 3, 3))
    with pytest.raises(RuntimeError, match=message):
        ops.conv2d(x, weight, None, rule=Rule(**fields), **OPTIONS)
