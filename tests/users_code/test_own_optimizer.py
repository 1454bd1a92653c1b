"""Three blocks on images of CIFAR's shape, trained by an optimizer of the user's choice."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from softhebb_fast import SoftHebbConv2d, Triangle, optim
from tests.tolerances import TOLERANCES, assert_close

RATES = (0.05, 0.01, 0.01)


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.BatchNorm2d(3, affine=False),
        SoftHebbConv2d(3, 8, 5, padding=2, t_invert=1.0, radius=5.0),
        Triangle(0.7),
        nn.MaxPool2d(4, 2, 1),
        nn.BatchNorm2d(8, affine=False),
        SoftHebbConv2d(8, 12, 3, padding=1, t_invert=0.65, bias=True, radius=5.0),
        Triangle(1.4),
        nn.MaxPool2d(4, 2, 1),
        nn.BatchNorm2d(12, affine=False),
        SoftHebbConv2d(12, 16, 3, padding=1, t_invert=0.25, radius=5.0),
        Triangle(1.0),
        nn.AvgPool2d(2, 2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )
    with torch.no_grad():
        layers(net)[0].weight[0] /= layers(net)[0].weight[0].double().norm().float()
    return net.to(dtype)


def layers(net: nn.Sequential) -> list[SoftHebbConv2d]:
    return [module for module in net if isinstance(module, SoftHebbConv2d)]


def groups(net: nn.Sequential) -> list[dict]:
    return [
        {"params": layer.parameters(), "lr": lr}
        for layer, lr in zip(layers(net), RATES, strict=True)
    ]


def images(steps: int = 6, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(4, 3, 32, 32, generator=generator).to(dtype) for _ in range(steps)]


def train(net: nn.Sequential, optimizer: torch.optim.Optimizer, batches: list[Tensor]) -> None:
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.5, total_iters=4)
    for x in batches:
        optimizer.zero_grad()
        with torch.no_grad():
            net(x)
        optimizer.step()
        scheduler.step()


CHOICES = {
    "adam": lambda net: torch.optim.Adam(groups(net), maximize=True),
    "adamw_fused": lambda net: torch.optim.AdamW(groups(net), maximize=True, fused=True),
    "rmsprop": lambda net: torch.optim.RMSprop(groups(net), maximize=True),
    "sgd": lambda net: torch.optim.SGD(groups(net), momentum=0.9, maximize=True),
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_all_layers_learn_and_a_filter_at_norm_one_stays(choice):
    net = network()
    start = copy.deepcopy(net)
    optimizer = choice(net)
    optim.norm_dependent(optimizer)
    first, was = layers(net)[0].weight[0], layers(start)[0].weight[0]
    train(net, optimizer, images(1))
    # its norm is 1 to float32's rounding, of which the rate is the root
    assert (first - was).abs().max() < 2e-4
    train(net, optimizer, images())
    for layer, before in zip(layers(net), layers(start), strict=True):
        moved = (layer.weight - before.weight).flatten(1).abs().amax(dim=1)
        assert layer.weight.isfinite().all()
        assert (moved[1:] > 1e-4).all()
    assert torch.equal(net[-1].weight, start[-1].weight)


def test_without_the_rate_adam_moves_the_filter_at_norm_one():
    net = network()
    before = layers(net)[0].weight[0].detach().clone()
    train(net, CHOICES["adam"](net), images(1))
    assert (layers(net)[0].weight[0] - before).abs().max() > 0.04


def test_every_step_is_adams_times_the_rate_of_the_neuron():
    net = network(torch.float64)
    optimizer = CHOICES["adam"](net)
    optim.norm_dependent(optimizer)
    means = {
        p: (torch.zeros_like(p), torch.zeros_like(p))
        for layer in layers(net)
        for p in layer.parameters()
    }
    for number, x in enumerate(images(dtype=torch.float64), 1):
        before = {p: p.detach().clone() for p in means}
        optimizer.zero_grad()
        net(x)
        optimizer.step()
        for layer, lr in zip(layers(net), RATES, strict=True):
            norm = before[layer.weight].flatten(1).norm(dim=1)
            factor = ((norm - 1).abs() + 1e-10).sqrt()
            for p in layer.parameters():
                mean, square = means[p]
                mean.mul_(0.9).add_(0.1 * p.grad)
                square.mul_(0.999).add_(0.001 * p.grad**2)
                step = mean / (1 - 0.9**number) / ((square / (1 - 0.999**number)).sqrt() + 1e-8)
                rate = (lr * factor).view(-1, *[1] * (p.dim() - 1))
                assert_close(p, before[p] + rate * step, TOLERANCES["float64_steps"])


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    def parts() -> tuple[nn.Sequential, torch.optim.Optimizer]:
        net = network()
        optimizer = CHOICES["adam"](net)
        optim.norm_dependent(optimizer)
        return net, optimizer

    net, optimizer = parts()
    train(net, optimizer, images()[:3])
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    train(net, optimizer, images()[3:])
    resumed, optimizer = parts()
    state = torch.load(tmp_path / "a.pt")
    resumed.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    train(resumed, optimizer, images()[3:])
    for (name, a), b in zip(net.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_forgetting_to_ascend_is_refused():
    net = network()
    optimizer = torch.optim.Adam(groups(net))
    with pytest.raises(ValueError, match="group 0 of optimizer must ascend"):
        optim.norm_dependent(optimizer)


def test_one_optimizer_for_all_that_the_network_has_is_refused():
    net = network()
    classifier = {"params": net[-1].parameters(), "maximize": False}
    optimizer = torch.optim.Adam([*groups(net), classifier], lr=1e-3, maximize=True)
    with pytest.raises(ValueError, match=r"group 3 .* from a loss needs an optimizer of its own"):
        optim.norm_dependent(optimizer)
