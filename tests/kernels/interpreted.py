"""The kernels in Triton's interpreter against the definition. Run by ``test_interpreter``."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu.offline import Launch
from softhebb_fast.kernels import configs, launch, tables
from softhebb_fast.kinds import WTA
from tests.by_keyword import kernels, reference
from tests.kernels import interpreter_fix  # noqa: F401
from tests.kernels.cases import CASES, CONV, LINEAR, Case
from tests.kernels.in_turn import in_turn
from tests.tolerances import (
    TOLERANCES,
    assert_close,
    assert_outputs_close,
    boundary_band,
    tolerance,
)

TF32 = 2e-3  # both operands rounded to 10 bits: 1e-3, of some hundred products of random sign
SMALL = configs.Config(16, 16, 16, 4, 1)


@pytest.fixture(autouse=True)
def _unwritten_shows():
    """Deterministic mode fills new memory with NaN, so that what a kernel leaves out shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def delta_w_tolerance(dtype):
    """In 16 bits y is rounded as an operand of the second product."""
    return tolerance(dtype, "delta_w") * (1 if dtype == torch.float32 else 2)


def expected(x, w, bias, options):
    exact = [None if t is None else t.double() for t in (x, w, bias)]
    return reference.conv2d(*exact, **options)


@pytest.fixture(autouse=True)
def _tiles_that_suit_small_layers(monkeypatch):
    tile = configs.Config(32, 32, 32, 4, 1)
    monkeypatch.setattr(configs, "TABLE", {key: ((tile, 0, tables.ALL),) for key in configs.TABLE})
    monkeypatch.setattr(configs, "ONE_TAP", dict.fromkeys(configs.ONE_TAP, tile))
    tiles = {key: c._replace(BM=32) for key, c in configs.ONE_PASS.items()}
    monkeypatch.setattr(configs, "ONE_PASS", tiles)


@pytest.fixture
def apart(monkeypatch):
    """Two kernels where one could do the work."""
    monkeypatch.setattr(configs, "one_pass", lambda *_: None)


@pytest.fixture
def fuse_activity(monkeypatch):
    """Forward makes y of its tiles, which wait for each other's statistics."""
    monkeypatch.setattr(configs, "processors", lambda device: 132)
    waiting = []

    def launched(*to, **arguments):
        row_counters = Launch(*to, arguments).named.get("row_counters")
        waiting.append(row_counters is not None)
        in_turn(row_counters, lambda: straight(*to, **arguments))

    straight = launch.launch
    monkeypatch.setattr(launch, "launch", launched)
    yield
    assert any(waiting)


@pytest.fixture
def fuse_activity_where_it_can(monkeypatch):
    """As ``fuse_activity``, also where no program waits."""
    monkeypatch.setattr(configs, "processors", lambda device: 132)
    straight = launch.launch

    def launched(*to, **arguments):
        row_counters = Launch(*to, arguments).named.get("row_counters")
        in_turn(row_counters, lambda: straight(*to, **arguments))

    monkeypatch.setattr(launch, "launch", launched)


APART = [(name, torch.float32) for name in CASES] + [
    ("hard_anti", torch.float16),
    ("channels_last", torch.float16),
    ("lebesgue", torch.float16),
    ("tiles", torch.bfloat16),
    ("pre_triangle", torch.bfloat16),
]
ONE_PASS = [(name, torch.float32) for name, case in CASES.items() if case.fits_one_pass] + [
    ("hard_anti", torch.float16),
    ("bias-soft", torch.bfloat16),
]


@pytest.mark.parametrize(
    ("path", "name", "dtype"),
    [("apart", *case) for case in APART] + [("one_pass", *case) for case in ONE_PASS],
)
def test_conv2d(path, name, dtype, monkeypatch):
    if path == "apart":
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    elif path == "one_pass":  # in three tf32 terms, which the interpreter takes in float32
        monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32x3")
    case = CASES[name]
    x, w, bias = case.tensors(dtype)
    want = expected(x, w, bias, case.conv)
    got = kernels.conv2d(x, w, bias, **case.conv)
    assert (got.u.dtype, got.delta_w.dtype) == (x.dtype, w.dtype)
    assert_close(got.u, want.u, tolerance(dtype, "u"))
    assert_close(got.delta_w, want.delta_w, delta_w_tolerance(dtype))
    assert (got.delta_b is None) == (want.delta_b is None)
    if bias is not None and want.delta_b is not None:
        assert_close(got.delta_b, want.delta_b, delta_w_tolerance(dtype))


@pytest.mark.parametrize("layout", ["sliced", "expanded"])
def test_a_bias_may_be_any_view(layout):
    case = CASES["bias-soft"]
    x, w, bias = case.tensors(torch.float32)
    bias = torch.stack([bias, bias + 1], dim=1)[:, 0] if layout == "sliced" else bias[:1]
    got = kernels.conv2d(x, w, bias.expand(len(w)), **case.conv)
    assert_outputs_close(got, expected(x, w, bias.expand(len(w)), case.conv))


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("precision", ["ieee", "tf32x3"])  # factors whole, or in two terms
def test_many_small_tiles_and_splits(wta, layout, precision, monkeypatch):
    """Partial statistics of three tiles, two ranges of positions, several steps a loop."""
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)
    monkeypatch.setattr(configs, "forward", lambda *_: SMALL)
    monkeypatch.setattr(configs, "plasticity", lambda *_: SMALL)
    monkeypatch.setattr(configs, "splits", lambda G, M, config: 2)
    monkeypatch.setattr(configs, "activity", lambda G: SMALL)
    case = Case((2, 48, 6, 3), (39, 48, 1, 2), {"wta": wta}, True, layout)
    x, w, bias = case.tensors(torch.float32)
    got = kernels.conv2d(x, w, bias, **case.conv)
    assert_outputs_close(got, expected(x, w, bias, case.conv))


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("precision", ["ieee", "tf32x3"])
@pytest.mark.parametrize(("whole", "programs"), [(11, 2), (1, 4)])
def test_the_last_tiles_are_shared(wta, layout, precision, whole, programs, monkeypatch):
    """Of 18 tiles those after ``whole``, by programs one of which may find no positions left."""
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)
    monkeypatch.setattr(configs, "plasticity", lambda *_: SMALL)
    monkeypatch.setattr(configs, "last_wave", lambda G, M, config: (whole, programs))
    case = Case((2, 48, 6, 3), (39, 48, 1, 2), {"wta": wta}, True, layout)
    x, w, bias = case.tensors(torch.float32)
    got = kernels.conv2d(x, w, bias, **case.conv)
    assert_outputs_close(got, expected(x, w, bias, case.conv))


@pytest.mark.usefixtures("apart", "fuse_activity")
@pytest.mark.parametrize(
    ("wta", "numbers"),
    [("soft", "ieee"), ("hard", "ieee"), ("soft_anti", "tf32x3"), ("soft_anti", "bfloat16")],
)
@pytest.mark.parametrize("u_in_registers", [True, False])
def test_y_in_forward(wta, numbers, u_in_registers, monkeypatch):
    """Of two groups, of several tiles each, whose positions are no multiple of the tile's."""
    dtype = torch.bfloat16 if numbers == "bfloat16" else torch.float32
    precision = "ieee" if numbers == "bfloat16" else numbers
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)
    tile = configs.Config(16, 16 if u_in_registers else 64, 16, 4, 1)
    monkeypatch.setattr(configs, "forward", lambda *_: tile)
    monkeypatch.setattr(configs, "u_in_registers", lambda *_: u_in_registers)
    monkeypatch.setattr(configs, "splits", lambda G, M, config: 2)
    w = (66 if u_in_registers else 140, 24, 1, 2)
    case = Case((1, 48, 5, 3), w, {"wta": wta, "groups": 2}, True, "channels_last")
    x, w, bias = case.tensors(dtype)
    got = kernels.conv2d(x, w, bias, **case.conv)
    want = expected(x, w, bias, case.conv)
    assert_close(got.u, want.u, tolerance(dtype, "u"))
    assert_close(got.delta_w, want.delta_w, delta_w_tolerance(dtype))
    if wta != "hard":
        assert_close(got.delta_b, want.delta_b, delta_w_tolerance(dtype))


BOUNDED = {  # of x of some units; 1e30 leaves nothing of it but its place in a float16
    "two groups": Case((1, 48, 5, 3), (66, 24, 1, 2), {"groups": 2}, True, "channels_last"),
    "planes": Case((2, 3, 7, 6), (40, 3, 3, 3), {"wta": "soft"}, True),
    "linear filters": Case((2, 16, 5, 5), (35, 16, 3, 3), {"wta": "hard"}, False, "channels_last"),
    "ranked": Case((2, 3, 7, 6), (20, 3, 3, 3), {"wta": "hard_anti"}),
    "pre_triangle": Case((2, 3, 7, 6), (20, 3, 3, 3), {"wta": "soft", "pre_triangle": True}),
}


@pytest.mark.usefixtures("apart", "fuse_activity_where_it_can")
@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize(
    ("precision", "halves"), [("tf32x3", False), ("tf32", False), ("tf32", True)]
)
def test_a_bound_of_x_saves_the_search_for_its_largest(name, precision, halves, monkeypatch):
    """x in 16-bit terms from the start; with ``halves`` the filters, too."""
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", precision)
    monkeypatch.setattr(configs, "halves", lambda *_: halves)
    case = BOUNDED[name]
    x, w, bias = case.tensors(torch.float32)
    w *= torch.logspace(-9, 9, len(w))[:, None, None, None] if halves else 1
    x = x.bfloat16().float() if precision == "tf32" else x
    w = w.bfloat16().float() if precision == "tf32" else w
    options = case.conv | {"x_bound": 1.01 * float(x.abs().max())}
    want = expected(x, w, bias, options)
    got = kernels.conv2d(x, w, bias, **options)
    rough = precision == "tf32"
    assert_close(got.u, want.u, TOLERANCES["float32_u"])
    assert_close(got.delta_w, want.delta_w, TF32 if rough else TOLERANCES["float32_delta_w"])
    loose = kernels.conv2d(x, w, bias, **options | {"x_bound": 300.0})
    assert_close(loose.delta_w, want.delta_w, TF32 if rough else TOLERANCES["float32_delta_w"])


@pytest.mark.usefixtures("apart", "fuse_activity")
def test_y_is_the_same_in_forward_or_later(monkeypatch):
    monkeypatch.setattr(configs, "forward", lambda *_: SMALL)
    x, w, bias = CASES["tiles"].tensors(torch.float32)
    fuse_activity = kernels.conv2d(x, w, bias, **CASES["tiles"].conv)
    later = {"activity": configs.Config(32, 32, 0, 4, 1)}
    with configs.chosen(later):
        assert_outputs_close(kernels.conv2d(x, w, bias, **CASES["tiles"].conv), fuse_activity)


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("wta", ["soft", "hard"])
def test_five_tiles(wta, monkeypatch):
    """No power of two, the last is part empty, and the winner may be anywhere."""
    monkeypatch.setattr(configs, "forward", lambda *_: SMALL)
    case = CASES["soft_anti"]._replace(w=(70, 3, 3, 3), options={"wta": wta})
    x, w, _ = case.tensors(torch.float32)
    assert_outputs_close(kernels.conv2d(x, w, None, **case.conv), expected(x, w, None, case.conv))


def test_tf32(monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32")
    case = CASES["channels_last"]
    x, w, _ = case.tensors(torch.float32)
    got = kernels.conv2d(x, w, None, **case.conv)
    want = expected(x, w, None, case.conv)
    error = (got.u - want.u).abs().max()
    assert 1e-5 < error < TF32 * want.u.abs().max()


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e5, 1e30])
def test_float16_factors_of_any_size(size, monkeypatch):
    """Weights of the opposite size keep u, and so y, what it was."""
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32x3")
    case = CASES["channels_last"]._replace(options={"wta": "hard_anti", "delta": 1e4})
    x, w, _ = case.tensors(torch.float32)
    x = x * size
    w = w / size if size > 1e-38 else torch.zeros_like(w)
    got = kernels.conv2d(x, w, None, **case.conv)
    assert_close(got.delta_w, expected(x, w, None, case.conv).delta_w, delta_w_tolerance(x.dtype))


@pytest.mark.usefixtures("apart")
def test_memory_between_the_values_of_x_does_not_matter(monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32x3")
    case = CASES["soft_anti"]
    x, w, _ = case.tensors(torch.float32)
    room = torch.full((*x.shape[:-1], 2 * x.shape[-1]), 1e30)
    room[..., : x.shape[-1]] = x
    got = kernels.conv2d(room[..., : x.shape[-1]], w, None, **case.conv)
    assert_outputs_close(got, kernels.conv2d(x, w, None, **case.conv))
    assert torch.equal(got.delta_w, kernels.conv2d(x, w, None, **case.conv).delta_w)


@pytest.mark.usefixtures("apart")
def test_what_is_not_finite_does_not_scale_the_rest(monkeypatch):
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32x3")
    case = CASES["soft_anti"]._replace(options={"wta": "hard", "padding_mode": "zeros"})
    x, w, _ = case.tensors(torch.float32)
    x[0, 0, 0, 0] = float("inf")
    got = kernels.conv2d_step_(x, w.clone(), None, lr=0.1, lr_power=0.5, **case.conv)
    want = expected(x, w, None, case.conv)
    finite = want.u.isfinite()
    assert not finite.all()
    assert_close(got[0][finite], want.u[finite], tolerance(x.dtype, "u"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", ["soft_anti", "bias", "groups", "lebesgue", "pre_triangle"])
def test_step_is_update_then_hebbian_step(name, layout, dtype):
    case = CASES[name]._replace(layout=layout)
    x, w, bias = case.tensors(dtype)
    want = expected(x, w, bias, case.conv)
    stepped = w.double().contiguous()
    reference.hebbian_step_(stepped, want.delta_w, 0.3, 0.5, case.conv["lebesgue_p"])
    rate = {"lr": 0.3}
    if layout == "channels_last":
        rate = {"lr": 0.0, "lr_tensor": torch.tensor(0.3, dtype=torch.float64)}
    u, delta_b, _ = kernels.conv2d_step_(x, w, bias, **rate, lr_power=0.5, **case.conv)
    assert_outputs_close(
        reference.SoftHebbOutput(u, w, delta_b), want._replace(delta_w=stepped), dtype
    )


@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("rank", [1, 3])
def test_linear(wta, rank):
    torch.manual_seed(0)
    x, w, bias = torch.randn(37, 85), torch.randn(19, 85) / 9, torch.randn(19) / 8
    options = LINEAR | {"wta": wta, "rank": rank}
    got = kernels.linear(x, w, bias, **options)
    assert_outputs_close(
        got, reference.linear(x.double(), w.double(), bias.double(), **options), x.dtype
    )


def test_linear_step_of_a_sliced_weight():
    torch.manual_seed(0)
    x, whole = torch.randn(37, 45), torch.randn(19, 90) / 6
    w = whole[:, ::2]
    want = reference.linear(x.double(), w.double(), None, **LINEAR)
    stepped = w.double().clone()
    reference.hebbian_step_(stepped, want.delta_w, 0.3)
    between = whole[:, 1::2].clone()
    u, *_ = kernels.linear_step_(x, w, None, lr=0.3, lr_power=0.5, **LINEAR)
    assert_close(u, want.u, TOLERANCES["float32_u"])
    assert_close(w, stepped, TOLERANCES["float32_delta_w"])
    assert torch.equal(whole[:, 1::2], between)


@pytest.mark.usefixtures("apart")
def test_exact_ties_go_to_the_first_neuron_across_tiles(monkeypatch):
    monkeypatch.setattr(configs, "forward", lambda *_: SMALL)
    x, w, _ = CASES["soft_anti"].tensors(torch.float32)
    w = w[:1].repeat(40, 1, 1, 1)
    options = CASES["soft_anti"].conv
    delta_w = kernels.conv2d(x, w, None, **options).delta_w
    assert_close(delta_w, expected(x, w, None, options).delta_w, TOLERANCES["float32_delta_w"])
    assert torch.equal(delta_w[1:], delta_w[1:2].expand_as(delta_w[1:]))
    assert not torch.equal(delta_w[0], delta_w[1])


@pytest.mark.parametrize("wta", WTA)
def test_empty_batch(wta):
    x, w, bias = torch.randn(0, 3, 7, 6), torch.randn(4, 3, 3, 3), torch.randn(4)
    got = kernels.conv2d(x, w, bias, **CONV | {"wta": wta})
    assert got.u.shape == (0, 4, 7, 6)
    assert not got.delta_w.any()


def test_all_zero_weights_do_not_make_nan():
    x, w = torch.randn(2, 3, 7, 6), torch.zeros(4, 3, 3, 3)
    got = kernels.conv2d(x, w, None, **CONV | {"wta": "soft", "lebesgue_p": 1.5})
    assert torch.isfinite(got.delta_w).all()


def test_large_pre_activations():
    """exp(t u) would overflow; the softmax is a one-hot."""
    x, w, _ = CASES["soft_anti"].tensors(torch.float32)
    options = CONV | {"wta": "soft", "t_invert": 1e4}
    want = expected(x, w, None, options)
    assert not boundary_band(want.u).any()
    assert_outputs_close(kernels.conv2d(x, w, None, **options), want)


@pytest.mark.parametrize("wta", ["soft", "soft_anti"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_inf_show(wta, value):
    x, w, _ = CASES["soft_anti"].tensors(torch.float32)
    x[0, 0, 3, 3] = value
    assert kernels.conv2d(x, w, None, **CONV | {"wta": wta}).delta_w.isnan().any()


@pytest.mark.parametrize("path", ["apart", "one_pass"])
def test_nan_passes_a_pre_triangle(path, monkeypatch):
    if path == "apart":
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    x, w, _ = CASES["pre_triangle"].tensors(torch.float32)
    x[0, 0, 3, 3] = float("nan")
    options = CONV | {"pre_triangle": True}
    got, want = (f(x, w, None, **options).u.isnan() for f in (kernels.conv2d, reference.conv2d))
    assert torch.equal(got, want)
    assert 0 < want.sum() < want.numel()


@pytest.mark.parametrize("options", [{"lebesgue_p": 3.0}, {"pre_triangle": True}])
def test_what_16_bits_hold_as_infinite_is_no_nan(options):
    """Their second term, what rounding left, is then none."""
    x, w = torch.ones(1, 1, 2, 2, dtype=torch.float16), torch.ones(3, 1, 1, 1, dtype=torch.float16)
    w[1] = 6e4
    x[0, 0, 1, 1] = 100.0 if "pre_triangle" in options else 1.0
    options = CONV | {"padding": (0, 0), "padding_mode": "zeros", "wta": "hard"} | options
    got, want = (f(x, w, None, **options).u for f in (kernels.conv2d, reference.conv2d))
    assert want.isinf().any()
    assert torch.equal(got.isinf(), want.isinf())
    assert not got.isnan().any()


def test_float64_is_refused():
    x, w = torch.randn(1, 1, 3, 3).double(), torch.randn(1, 1, 3, 3).double()
    with pytest.raises(TypeError, match=r"x must be float32, float16 or bfloat16.*float64"):
        kernels.conv2d(x, w, None, **CONV)
