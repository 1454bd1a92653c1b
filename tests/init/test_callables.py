"""A layer that starts as a function of the user's own says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from softhebb_fast import SoftHebbConv2d, SoftHebbLinear, init

ONES = torch.ones(4, 3)


def by_fill(weight: Tensor) -> None:
    weight.fill_(1.0)


def by_rows(weight: Tensor) -> None:
    for row in weight:
        row.fill_(1.0)


def by_data(weight: Tensor) -> None:
    weight.data.fill_(1.0)


def as_view(weight: Tensor) -> Tensor:
    return weight.data.fill_(1.0)


FILLS = [by_fill, by_rows, by_data, as_view, nn.init.ones_, torch.ones_like, lambda w: ONES.t().t()]


@pytest.mark.parametrize("fill", FILLS)
def test_a_weight_is_filled_or_returned(fill):
    layer = SoftHebbLinear(3, 4, init=fill)
    assert torch.equal(layer.weight, ONES)
    nn.init.zeros_(layer.weight)
    layer.reset_parameters()
    assert torch.equal(layer.weight, ONES)
    layer.reset_parameters()
    assert torch.equal(layer.weight, ONES)


def test_a_returned_tensor_is_copied():
    given = torch.randn(4, 2, 3, 3)
    layer = SoftHebbConv2d(2, 4, 3, init=lambda w: given)
    assert torch.equal(layer.weight, given)
    assert isinstance(layer.weight, nn.Parameter)
    with torch.no_grad():
        layer.weight.zero_()
    assert given.any()


def some(weight: Tensor) -> None:
    weight[1:].fill_(1.0)


def fails(weight: Tensor) -> None:
    weight.fill_(7.0)
    raise ZeroDivisionError


BAD = {
    "nothing": (lambda w: None, ValueError, "must fill the whole weight"),
    "some": (some, ValueError, "must fill the whole weight"),
    "of_what_was": (lambda w: w.mul_(2), ValueError, "must fill the whole weight"),
    "a_row": (lambda w: w[0].fill_(1.0), ValueError, r"shape \(4, 3\); got \(3,\)"),
    "shape": (lambda w: torch.ones(3, 4), ValueError, r"shape \(4, 3\); got \(3, 4\)"),
    "number": (lambda w: 1.0, TypeError, "it returned float"),
    "array": (lambda w: w.numpy(), TypeError, "it returned ndarray"),
    "wide": (lambda w: w.double(), TypeError, r"torch\.float32.*got torch\.float64.*\.to\("),
    "integers": (lambda w: torch.ones(4, 3, dtype=torch.int64), TypeError, "got torch.int64"),
    "infinite": (lambda w: torch.full((4, 3), torch.inf), ValueError, "not finite"),
    "fails": (fails, ZeroDivisionError, ""),
}


@pytest.mark.parametrize("name", BAD)
def test_what_gives_no_weight_is_refused_and_changes_nothing(name):
    function, error, message = BAD[name]
    with pytest.raises(error, match=message):
        SoftHebbLinear(3, 4, init=function)
    layer = SoftHebbLinear(3, 4, bias=True)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    layer.init = function
    with pytest.raises(error, match=message):
        layer.reset_parameters()
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_the_weights_of_a_model_may_be_changed():
    model = nn.Sequential(nn.Linear(3, 4))
    before = model[0].weight.detach().clone()
    init.apply(model, lambda w: w.mul_(2))
    assert torch.equal(model[0].weight, 2 * before)
    init.apply(model, lambda w: w / 2)
    assert torch.equal(model[0].weight, before)


def test_a_layer_without_memory_stays_so():
    for function in (torch.ones_like, by_fill, lambda w: None):
        layer = SoftHebbLinear(3, 4, init=function, device="meta")
        assert layer.weight.is_meta
    layer = SoftHebbLinear(3, 4, init=by_fill, device="meta").to_empty(device="cpu")
    layer.reset_parameters()
    assert torch.equal(layer.weight, ONES)
