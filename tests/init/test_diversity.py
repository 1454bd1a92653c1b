from __future__ import annotations

import math

import pytest
import torch

from softhebb_fast import init
from softhebb_fast.init.diversity import Diversity, distinct_filters, diversity

TOL = 1e-5  # relative; the literals below carry six digits


def close(value):
    return pytest.approx(value, rel=TOL)


def test_init_offers_its_report_too():
    assert init.diversity is diversity
    assert init.distinct_filters is distinct_filters
    assert init.Diversity is Diversity


@pytest.mark.parametrize("block", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_diversity_of_four_filters_by_hand(block, dtype):
    weight = torch.tensor([[1, 0], [1, 1], [0, 0], [-1, -1]], dtype=dtype)
    found = diversity(weight, block)
    assert found.mean_abs_cosine == close((2 * 0.7071068 + 1) / 6)
    assert (found.filters, found.distinct, found.rank) == (4, 4, 2)
    assert (found.nonzeros, found.numel) == (5, 8)
    assert (found.norm_mean, found.norm_min, found.norm_max) == close((0.957107, 0, 1.414214))


def test_diversity_of_the_constant_and_the_identity_start():
    constant = diversity(init.constant_(torch.empty(5, 2, 3, 3)))
    assert (constant.distinct, constant.rank, constant.numel) == (1, 1, 90)
    assert constant.mean_abs_cosine == close(1.0)
    identity = diversity(init.identity_(torch.empty(5, 5, 3, 3)))
    assert (identity.distinct, identity.rank, identity.mean_abs_cosine) == (5, 5, 0.0)
    assert (identity.norm_min, identity.norm_max, identity.nonzeros) == (1.0, 1.0, 5)


def test_diversity_of_zero_on_an_rgb_layer():
    found = diversity(init.zerO_(torch.empty(96, 3, 5, 5)))
    assert (found.distinct, found.rank, found.nonzeros, found.numel) == (4, 3, 288, 7200)
    # 24 copies of each of 4 sign patterns: 276 equal pairs in each, |cos| 1/3 across
    assert found.mean_abs_cosine == close((4 * 276 + (4560 - 4 * 276) / 3) / 4560)


def test_diversity_of_a_single_and_of_a_zero_filter():
    assert diversity(torch.ones(1, 4)).mean_abs_cosine == 0.0
    nothing = diversity(torch.zeros(3, 4))
    assert (nothing.distinct, nothing.rank, nothing.mean_abs_cosine) == (1, 0, 0.0)


def test_distinct_filters_has_no_tolerance():
    weight = torch.ones(3, 2, 2, 2)
    weight[1, 0, 0, 0] += torch.finfo(torch.float32).eps
    assert distinct_filters(weight) == 2
    assert distinct_filters(weight.to(memory_format=torch.channels_last)) == 2
    assert distinct_filters(torch.tensor([[0.0], [-0.0]])) == 1


def test_bad_weights_are_named():
    with pytest.raises(ValueError, match=r"non-empty.*got \(0, 2, 3, 3\)"):
        distinct_filters(torch.ones(0, 2, 3, 3))
    with pytest.raises(ValueError, match="NaN or infinity"):
        diversity(torch.full((4, 2), math.nan))
    with pytest.raises(TypeError, match="floating-point tensor; got list"):
        diversity([[1.0]])
