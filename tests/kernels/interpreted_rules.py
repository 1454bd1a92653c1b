"""Every rule in Triton's interpreter against the definition. Run by ``test_interpreter``."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast.kernels import configs, launch, tables
from softhebb_fast.options import Rule
from tests.by_keyword import kernels, reference
from tests.kernels import interpreter_fix  # noqa: F401
from tests.kernels.cases import CASES, POOLS, Case
from tests.kernels.in_turn import in_turn
from tests.kernels.rules import LAYERS, RULES, assert_as_defined, exact, named, rule_of
from tests.tolerances import assert_close, tolerance

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
SMALL = configs.Config(16, 16, 16, 4, 1)


@pytest.fixture(autouse=True)
def _unwritten_shows():
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _tiles_that_suit_small_layers(monkeypatch):
    tile = configs.Config(32, 32, 32, 4, 1)
    monkeypatch.setattr(configs, "TABLE", {key: ((tile, 0, tables.ALL),) for key in configs.TABLE})
    monkeypatch.setattr(configs, "ONE_TAP", dict.fromkeys(configs.ONE_TAP, tile))
    monkeypatch.setattr(configs, "IN_TILE", dict.fromkeys(configs.IN_TILE, tile))
    monkeypatch.setattr(configs, "SUMMED", {})
    tiles = {key: c._replace(BM=32) for key, c in configs.ONE_PASS.items()}
    monkeypatch.setattr(configs, "ONE_PASS", tiles)
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32x3")  # in float32, in the interpreter


@pytest.fixture
def apart(monkeypatch):
    monkeypatch.setattr(configs, "one_pass", lambda *_: None)


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels; those that wait for each other run in turn."""
    names, straight = [], launch.launch

    def run(kernel, grid, config, **arguments):
        names.append(kernel.__name__.removesuffix("_kernel"))
        prep = arguments.get("prep")
        counters = getattr(prep, "row_counters", None) if names[-1] == "forward" else None
        in_turn(counters, lambda: straight(kernel, grid, config, **arguments))

    monkeypatch.setattr(configs, "processors", lambda device: 132)
    monkeypatch.setattr(launch, "launch", run)
    return names


def check(name: str, case: Case, dtype: torch.dtype = F32) -> None:
    case, rule = named(name, case)
    x, w, bias = case.tensors(dtype)
    inputs = [None if t is None else t.double() for t in (x, w, bias)]
    want = reference.conv2d(*inputs, exact(rule), **case.conv)
    got = kernels.conv2d(x, w, bias, rule, **case.conv)
    assert (got.u.dtype, got.delta_w.dtype) == (x.dtype, w.dtype)
    assert_as_defined(got, want, dtype)
    assert got.statistic is None or got.statistic.dtype == torch.float32


@pytest.mark.parametrize("path", ["apart", "one_pass"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule(name, path, monkeypatch):
    if path == "apart":
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    check(name, LAYERS["odd"])


@pytest.mark.parametrize("layer", [n for n in LAYERS if n != "odd"])
@pytest.mark.parametrize("name", ["instar", "kmeans", "oja", "sanger", "bcm", "delta_rule"])
def test_every_kind_of_layer(name, layer):
    check(name, LAYERS[layer])


@pytest.mark.parametrize("dtype", [F16, BF16])
@pytest.mark.parametrize("name", ["bcm", "kmeans", "oja", "instar-modulated", "similarity"])
@pytest.mark.parametrize("layer", ["odd", "channels_last"])
def test_16_bits(name, dtype, layer):
    check(name, LAYERS[layer], dtype)


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("precision", ["ieee", "tf32x3"])
@pytest.mark.parametrize("name", ["kmeans", "oja", "oja-modulated", "bcm-product", "delta_rule"])
def test_many_small_tiles_and_splits(name, precision, launched, monkeypatch):
    """No launch more than SoftHebb has."""
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)
    monkeypatch.setattr(configs, "forward", lambda *_: SMALL)
    monkeypatch.setattr(configs, "plasticity", lambda *_: SMALL)
    monkeypatch.setattr(configs, "splits", lambda G, M, config: 2)
    check(name, Case((2, 16, 6, 3), (39, 16, 1, 2), {}, True, "channels_last"))
    assert launched == ["prepare", "forward", "plasticity", "apply"]


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("name", ["bcm", "delta_rule", "instar-handicap"])
def test_a_tile_that_is_read_back(name, launched, monkeypatch):
    monkeypatch.setattr(configs, "u_in_registers", lambda *_: False)
    monkeypatch.setattr(configs, "forward", lambda *_: SMALL._replace(BN=64))
    check(name, Case((1, 48, 5, 3), (140, 24, 1, 2), {"groups": 2}, True, "channels_last"))
    assert launched == ["prepare", "forward", "plasticity", "apply"]


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("name", ["kmeans", "oja", "bcm", "similarity"])
def test_y_made_later(name):
    """By a kernel of its own, as measured configurations may ask for."""
    with configs.chosen({"activity": configs.Config(32, 32, 0, 4, 1)}):
        check(name, LAYERS["tiles"])


@pytest.mark.parametrize("wta", ["hard_anti", "soft"])
@pytest.mark.parametrize("path", ["apart", "one_pass"])
def test_other_competitions(wta, path, monkeypatch):
    """Distances compete, ranks and softmax included, and a modulator stands where y is 0."""
    if path == "apart":
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    case = Case(options={"wta": wta})
    modulator = rule_of("softhebb-modulated", case).modulator
    threshold = torch.rand(case.w[0])
    rule = Rule(gain="activity", nearest=True, modulator=modulator, threshold=threshold)
    x, w, _ = case.tensors(F32)
    want = reference.conv2d(x.double(), w.double(), None, exact(rule), **case.conv)
    got = kernels.conv2d(x, w, None, rule, **case.conv)
    assert_close(got.delta_w, want.delta_w, tolerance(F32, "delta_w"))
    assert_close(got.statistic, want.statistic, tolerance(F32, "delta_w"))


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("size", [1e-30, 1e-12, 3e3, 1e9])
@pytest.mark.parametrize("name", ["oja", "oja-modulated", "bcm", "teacher", "softhebb-modulated"])
def test_an_activity_of_any_size(name, size):
    """Of float16 factors; a neuron's own largest value decides its scale."""
    case, rule = named(name, CASES["channels_last"])
    x, w, _ = case.tensors(F32)
    if name != "softhebb-modulated":  # whose softmax would leave most neurons nothing
        w = w * torch.logspace(-4, 4, len(w))[:, None, None, None]
    if name == "oja":
        w = w * size**0.5
    elif name == "bcm":
        w, rule = w * size**0.25, rule._replace(threshold=rule.threshold * size**0.25)
    else:
        rule = scaled(rule, size)
    rule = rule._replace(gain="none", normalise="none", decay=0.0)
    want = reference.conv2d(x.double(), w.double(), None, exact(rule), **case.conv).delta_w
    got = kernels.conv2d(x, w, None, rule, **case.conv).delta_w
    scale = want.flatten(1).abs().amax(dim=1)[:, None, None, None]
    assert_close(got / scale, want / scale, tolerance(F32, "delta_w"))


@pytest.mark.parametrize("size", [1e-12, 3e9])
@pytest.mark.parametrize("name", ["oja-modulated", "bcm-product", "teacher", "softhebb-modulated"])
def test_an_activity_beyond_float16_of_a_layer_in_float16(name, size):
    case, rule = named(name, LAYERS["odd"])
    x, w, _ = case.tensors(F16)
    if name == "bcm-product":
        w = w * 100  # u reaches 2,000
    rule = scaled(rule, size)._replace(normalise="max")
    want = reference.conv2d(x.double(), w.double(), None, exact(rule), **case.conv)
    got = kernels.conv2d(x, w, None, rule, **case.conv)
    assert_close(got.delta_w, want.delta_w, 2 * tolerance(F16, "delta_w"))


def scaled(rule: Rule, size: float) -> Rule:
    name = "modulator" if rule.target is None else "target"
    return rule._replace(**{name: getattr(rule, name) * size})


def rates(case: Case) -> dict:
    neuron_rates = torch.arange(case.w[0]) % 3 * 0.4
    return {"lr": 0.2, "lr_power": 0.5, "neuron_rates": neuron_rates, "unit_norm": True}


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("layer", ["odd", "channels_last", "groups", "lebesgue", "tiles"])
@pytest.mark.parametrize("name", ["instar", "kmeans", "sanger", "oja"])
def test_a_step_to_unit_norm_at_rates_of_ones_own(name, layer, dtype, monkeypatch):
    """Neurons of rate 0 stay what they are, to the bit, and so does a filter of 0."""
    monkeypatch.setattr(configs, "apply", lambda G: configs.Config(0, 4, 16, 4, 1))
    case, rule = named(name, LAYERS[layer])
    x, w, _ = case.tensors(dtype)
    before = w.clone()
    want = w.double().contiguous()
    step = rates(case)
    wide = step | {"neuron_rates": step["neuron_rates"].double()}
    reference.conv2d_step_(x.double(), want, None, exact(rule), **wide, **case.conv)
    kernels.conv2d_step_(x, w, None, rule, **step, **case.conv)
    assert_close(w, want, tolerance(dtype, "delta_w") * (1 if dtype == F32 else 2))
    still = step["neuron_rates"] == 0
    assert torch.equal(w[still], before[still])


def test_a_filter_of_zeros_has_no_norm():
    x, w, _ = Case().tensors(F32)
    w.zero_()
    kernels.conv2d_step_(x, w, None, Rule("linear"), lr=0.1, unit_norm=True, **Case().conv)
    assert not w.any()


@pytest.mark.parametrize("name", ["oja-modulated", "teacher", "bcm", "kmeans", "sanger-modulated"])
def test_linear(name):
    case, rule = named(name, Case((37, 45), (19, 45)))
    torch.manual_seed(0)
    x, w = torch.randn(37, 45), torch.randn(19, 45) / 7
    options = {"wta": case.options["wta"]}
    want = reference.linear(x.double(), w.double(), None, exact(rule), **options)
    got = kernels.linear(x, w, None, rule, **options)
    assert_close(got.u, want.u, tolerance(F32, "u"))
    assert_close(got.delta_w, want.delta_w, tolerance(F32, "delta_w"))
    stepped = w.double()
    reference.linear_step_(x.double(), stepped, None, exact(rule), lr=0.1, **options)
    kernels.linear_step_(x, w, None, rule, lr=0.1, **options)
    assert_close(w, stepped, tolerance(F32, "delta_w"))


@pytest.mark.parametrize("path", ["apart", "one_pass"])
@pytest.mark.parametrize("name", ["bcm", "kmeans", "sanger", "teacher"])
def test_blocks(name, path, monkeypatch):
    if path == "apart":
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    case, rule = named(name, Case(bias=True))
    x, w, bias = case.tensors(F32)
    pool = POOLS["max-2-2-0"]
    inputs = [t.double() for t in (x, w, bias)]
    want = reference.block_update(*inputs, pool, exact(rule), **case.conv)
    got = kernels.block_update(x, w, bias, pool, rule, **case.conv)
    assert_close(got.u, want.u, tolerance(F32, "u"))
    assert_close(got.delta_w, want.delta_w, tolerance(F32, "delta_w"))
    out, _, statistic = kernels.block_step_(x, w, bias, pool, rule, lr=0.1, **case.conv)
    assert torch.equal(out, got.u)
    assert statistic is None or torch.equal(statistic, got.statistic)


@pytest.mark.parametrize("path", ["apart", "one_pass"])
def test_exact_ties_go_to_the_nearest_neuron_of_the_lowest_index(path, monkeypatch):
    if path == "apart":
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    monkeypatch.setattr(configs, "forward", lambda *_: SMALL)
    case, rule = named("kmeans", LAYERS["odd"])
    x, w, _ = case.tensors(F32)
    w = torch.cat([w[:1].repeat(20, 1, 1, 1), w[:1] + 9])
    statistic = kernels.conv2d(x, w, None, rule, **case.conv).statistic
    positions = float(x.shape[0] * x.shape[2] * x.shape[3])
    assert statistic.tolist() == [positions] + [0.0] * 20


@pytest.mark.parametrize("path", ["apart", "one_pass"])
@pytest.mark.parametrize("where", ["x", "modulator", "target"])
def test_nan_shows_where_it_is_defined_to(where, path, monkeypatch):
    if path == "apart":
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    name = "similarity-modulated" if where != "x" else "bcm"
    case, rule = named(name, Case(options={"padding": (0, 0)}))
    x, w, _ = case.tensors(F32)
    {"x": x, "modulator": rule.modulator, "target": rule.target}[where][0, 0, 2, 2] = float("nan")
    rule = rule._replace(normalise="none")
    want = reference.conv2d(x.double(), w.double(), None, exact(rule), **case.conv).delta_w
    got = kernels.conv2d(x, w, None, rule, **case.conv).delta_w
    assert want.isnan().any()
    assert torch.equal(got.isnan(), want.isnan())


@pytest.mark.parametrize("name", ["oja", "kmeans", "sanger", "bcm"])
def test_an_empty_batch_moves_nothing_but_to_unit_norm(name):
    case, rule = named(name, Case((0, 3, 7, 6)))
    w = Case().tensors(F32)[1]
    want = w.double()
    x = torch.empty(0, 3, 7, 6)
    spoilt = w.clone()
    spoilt[0, 0, 0, 0] = float("nan")
    assert not kernels.conv2d(x, spoilt, None, rule, **case.conv).delta_w.any()
    got = kernels.conv2d(x, w, None, rule, **case.conv)
    assert not got.delta_w.any()
    assert got.statistic is None or not got.statistic.any()
    reference.conv2d_step_(x.double(), want, None, exact(rule), lr=0.1, unit_norm=True, **case.conv)
    kernels.conv2d_step_(x, w, None, rule, lr=0.1, unit_norm=True, **case.conv)
    assert_close(w, want, tolerance(F32, "delta_w"))


@pytest.mark.parametrize("path", ["apart", "one_pass"])
def test_neurons_of_minus_infinity_have_ranks_of_their_own(path, monkeypatch):
    if path == "apart":
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    monkeypatch.setattr(configs, "forward", lambda *_: SMALL)
    x = torch.full((1, 1, 1, 1), float("inf"))
    w = torch.full((20, 1, 1, 1), -1.0)
    w[:2, 0, 0, 0] = torch.tensor([-2.0, 1.0])
    for rank, loser in {1: 1, 2: 0, 3: 2, 20: 19}.items():
        options = {**Case().conv, "padding": (0, 0), "wta": "hard_anti", "rank": rank}
        given = {"padding_mode": "zeros", "delta": 3.0}
        statistic = kernels.conv2d(x, w, None, Rule.of("instar"), **options | given).statistic
        want = torch.zeros(20)
        want[1] = 1.0
        want[loser] -= 3.0
        assert torch.equal(statistic, want), rank
