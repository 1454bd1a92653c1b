"""Weights of 16 bits that learn at small rates."""

from __future__ import annotations

import copy
import math
import warnings

import pytest
import torch
from torch import Tensor

from softhebb_fast import SoftHebbBlock, SoftHebbConv2d, functional
from softhebb_fast.functional.rounding import stochastically_rounded
from tests.nn.layers import batch, make
from tests.tolerances import TOLERANCES

DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
SMALL = {"update": "in_place", "lr": 3e-4, "lr_power": 0.0}


def values(dtype: torch.dtype) -> Tensor:
    """Ordinary and subnormal numbers, either sign, between those of ``dtype``."""
    tiny = torch.finfo(dtype).smallest_normal / 8
    scales = torch.tensor([1.0, 1.5, 1e-3, 100.0, tiny])
    return torch.cat([scales, -scales]) * (1 + torch.finfo(dtype).eps / 3)


@DTYPES
def test_the_mean_of_rounded_values_is_the_value(dtype):
    draws, value = 20_000, values(dtype)
    rounded = stochastically_rounded(value.expand(draws, -1), dtype).float()
    near = value.to(dtype).float()
    error, spacing = (value - near).abs(), (rounded - near).abs().amax(dim=0)
    assert (error > 0).all()
    assert all(len(column.unique()) == 2 for column in rounded.t())
    part = error / spacing
    tolerance = 6 * (part * (1 - part) / draws).sqrt() * spacing
    assert ((rounded.mean(dim=0) - value).abs() <= tolerance).all()


@DTYPES
def test_what_needs_no_rounding_stays(dtype):
    finite = [0.0, -0.0, 1.0, -2.5, torch.finfo(dtype).max, torch.finfo(dtype).tiny]
    exact = torch.tensor([*finite, math.inf, -math.inf, math.nan])
    for _ in range(20):
        rounded = stochastically_rounded(exact, dtype)
        torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0, equal_nan=True)


def movement(kind: str, dtype: torch.dtype, steps: int = 60, **options) -> Tensor:
    layer = make(kind, radius=1.0, **SMALL, **options).to(dtype)
    start = layer.weight.detach().float().clone()
    for step in range(steps):
        layer(batch(kind, step % 10).to(dtype))
    return layer.weight.detach().float() - start


def share(found: Tensor, exact: Tensor) -> float:
    """How much of a movement was made."""
    return float((found * exact).sum() / exact.square().sum())


@DTYPES
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.filterwarnings("ignore:a weight of")
def test_small_steps_move_16_bit_weights_as_they_do_32_bit_ones(kind, dtype, backend):
    exact = movement(kind, torch.float32)
    options = {"rounding": "stochastic", "backend": backend}
    found = torch.stack([movement(kind, dtype, **options) for _ in range(4)]).mean(dim=0)
    assert share(found, exact) == pytest.approx(1, abs=TOLERANCES["share_of_a_movement"])
    if dtype == torch.bfloat16:
        assert share(movement(kind, dtype, backend=backend), exact) < 0.5


def test_one_seed_gives_one_result(kind):
    layer, x = make(kind, rounding="stochastic", **SMALL).bfloat16(), batch(kind).bfloat16()
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        twin = copy.deepcopy(layer)
        twin(x)
        results.append(twin.weight.detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wider_weights_are_rounded_to_the_nearest(kind, dtype):
    layers = [
        make(kind, bias=True, rounding=r, **SMALL).to(dtype) for r in ("nearest", "stochastic")
    ]
    state = torch.get_rng_state()
    for layer in layers:
        layer(batch(kind, dtype=dtype))
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(layers[0].weight, layers[1].weight)
    assert torch.equal(layers[0].bias, layers[1].bias)


@pytest.mark.filterwarnings("ignore:a weight of")
def test_a_bias_of_16_bits_moves_too():
    moves = []
    for rounding in ("nearest", "stochastic"):
        layer = make("linear", bias=True, rounding=rounding, **SMALL).bfloat16()
        start = layer.bias.detach().clone()
        for step in range(50):
            layer(batch("linear", step % 5).bfloat16())
        moves.append((layer.bias.detach() - start).abs().max())
    assert moves[0] == 0
    assert moves[1] > 0


def test_a_block_rounds_as_its_layer_does():
    block = SoftHebbBlock(
        3, 8, 3, batch_norm=False, rounding="stochastic", radius=1.0, dtype=torch.bfloat16, **SMALL
    )
    layer, x = copy.deepcopy(block.layer), torch.randn(4, 3, 6, 6).bfloat16()
    for learns in (block, layer):
        torch.manual_seed(0)
        with torch.no_grad():
            learns(x)
    assert torch.equal(block.layer.weight, layer.weight)


@DTYPES
@pytest.mark.parametrize("update", ["grad", "in_place"])
def test_losses_by_rounding_are_announced_once(kind, dtype, update):
    layer, x = make(kind, update=update, lr=0.1).to(dtype), batch(kind, dtype=dtype)
    advice = "rounding='stochastic'" if update == "in_place" else "keep it in float32"
    with pytest.warns(UserWarning, match=f"a weight of {dtype} learns.*{advice}") as caught:
        [layer(x) for _ in range(3)]
    assert len(caught) == 1


def test_nothing_is_announced_where_nothing_is_lost(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(kind)(batch(kind))
        make(kind).bfloat16().eval()(batch(kind).bfloat16())
        make(kind, rounding="stochastic", **SMALL).bfloat16()(batch(kind).bfloat16())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            make(kind, **SMALL)(batch(kind))


def test_other_roundings_are_refused():
    with pytest.raises(ValueError, match="rounding must be one of nearest, stochastic; got 'up'"):
        SoftHebbConv2d(3, 8, 3, rounding="up")
    with pytest.raises(ValueError, match="rounding must be one of"):
        functional.hebbian_step_(torch.ones(2, 3), torch.ones(2, 3), 0.1, rounding="up")


def test_the_option_is_shown_and_kept():
    layer = SoftHebbConv2d(3, 8, 3, rounding="stochastic")
    assert "rounding='stochastic'" in repr(layer)
    assert copy.deepcopy(layer).rounding == "stochastic"
