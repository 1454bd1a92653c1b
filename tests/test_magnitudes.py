"""Far from the order of 1: large and tiny inputs, weights and temperatures, in every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from softhebb_fast import backends
from softhebb_fast.functional import competition_statistics, norm_dependent_rate, soft_wta
from softhebb_fast.nn import Softmax
from tests.by_keyword import ops, reference
from tests.magnitudes import compare
from tests.strategies import extremes
from tests.tolerances import TOLERANCES, assert_close

# of the oracle, where the prior of a bias leaves float64
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
NATIVE = pytest.mark.skipif(backends.why_not("cpp", "cpu") is not None, reason="not built")
BACKENDS = [
    pytest.param(reference, id="reference"),
    pytest.param(ops, id="cpp", marks=NATIVE),
]
HERE = pytest.mark.parametrize("module", BACKENDS)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LARGE = [(1e7, 100.0, torch.float32), (1e5, 1e4, torch.float32), (1e30, 1e30, torch.float32)]
LARGE += [(1e17, 100.0, torch.float64), (1e300, 1e30, torch.float64)]


@HERE
@pytest.mark.parametrize("dtype", DTYPES)
def test_against_the_oracle(module, dtype):
    @settings(max_examples=150, deadline=None)
    @given(case=extremes(dtype))
    def run(case):
        compare(module, case, dtype)

    run()


@HERE
@pytest.mark.parametrize(("size", "t", "dtype"), LARGE)
@pytest.mark.parametrize("neurons", [1, 2, 7, 40])
def test_a_lone_winner_takes_all(module, size, t, dtype, neurons):
    """u = (2 x, x, ...): the winner has y = 1 and D = x - 2 x 2, all others y = 0."""
    x = torch.full((67, 1), size, dtype=dtype)
    w = torch.ones(neurons, 1, dtype=dtype)
    w[-1] = 2
    got = module.linear(x, w, None, wta="soft", t_invert=t)
    assert got.delta_w.flatten().tolist() == [0] * (neurons - 1) + [-1]


@HERE
@pytest.mark.parametrize(("size", "t", "dtype"), LARGE)
@pytest.mark.parametrize("tied", [2, 3, 7, 33])
def test_ties_share_alike(module, size, t, dtype, tied):
    """At x > 0 the first neurons tie, at x < 0 the last wins alone: D is -3 x / n and 3 x."""
    x = torch.tensor([[size], [-size]], dtype=dtype)
    w = torch.tensor([[2.0]] * tied + [[-2.0]], dtype=dtype)
    got = module.linear(x, w, None, wta="soft", t_invert=t).delta_w.flatten()
    assert got[-1] == 1
    assert_close(got[:-1], torch.full_like(got[:-1], -1 / tied), TOLERANCES["float32_u"])
    y = soft_wta(x @ w.t(), t, "soft")
    assert torch.equal(y[0, :-1], torch.full((tied,), 1.0, dtype=dtype) / tied)
    assert y[1].tolist() == [0] * tied + [1]


@pytest.mark.parametrize("size", [1e37, 1e38, 3e38])
@pytest.mark.parametrize("t", [1e-30, 0.5, 1.0, 100.0, 1e30])
def test_no_product_or_difference_overflows(size, t):
    """t u is infinite here, and u - max u, and neither u is."""
    u = torch.tensor([[size, -size], [-size, -size]])
    for y in (soft_wta(u, t, "soft"), Softmax(t)(u)):
        assert y.tolist() == [[1, 0], [0.5, 0.5]]
    assert competition_statistics(u, t).winner_probability == 0.75


def test_softmax_of_16_bits_and_its_gradient():
    u = torch.tensor([[30000.0, 29984.0]], dtype=torch.float16, requires_grad=True)
    y = Softmax(8.0)(u)
    assert y.tolist() == [[1, 0]]
    u = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Softmax(3.0), (u,))


@HERE
@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_what_is_not_finite_has_no_direction(module, value):
    x = torch.randn(9, 4)
    x[3, 2] = value
    got = module.linear(x, torch.randn(5, 4), None, t_invert=100.0)
    assert got.delta_w.isnan().all()


@HERE
@pytest.mark.parametrize("wta", ["soft", "soft_anti", "hard"])
@pytest.mark.parametrize("largest", [3e36, 3e38, 1e-32, 1e-28, 0.0])
@pytest.mark.parametrize("lr", [1e-3, 1e-12, 0.0, 1e9])
def test_a_step_along_any_direction(module, wta, largest, lr):
    """x alone decides max |D|; rate / max |D| and its inverse may have no place in float32."""
    torch.manual_seed(0)
    x, w = torch.randn(6, 3), torch.tensor([[0.5, -0.25, 0.125], [0.25, 0.5, 0.5]])
    x = x / x.abs().max() * largest / 4
    y = soft_wta(reference.linear(x, w, None, wta=wta).u.double(), wta=wta)
    d = y.t() @ x.double() - (y * (x.double() @ w.double().t())).sum(0)[:, None] * w.double()
    rate = lr * ((w.double().norm(dim=1) - 1).abs() + 1e-10) ** 0.5
    want = w.double() + rate[:, None] * d / (d.abs().max() + 1e-30)
    module.linear_step_(x, w, None, lr=lr, lr_power=0.5, wta=wta)
    assert_close(w, want, TOLERANCES["float32_delta_w"])


@HERE
@pytest.mark.parametrize("norm", [1e-30, 1e-20, 1e18, 1e20, 1e30])
@pytest.mark.parametrize("p", [2.0, 3.0, 1.5])
def test_rates_of_any_norm(module, norm, p):
    w = torch.tensor([[3.0, -1.0, 2.0], [0.5, 0.5, 1.0]]) * norm
    exact = w.double().abs().pow(p).sum(dim=1).pow(1 / p)
    want = 0.01 * ((exact - 1).abs() + 1e-10) ** 0.5
    torch.testing.assert_close(norm_dependent_rate(w, 0.01, 0.5, p), want.float())
    if norm ** (p - 1) > 1e37:
        return  # what the product uses is infinite
    x = torch.zeros(4, 3)
    module.linear_step_(x, moved := w.clone(), None, lr=0.01, lr_power=0.5, lebesgue_p=p)
    assert torch.equal(moved, w)  # nothing to learn from, whatever the rate
    if p == 2:
        x[:, 0] = 2.0 ** -round(torch.log2(torch.tensor(norm)).item())
        delta_w = module.linear(x, w, None).delta_w.double()
        module.linear_step_(x, moved, None, lr=0.01, lr_power=0.5)
        step = (moved.double() - w.double()) / want.max()
        largest = float(want.max())
        tol = max(2e-7 * norm / largest, TOLERANCES["float32_delta_w"])  # W itself has rounded
        assert_close(step, want[:, None] / largest * delta_w, tol)


@HERE
@pytest.mark.parametrize("bias", [0.0, -1e30, 1e30, 5.0, -5.0])
@pytest.mark.parametrize("wta", ["soft", "soft_anti"])
def test_any_bias(module, bias, wta):
    """The direction of the weights is exact; e^(t b) out of range has the reference's NaN."""
    torch.manual_seed(0)
    x, w, b = torch.randn(20, 4), torch.randn(3, 4), torch.tensor([0.0, bias, 0.1])
    got = module.linear(x, w, b, wta=wta, t_invert=2.0)
    want = reference.linear(x.double(), w.double(), b.double(), wta=wta, t_invert=2.0)
    assert_close(got.u, want.u, TOLERANCES["float32_u"])
    assert_close(got.delta_b, want.delta_b, TOLERANCES["float32_delta_w"])
    if abs(bias) < 10 or bias < 0:
        assert_close(got.delta_w, want.delta_w, TOLERANCES["float32_delta_w"])


@NATIVE
def test_what_the_native_kernels_flush():
    """As docs/cpu.md says: products and sums below the smallest normal number count as 0."""
    w, x = torch.tensor([[1e-20], [3e-20]]), torch.tensor([[1e-20], [-1e-20], [1e-17]])
    u = ops.linear(x, w, None).u
    assert u.tolist() == [[0, 0], [0, 0], pytest.approx([1e-37, 3e-37])]
    assert (reference.linear(x, w, None).u[:2] != 0).all()
    got = ops.linear(x[:2], w, None, wta="hard").delta_w  # ties, won by the first neuron
    assert got[1].item() == 0
    scaled = ops.linear(x[:2] * 2.0**30, w, None, wta="hard").delta_w
    assert (scaled != 0).all()
