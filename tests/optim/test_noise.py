"""Noise reaches the gradients that a step uses, wherever they come from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from softhebb_fast import optim

SIZE = 0.5


def spread(moved: Tensor) -> float:
    return moved.detach().std().item()


def zeros() -> nn.Parameter:
    torch.manual_seed(0)
    return nn.Parameter(torch.zeros(100, 100))


def test_every_gradient_gets_noise_of_that_size():
    p, still = zeros(), zeros()
    optimizer = torch.optim.SGD([p, still], lr=1.0)
    optim.gradient_noise(optimizer, SIZE)
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert spread(p) == pytest.approx(SIZE, rel=0.03)
    assert p.mean().item() == pytest.approx(-1, abs=0.03)
    assert still.grad is None
    assert not still.any()


@pytest.mark.parametrize("keyword", [True, False])
def test_gradients_of_a_closure_get_it_once(keyword):
    p = zeros()
    optimizer = torch.optim.SGD([p], lr=1.0)
    optim.gradient_noise(optimizer, SIZE)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = p.sum()
        loss.backward()
        return loss

    p.grad = torch.full_like(p, 7.0)
    loss = optimizer.step(closure=closure) if keyword else optimizer.step(closure)
    assert loss == 0
    assert p.mean().item() == pytest.approx(-1, abs=0.03)
    assert spread(p) == pytest.approx(SIZE, rel=0.03)


def test_every_call_of_a_closure_gets_its_own():
    p = zeros()
    optimizer = torch.optim.LBFGS([p], lr=1e-3, max_iter=4, history_size=1)
    optim.gradient_noise(optimizer, SIZE)
    seen = []

    def closure() -> float:
        p.grad = torch.zeros_like(p)
        seen.append(p.grad)
        return 0.0

    optimizer.step(closure)
    assert len(seen) > 1
    for gradient in seen:
        assert spread(gradient) == pytest.approx(SIZE, rel=0.03)
    assert not torch.equal(seen[0], seen[1])


def test_of_sparse_gradients_the_stored_values_get_it():
    p = zeros()
    optimizer = torch.optim.SGD([p], lr=1.0)
    optim.gradient_noise(optimizer, SIZE)
    p.grad = torch.sparse_coo_tensor(
        [[3, 3, 5]], torch.ones(3, 100), (100, 100), check_invariants=True
    )
    optimizer.step()
    assert p[3].mean().item() == pytest.approx(-2, abs=0.3)
    assert spread(p[3]) == pytest.approx(SIZE, rel=0.3)
    assert spread(p[5]) == pytest.approx(SIZE, rel=0.3)
    assert not p[[0, 4, 6]].any()


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_leaves_its_size(fused):
    p = zeros()
    optimizer = torch.optim.SGD([p], lr=1.0, fused=fused)
    optim.gradient_noise(optimizer, SIZE)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(p.sum()).backward()
    scaler.step(optimizer)
    assert p.mean().item() == pytest.approx(-1, abs=0.03)
    assert spread(p) == pytest.approx(SIZE, rel=0.03)


def test_it_ends_with_its_handle():
    p = zeros()
    optimizer = torch.optim.SGD([p], lr=1.0)
    optim.gradient_noise(optimizer, SIZE).remove()
    optimizer.step(lambda: p.sum().backward())
    assert torch.equal(p, torch.full_like(p, -1))


def test_arguments_that_do_not_fit():
    with pytest.raises(TypeError, match=r"optimizer must be a torch.optim.Optimizer"):
        optim.gradient_noise(nn.Linear(2, 2), SIZE)
    with pytest.raises(ValueError, match="size must be a positive, finite number"):
        optim.gradient_noise(torch.optim.SGD([zeros()], lr=1.0), 0.0)
