"""Blocks, activation and pooling included, in the interpreter. Run by ``test_interpreter``."""

from __future__ import annotations

import pytest
import torch

from softhebb_fast.kernels import configs, tables
from softhebb_fast.options import Epilogue, Rate
from tests.by_keyword import kernels, reference
from tests.kernels import interpreter_fix  # noqa: F401
from tests.kernels.cases import CASES, POOLS, Case
from tests.tolerances import TOLERANCES, assert_close, tolerance

# a difference to the mean near 0 has rounded to 1e-7, and its root to 3e-4
ROOT = 4e-4
GRAY = Case((2, 1, 7, 6), (18, 1, 3, 3), bias=True)  # a bias is no u of the padding


@pytest.fixture(autouse=True)
def _unwritten_shows():
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _tiles_that_suit_small_layers(monkeypatch):
    tile = configs.Config(32, 32, 32, 4, 1)
    monkeypatch.setattr(configs, "TABLE", {key: ((tile, 0, tables.ALL),) for key in configs.TABLE})
    monkeypatch.setattr(configs, "IN_TILE", dict.fromkeys(configs.IN_TILE, tile))
    monkeypatch.setattr(configs, "ONE_TAP", dict.fromkeys(configs.ONE_TAP, tile))
    monkeypatch.setattr(configs, "SUMMED", {})
    tiles = {key: c._replace(BM=32) for key, c in configs.ONE_PASS.items()}
    monkeypatch.setattr(configs, "ONE_PASS", tiles)
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", "tf32x3")  # in float32, in the interpreter


def check(case, epilogue, dtype=torch.float32, learns=True):
    x, w, bias = case.tensors(dtype)
    exact = [None if t is None else t.double() for t in (x, w, bias)]
    want, delta_w, delta_b, _ = reference.block_update(*exact, epilogue, **case.conv)
    out = kernels.block_forward(x, w, bias, epilogue, **case.conv)
    tol = max(tolerance(dtype, "u"), ROOT if epilogue.power < 1 else 0)
    outs = [out]
    if learns:
        learned = kernels.block_update(x, w, bias, epilogue, **case.conv)
        outs.append(learned[0])
        assert_close(learned[1], delta_w, 2 * tolerance(dtype, "delta_w"))
        if delta_b is not None:
            assert_close(learned[2], delta_b, 2 * tolerance(dtype, "delta_w"))
    for out in outs:
        assert out.dtype == dtype
        assert_close(out, want, tol)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("name", POOLS)
def test_pools(name, apart, monkeypatch):
    """From the tile of u and, apart, from u in memory with its partial sums of two tiles."""
    if apart:
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    case = GRAY._replace(w=(40, 1, 3, 3)) if apart else GRAY
    check(case, POOLS[name])


@pytest.mark.parametrize("means", [4, 2, 1])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", ["max-4-2-1", "avg-2-2-0", "none"])
@pytest.mark.parametrize("apart", [False, True])
def test_groups_have_means_of_their_own(apart, name, layout, means, monkeypatch):
    """In the tile where a group is all that has a mean, else by parts of the partial sums; apart
    a group takes two tiles."""
    if apart:
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    neurons = 4 * (37 if apart else 5)
    case = Case((2, 8, 7, 6), (neurons, 2, 3, 3), {"groups": 4}, layout=layout)
    check(case, POOLS[name]._replace(groups=means))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("apart", [False, True])
def test_layers_side_by_side_step_as_each_does_alone(apart, dtype, monkeypatch):
    """Three networks: norms, rates and the sizes of x are their own. The last two neurons tie."""
    if apart:
        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    epilogue, options, scales = POOLS["max-4-2-1"], dict(Case().conv), torch.tensor([1, 30, 0.2])
    x, w = torch.randn(3, 2, 3, 7, 6) * scales.view(3, 1, 1, 1, 1), torch.randn(3, 9, 3, 3, 3)
    w = (w / torch.tensor([1, 20, 3]).view(3, 1, 1, 1, 1)).to(dtype)
    x, w[:, 8] = x.to(dtype), w[:, 7]
    together, alone = w.flatten(0, 1).clone(), w.clone()
    factors = torch.tensor([0.1, 0.02, 0.3])
    rates = Rate(1.0, neuron_rates=factors.repeat_interleave(9))._asdict()
    for _ in range(2):
        joint, *_ = kernels.block_step_(
            *(x.transpose(0, 1).flatten(1, 2), together, None, epilogue._replace(groups=3)),
            **options | {"groups": 3},
            **rates,
        )
        for own, x_s, w_s, lr in zip(joint.chunk(3, 1), x, alone, factors.tolist(), strict=True):
            single, *_ = kernels.block_step_(x_s, w_s, None, epilogue, lr=lr, **options)
            assert_close(own, single, tolerance(dtype, "u"))
    tol = TOLERANCES["float32_run" if dtype == torch.float32 else "bfloat16"]
    for own, w_s in zip(together.chunk(3), alone, strict=True):
        assert_close(own, w_s, tol)


@pytest.mark.parametrize("power", [0.5, 0.7, 1.0, 1.4, 2.0, 3.0])
@pytest.mark.parametrize("centre", [True, False])
def test_powers(power, centre):
    check(GRAY, Epilogue(centre, power, "avg", (2, 2), (2, 2)), learns=False)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("name", ["hard_anti", "groups", "pre_triangle", "bias-soft", "lebesgue"])
def test_rules(name, layout):
    check(CASES[name]._replace(layout=layout), POOLS["max-4-2-1"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["soft_anti", "channels_last"])
def test_16_bits(name, dtype):
    """The epilogue has u in float32 out of a tile, in 16 bits out of memory."""
    case, epilogue = CASES[name], POOLS["avg-2-2-0"]
    if name == "soft_anti":
        return check(case, epilogue, dtype)
    x, w, bias = case.tensors(dtype)
    u = kernels.conv2d(x, w, bias, **case.conv).u
    out = kernels.block_forward(x, w, bias, epilogue, **case.conv)
    return assert_close(out, epilogue.apply(u.double()), 2 * tolerance(dtype, "u"))


def test_the_layout_follows_the_input():
    for name in ("soft_anti", "channels_last"):
        x, w, _ = CASES[name].tensors(torch.float32)
        out = kernels.block_forward(x, w, None, POOLS["max-4-2-1"], **CASES[name].conv)
        last = name == "channels_last"
        assert out.is_contiguous(memory_format=[torch.contiguous_format, torch.channels_last][last])


@pytest.mark.parametrize("name", ["max-4-2-1", "max-3-2-1", "avg-2-2-0"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_inf_show(name, value):
    x, w, _ = GRAY.tensors(torch.float32)
    x[0, 0, 3, 3] = value
    want = reference.block_forward(x, w, None, POOLS[name], **GRAY.conv)
    got = kernels.block_forward(x, w, None, POOLS[name], **GRAY.conv)
    assert torch.equal(want.isnan(), got.isnan())
    assert got.isnan().any()
    assert not got[1].isnan().any()


def test_an_empty_batch_is_pooled_to_an_empty_batch():
    x, w, _ = GRAY.tensors(torch.float32)
    out = kernels.block_forward(x[:0], w, None, POOLS["max-4-2-1"], **GRAY.conv)
    assert out.shape == (0, 18, 3, 3)
