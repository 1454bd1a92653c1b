"""How far channels have come apart: each figure against a literal or a second computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from softhebb_fast import init, optim
from softhebb_fast.init.symmetry import mean_correlation
from tests.tolerances import literal


def model_of(*weights: torch.Tensor) -> nn.Module:
    return nn.ParameterList([nn.Parameter(weight) for weight in weights])


def test_equal_channels():
    found = init.symmetry(model_of(torch.arange(6.0).expand(4, 6).clone()))["0"]
    assert (found.channels, found.distinct, found.deviation) == (4, 1, 0.0)
    assert found.forward_correlation == literal(1.0)
    assert (found.stable_rank, found.effective_rank) == literal((1.0, 1.0))
    assert found.rank == 1
    assert math.isnan(found.change_stable_rank)
    assert found.change_rank == -1


def test_a_diagonal_matrix_by_hand():
    values = torch.tensor([4.0, 2.0, 2.0, 0.0])
    found = init.symmetry(model_of(values.diag()), {"0": torch.zeros(4, 4)})["0"]
    assert (found.distinct, found.deviation, found.rank) == (4, 4.0, 3)
    assert found.stable_rank == literal(24 / 16)
    # shares 1/2, 1/4, 1/4: an entropy of 1.5 bits
    assert found.effective_rank == literal(2**1.5)
    assert (found.change_rank, found.change_stable_rank) == (3, literal(24 / 16))


def test_correlations_are_numpys():
    weight = torch.randn(5, 4, 3, 3)
    found = init.symmetry(model_of(weight))["0"]

    def mean(rows: np.ndarray) -> float:
        matrix = np.corrcoef(rows)
        return (matrix.sum() - len(matrix)) / (len(matrix) * (len(matrix) - 1))

    w = weight.double().numpy()
    assert found.forward_correlation == literal(mean(w.reshape(5, -1)))
    assert found.backward_correlation == literal(mean(w.transpose(1, 0, 2, 3).reshape(4, -1)))
    assert found.kernel_correlation == literal(mean(w.reshape(20, 9)))


def test_constant_rows_count_as_correlated():
    rows = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert mean_correlation(rows) == literal((2 * (1 + 1) + 2 * -1) / 6)
    assert mean_correlation(torch.full((3, 9), 0.1)) == 1.0
    assert mean_correlation(torch.ones(1, 3)) == 1.0


def test_feature_diversity():
    flat = init.symmetry(model_of(torch.ones(3, 4)), ranks=False)
    assert init.feature_diversity(flat) == -math.inf
    rows = torch.tensor([[1.0, 0.0], [2.0, 3.0], [3.0, 1.0]])
    found = init.symmetry(model_of(rows), ranks=False)
    correlation = found["0"].backward_correlation
    assert init.feature_diversity(found) == literal(0.5 * math.log(1 - correlation**2))
    assert found["0"].rank == -1


def test_weights_that_are_not_finite_and_mistakes():
    found = init.symmetry(model_of(torch.tensor([[math.nan, 1.0], [0.0, 1.0]])))["0"]
    assert math.isnan(found.deviation)
    assert found.rank == -1
    assert init.symmetry(nn.BatchNorm2d(3)) == {}
    with pytest.raises(TypeError, match=r"model must be .*; got Tensor"):
        init.symmetry(torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"start must have 0, \(2, 2\); got no such tensor"):
        init.symmetry(model_of(torch.ones(2, 2)), {})
    with pytest.raises(ValueError, match=r"start must have 0, \(2, 2\); got \(1, 2\)"):
        init.symmetry(model_of(torch.ones(2, 2)), {"0": torch.ones(1, 2)})
    with pytest.raises(ValueError, match=r"start must have 0, \(2, 2\); got no such tensor"):
        init.symmetry(model_of(torch.ones(2, 2)), {"0": 3})
    with pytest.raises(TypeError, match="start must be a state_dict or None; got 5"):
        init.symmetry(model_of(torch.ones(2, 2)), 5)
    with pytest.raises(ValueError, match="tolerance must be finite and not negative; got -1"):
        init.symmetry(model_of(torch.ones(2, 2)), tolerance=-1)


def test_weight_noise_has_its_size_and_its_seed():
    def noisy(seed: int) -> nn.Linear:
        layer = nn.Linear(100, 200)
        init.apply(layer, "zeros")
        return init.weight_noise_(layer, 1e-7, torch.Generator().manual_seed(seed))

    layer = noisy(0)
    assert layer.weight.std().item() == pytest.approx(1e-7, rel=0.03)
    assert not layer.bias.any()
    assert torch.equal(layer.weight, noisy(0).weight)
    assert not torch.equal(layer.weight, noisy(1).weight)
    with pytest.raises(ValueError, match="size must be a positive, finite number; got 0"):
        init.weight_noise_(layer, 0)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module; got Tensor"):
        init.weight_noise_(layer.weight.data, 1e-7)


def test_gradient_noise_has_its_size_and_can_be_taken_away():
    weight = nn.Parameter(torch.zeros(100, 100))
    optimizer = torch.optim.SGD([weight, nn.Parameter(torch.zeros(2))], lr=1.0)
    handle = optim.gradient_noise(optimizer, 0.5)
    weight.grad = torch.ones(100, 100)
    optimizer.step()
    assert weight.mean().item() == pytest.approx(-1, abs=0.03)
    assert weight.std().item() == pytest.approx(0.5, rel=0.03)
    handle.remove()
    before, weight.grad = weight.detach().clone(), torch.ones(100, 100)
    optimizer.step()
    assert torch.equal(weight, before - 1)
    with pytest.raises(ValueError, match="size must be a positive, finite number; got 0"):
        optim.gradient_noise(optimizer, 0)
    with pytest.raises(TypeError, match=r"optimizer must be a torch\.optim\.Optimizer.*got int"):
        optim.gradient_noise(3, 1e-7)
