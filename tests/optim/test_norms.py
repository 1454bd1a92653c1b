"""The norm-dependent rate scales what a step has changed, whatever the optimizer makes of it."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor, nn

from softhebb_fast import SoftHebbConv2d, SoftHebbLinear, functional, optim
from tests.tolerances import TOLERANCES, assert_close

F64 = torch.float64
GRADIENT = torch.tensor([[0.5, 0.2, -0.1], [0.1, -0.2, 0.3], [0.3, 0.3, 0.3]], dtype=F64)


class Lion(torch.optim.Optimizer):
    """An optimizer of somebody else's, which has no ``maximize``."""

    def __init__(self, params, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        if closure is not None:
            with torch.enable_grad():
                closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_((0.9 * mean + 0.1 * p.grad).sign(), alpha=-group["lr"])
                    mean.lerp_(p.grad, 0.01)


class Clearing(torch.optim.SGD):
    """An optimizer that frees the gradients as it steps."""

    def step(self, closure=None) -> None:
        super().step(closure)
        self.zero_grad()


def weight() -> nn.Parameter:
    """A filter at norm 1, one far from it and one near it."""
    return nn.Parameter(torch.tensor([[0.6, 0.0, 0.8], [3, 4, 0], [0, 1.1, 0]], dtype=F64))


def factors(w: Tensor, power: float = 0.5) -> Tensor:
    return ((w.detach().norm(dim=1, keepdim=True) - 1).abs() + 1e-10) ** power


UP = {"lr": 0.1, "maximize": True}
OPTIMIZERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, **UP),
    "sgd_momentum": lambda ps: torch.optim.SGD(ps, **UP, momentum=0.9, dampening=0.1),
    "sgd_nesterov": lambda ps: torch.optim.SGD(ps, **UP, momentum=0.9, nesterov=True),
    "sgd_decay": lambda ps: torch.optim.SGD(ps, **UP, momentum=0.9, weight_decay=0.02),
    "sgd_fused": lambda ps: torch.optim.SGD(ps, **UP, momentum=0.9, fused=True),
    "sgd_foreach": lambda ps: torch.optim.SGD(ps, **UP, momentum=0.9, foreach=True),
    "adam": lambda ps: torch.optim.Adam(ps, **UP, weight_decay=0.01),
    "adam_amsgrad": lambda ps: torch.optim.Adam(ps, **UP, amsgrad=True),
    "adam_fused": lambda ps: torch.optim.Adam(ps, **UP, fused=True),
    "adam_foreach": lambda ps: torch.optim.Adam(ps, **UP, foreach=True),
    "adam_tensor": lambda ps: torch.optim.Adam(ps, lr=torch.tensor(0.1), maximize=True),
    "adamw": lambda ps: torch.optim.AdamW(ps, **UP, weight_decay=0.1),
    "adamax": lambda ps: torch.optim.Adamax(ps, **UP),
    "nadam": lambda ps: torch.optim.NAdam(ps, **UP),
    "radam": lambda ps: torch.optim.RAdam(ps, **UP),
    "adagrad": lambda ps: torch.optim.Adagrad(ps, **UP),
    "adagrad_fused": lambda ps: torch.optim.Adagrad(ps, **UP, fused=True),
    "adadelta": lambda ps: torch.optim.Adadelta(ps, **UP),
    "adafactor": lambda ps: torch.optim.Adafactor(ps, **UP),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, **UP, momentum=0.5, centered=True),
    "rprop": lambda ps: torch.optim.Rprop(ps, **UP),
    "asgd": lambda ps: torch.optim.ASGD(ps, **UP),
    "sgd_negative": lambda ps: torch.optim.SGD([{"params": ps, "lr": -0.1}], lr=0, momentum=0.9),
    "adam_negative": lambda ps: torch.optim.Adam([{"params": ps, "lr": -0.1}], lr=0),
    "muon": lambda ps: torch.optim.Muon([{"params": ps, "lr": -0.1}], lr=0, weight_decay=0.1),
    "lbfgs": lambda ps: torch.optim.LBFGS([{"params": ps, "lr": -0.1}], lr=0, max_iter=3),
    "lion": lambda ps: Lion([{"params": ps, "lr": -0.1}], weight_decay=0.1),
    "clearing": lambda ps: Clearing(ps, **UP),
    "tensor_lr_sgd": lambda ps: optim.TensorLRSGD(ps, **UP, momentum=0.9),
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def step(optimizer: torch.optim.Optimizer, *gradients: Tensor | None, closure: bool = True) -> None:
    """A step of the first group's parameters by these gradients, from a closure or from before."""

    def assign() -> Tensor:
        for p, gradient in zip(optimizer.param_groups[0]["params"], gradients, strict=True):
            p.grad = None if gradient is None else gradient.clone()
        return torch.tensor(0.0)

    if closure:
        optimizer.step(assign)
    else:
        assign()
        optimizer.step()


@every_optimizer
@pytest.mark.parametrize("closure", [False, True], ids=["before", "closure"])
def test_the_first_step_is_scaled_neuron_by_neuron(make, closure, request):
    if not closure and "lbfgs" in request.node.callspec.id:
        pytest.skip("LBFGS takes a closure alone")
    w, plain = weight(), weight()
    optimizer = make([w])
    optim.norm_dependent(optimizer)
    start = w.detach().clone()
    step(optimizer, GRADIENT, closure=closure)
    step(make([plain]), GRADIENT)
    change = plain.detach() - start
    assert ((change * GRADIENT).sum(dim=1) > 0).all()
    assert_close(w, start + factors(start) * change, TOLERANCES["float64"])
    assert (w - start)[0].abs().max() <= 1.001e-5 * change[0].abs().max()


@every_optimizer
def test_a_filter_at_norm_one_stays_while_others_learn(make):
    w = weight()
    optimizer = make([w])
    optim.norm_dependent(optimizer, lr_power=1.0)  # leaves 1e-10 of the rate
    generator = torch.Generator().manual_seed(0)
    start = w.detach().clone()
    for _ in range(10):
        step(optimizer, torch.randn(3, 3, generator=generator, dtype=F64))
    assert torch.allclose(w[0], start[0], rtol=0, atol=1e-7)
    assert not torch.allclose(w[1:], start[1:], rtol=0, atol=1e-5)


@every_optimizer
def test_parameters_without_a_gradient_keep_their_bits(make):
    w = weight()
    still = nn.Parameter(torch.tensor([[0.1, -0.0, math.inf], [math.nan, 3.3, 0]], dtype=F64))
    bits = still.detach().view(torch.int64).clone()
    optimizer = make([w, still])
    if isinstance(optimizer, torch.optim.LBFGS):
        still.data = torch.ones_like(still)  # it adds a flat direction to all parameters
        bits = still.detach().view(torch.int64).clone()
    optim.norm_dependent(optimizer)
    for closure in (True, isinstance(optimizer, torch.optim.LBFGS)):
        step(optimizer, GRADIENT, None, closure=closure)
    assert torch.equal(still.detach().view(torch.int64), bits)
    assert not torch.equal(w, weight())


@every_optimizer
def test_float32_weights_and_their_bias(make):
    if make is OPTIMIZERS["muon"]:
        pytest.skip("Muon takes matrices alone")
    w, b = nn.Parameter(weight().detach().float()), nn.Parameter(torch.zeros(3))
    plain_w, plain_b = nn.Parameter(w.detach().clone()), nn.Parameter(torch.zeros(3))
    optimizer = make([w, b])
    optim.norm_dependent(optimizer)
    start, gradients = w.detach().clone(), (GRADIENT.float(), torch.ones(3))
    step(optimizer, *gradients)
    step(make([plain_w, plain_b]), *gradients)
    factor = factors(start)
    assert_close(w, start + factor * (plain_w.detach() - start), TOLERANCES["float32_u"])
    assert_close(b, factor[:, 0] * plain_b.detach(), TOLERANCES["float32_u"])


@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"dampening": 0.3}], ids=str)
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_momentum_is_that_of_the_published_optimizer(options, decay):
    """Its rate, a tensor, multiplies the momentum buffer; it descends with a negative rate."""
    w, expected = weight(), weight().detach().clone()
    options = {"momentum": 0.9, "dampening": 0.0, "nesterov": False} | options
    group = {"params": [w], "lr": -0.08}
    optimizer = torch.optim.SGD([group], lr=0.0, weight_decay=decay, **options)
    optim.norm_dependent(optimizer)
    buffer = None
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        gradient = torch.randn(3, 3, generator=generator, dtype=F64)
        step(optimizer, gradient)
        d = gradient + decay * expected
        if buffer is None:
            buffer = d.clone()
        else:
            buffer = options["momentum"] * buffer + (1 - options["dampening"]) * d
        d = d + options["momentum"] * buffer if options["nesterov"] else buffer
        expected = expected + 0.08 * factors(expected) * d
    assert_close(w, expected, TOLERANCES["float64_steps"])


@every_optimizer
def test_every_optimizer_takes_the_layers_updates_from_a_closure(make):
    torch.manual_seed(0)
    layer = SoftHebbLinear(6, 4, radius=3.0, dtype=F64)
    x = torch.rand(8, 6, dtype=F64)
    optimizer = make(list(layer.parameters()))
    optim.norm_dependent(optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        return layer(x).sum()

    update = layer.hebbian_update(x).delta_w
    start = layer.weight.detach().clone()
    optimizer.step(closure)
    change = layer.weight.detach() - start
    assert change.abs().max() > 1e-6
    assert (change * update).sum() > 0


def test_a_layer_that_steps_in_place_is_left_to_itself():
    options = {"lr": 0.1, "lr_power": 0.5, "update": "in_place", "radius": 3.0}
    torch.manual_seed(0)
    ours, alone = (SoftHebbConv2d(1, 4, 3, **options) for _ in range(2))
    alone.load_state_dict(ours.state_dict())
    optimizer = torch.optim.Adam(ours.parameters(), **UP)
    optim.norm_dependent(optimizer)
    x = torch.rand(2, 1, 5, 5)
    for _ in range(3):
        optimizer.step(lambda: ours(x).sum())
        alone(x)
    assert torch.equal(ours.weight, alone.weight)


def test_half_precision_is_rounded_once():
    for dtype in (torch.float16, torch.bfloat16):
        w = nn.Parameter(torch.tensor([[3.0, 4.0], [0.75, 0.0]], dtype=dtype))
        optimizer = torch.optim.SGD([w], lr=0.25, maximize=True)
        optim.norm_dependent(optimizer)
        step(optimizer, torch.ones_like(w))
        expected = torch.tensor([[3.5, 4.5], [0.875, 0.125]], dtype=dtype)
        assert w.dtype == dtype
        assert torch.equal(w, expected)


def test_sparse_gradients():
    w, plain = weight(), weight()
    gradient = torch.sparse_coo_tensor([[1, 2, 1]], GRADIENT, (3, 3), check_invariants=True)
    ours, other = (torch.optim.SparseAdam([p], **UP) for p in (w, plain))
    optim.norm_dependent(ours)
    step(ours, gradient)
    step(other, gradient)
    start = weight().detach()
    assert_close(w, start + factors(start) * (plain.detach() - start), TOLERANCES["float64"])
    assert torch.equal(w[0], start[0])


def test_a_differentiable_step_is_differentiated_through():
    start = weight().detach()

    def stepped(lr: Tensor) -> Tensor:
        w = start.clone()
        w.requires_grad_().retain_grad()
        w = w.clone()
        w.grad = GRADIENT.clone()
        optimizer = torch.optim.SGD([w], lr=lr, maximize=True, differentiable=True)
        optim.norm_dependent(optimizer)
        optimizer.step()
        return w

    lr = torch.tensor(0.1, dtype=F64, requires_grad=True)
    w = stepped(lr)
    (found,) = torch.autograd.grad(w.sum(), lr)
    assert found.item() == pytest.approx((factors(start) * GRADIENT).sum().item())


def test_a_frozen_weight_gives_its_bias_factors():
    w, b = weight().requires_grad_(False), nn.Parameter(torch.zeros(3).double())
    optimizer = torch.optim.SGD([w, b], **UP)
    optim.norm_dependent(optimizer)
    step(optimizer, None, torch.ones(3).double(), closure=False)
    assert torch.equal(w, weight())
    assert_close(b, 0.1 * factors(w)[:, 0], TOLERANCES["float64"])


def test_a_step_that_is_compiled():
    w, other = weight(), weight()
    for p, compiled in ((w, True), (other, False)):
        optimizer = torch.optim.SGD([p], **UP, momentum=0.9)
        optim.norm_dependent(optimizer)
        take = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for _ in range(3):
            p.grad = GRADIENT.clone()
            take()
    assert torch.equal(w, other)


# What else holds of the hook


def test_a_step_that_the_scaler_skips_changes_nothing():
    for options in ({}, {"fused": True}):
        w = nn.Parameter(weight().detach().float())
        optimizer = torch.optim.Adam([w], **UP, **options)
        optim.norm_dependent(optimizer)
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale((w * math.inf).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(w, weight().float())
        optimizer.zero_grad()
        scaler.scale((w * GRADIENT.float()).sum()).backward()
        scaler.step(optimizer)
        change = w - weight().float()
        assert change[0].abs().max() < 2e-6
        assert change[1].abs().max() > 0.1


def test_a_state_goes_from_an_optimizer_to_another_and_the_steps_are_the_same():
    def prepared(p: nn.Parameter) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam([p], **UP)
        optim.norm_dependent(optimizer)
        return optimizer

    w = weight()
    optimizer = prepared(w)
    for _ in range(3):
        step(optimizer, GRADIENT)
    plain = torch.optim.Adam([weight()], **UP)
    assert optimizer.state_dict()["param_groups"] == plain.state_dict()["param_groups"]
    saved, at = copy.deepcopy(optimizer.state_dict()), w.detach().clone()
    step(optimizer, GRADIENT)
    resumed = nn.Parameter(at)
    other = prepared(resumed)
    other.load_state_dict(saved)
    step(other, GRADIENT)
    assert torch.equal(w, resumed)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_lose_the_rate_as_they_lose_all_hooks(copied):
    optimizer = torch.optim.SGD([weight()], **UP)
    optim.norm_dependent(optimizer)
    other = copied(optimizer)
    step(other, GRADIENT)
    (p,) = other.param_groups[0]["params"]
    assert_close(p, weight().detach() + 0.1 * GRADIENT, TOLERANCES["float64"])
    optim.norm_dependent(other)


def test_a_removed_handle_ends_it_and_it_may_be_added_again():
    w = weight()
    optimizer = torch.optim.SGD([w], **UP)
    with optim.norm_dependent(optimizer):
        pass
    step(optimizer, GRADIENT)
    assert_close(w, weight().detach() + 0.1 * GRADIENT, TOLERANCES["float64"])
    handle = optim.norm_dependent(optimizer)
    handle.remove()
    handle.remove()
    optim.norm_dependent(optimizer)


def test_adding_it_twice_is_refused():
    optimizer = torch.optim.SGD([weight()], **UP)
    optim.norm_dependent(optimizer)
    with pytest.raises(ValueError, match="norm-dependent rates already; remove"):
        optim.norm_dependent(optimizer, lr_power=0.3)


def test_groups_that_come_later_take_part():
    w, later = weight(), weight()
    optimizer = torch.optim.SGD([w], **UP)
    optim.norm_dependent(optimizer)
    optimizer.add_param_group({"params": [later], "lr": 0.2})
    later.grad = GRADIENT.clone()
    step(optimizer, GRADIENT)
    start = weight().detach()
    assert_close(later, start + 0.2 * factors(start) * GRADIENT, TOLERANCES["float64"])


def test_a_group_that_comes_later_and_does_not_fit_stops_the_step_before_it_begins():
    w, bias = weight(), nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([w], **UP, momentum=0.9)
    optim.norm_dependent(optimizer)
    optimizer.add_param_group({"params": [bias]})
    w.grad = GRADIENT.clone()
    with pytest.raises(ValueError, match="group 1 of optimizer must hold a weight before its bias"):
        optimizer.step()
    assert torch.equal(w, weight())
    assert not optimizer.state


def test_a_closure_that_fails_leaves_the_next_step_right():
    w = weight()
    optimizer = torch.optim.SGD([w], **UP)
    optim.norm_dependent(optimizer)
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)
    assert torch.equal(w, weight())
    step(optimizer, GRADIENT, closure=False)
    start = weight().detach()
    assert_close(w, start + 0.1 * factors(start) * GRADIENT, TOLERANCES["float64"])


def test_a_schedule_of_the_base_rate_is_followed():
    w, expected = weight(), weight().detach().clone()
    optimizer = torch.optim.SGD([w], lr=1.0, maximize=True)
    optim.norm_dependent(optimizer)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: i / 10)  # starts at 0
    for i in range(4):
        step(optimizer, GRADIENT)
        scheduler.step()
        expected = functional.hebbian_step_(expected, GRADIENT, i / 10)
    assert_close(w, expected, TOLERANCES["float64"])


# Refused


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda ps: torch.optim.SGD(ps, lr=0.1),
            "maximize=False.*Give it either maximize=True or a neg",
        ),
        (lambda ps: torch.optim.Adam(ps, lr=torch.tensor(0.1)), "maximize=True or a negative lr"),
        (
            lambda ps: torch.optim.AdamW([{"params": ps, "lr": -0.1}], maximize=True),
            "maximize=True and lr=-0.1",
        ),
        (lambda ps: torch.optim.LBFGS(ps), "LBFGS with no maximize and lr=1. Give it a negative"),
        (lambda ps: Lion(ps), "Lion with no maximize and lr=0.001. Give it a negative lr"),
        (lambda ps: torch.optim.Rprop([{"params": ps, "lr": -0.1}]), "Give it maximize=True. What"),
    ],
)
def test_a_group_that_descends_is_refused(make, says):
    with pytest.raises(ValueError, match=f"group 0 of optimizer must ascend.*{says}"):
        optim.norm_dependent(make([weight()]))


def test_the_group_that_descends_is_named_also_when_it_does_so_later():
    w, other = weight(), weight()
    optimizer = torch.optim.SGD([{"params": [w]}, {"params": [other]}], **UP)
    optim.norm_dependent(optimizer)
    optimizer.param_groups[1]["maximize"] = False
    with pytest.raises(ValueError, match="group 1 of optimizer must ascend"):
        step(optimizer, GRADIENT)
    lr = torch.tensor(-0.1)
    optimizer = torch.optim.SGD([{"params": [w], "lr": lr}], lr=0)
    optim.norm_dependent(optimizer)
    lr.fill_(0.1)
    with pytest.raises(ValueError, match="group 0 of optimizer must ascend"):
        step(optimizer, GRADIENT)
    assert torch.equal(w, weight())


def test_a_line_search_is_refused():
    group = {"params": [weight()], "lr": -0.1}
    optimizer = torch.optim.LBFGS([group], line_search_fn="strong_wolfe")
    with pytest.raises(ValueError, match=r"must not search along a line.*'strong_wolfe'"):
        optim.norm_dependent(optimizer)


def test_rates_that_are_per_neuron_already_are_refused():
    optimizer = optim.TensorLRSGD([{"params": [weight()], "lr": -0.1}], lr=0)
    optim.WeightNormDependentLR(optimizer, 0.5)
    with pytest.raises(ValueError, match=r"one lr for all neurons; got one of shape \(3, 1\)"):
        optim.norm_dependent(optimizer)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([()], r"a weight before its bias; got a parameter of shape \(\) first"),
        ([(4,), (4, 2)], r"a weight before its bias; got a parameter of shape \(4,\) first"),
        ([(4, 2), ()], r"weight of shape \(4, 2\) got a parameter of shape \(\)"),
        ([(4, 2), (3,)], r"weight of shape \(4, 2\) got a parameter of shape \(3,\)"),
        ([(4, 2), (4,), (1,)], r"weight of shape \(4, 2\) got a parameter of shape \(1,\)"),
    ],
)
def test_parameters_without_neurons_are_refused_at_once(shapes, says):
    params = [nn.Parameter(torch.ones(shape)) for shape in shapes]
    with pytest.raises(ValueError, match=f"group 0 of optimizer.*{says}"):
        optim.norm_dependent(torch.optim.SGD(params, **UP))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"lr_power": "0.5"}, TypeError, "lr_power must be a number; got '0.5'"),
        ({"lr_power": math.nan}, ValueError, "lr_power must be finite; got nan"),
        ({"lebesgue_p": 0.5}, ValueError, "lebesgue_p must be at least 1"),
        ({"optimizer": nn.Linear(2, 2)}, TypeError, "optimizer must be a torch.optim.Optimizer"),
    ],
)
def test_arguments_that_do_not_fit(arguments, error, says):
    given = {"optimizer": torch.optim.SGD([weight()], **UP)} | arguments
    with pytest.raises(error, match=says):
        optim.norm_dependent(**given)


class Wrapper(torch.optim.Optimizer):
    """An optimizer in name, as some libraries wrap them."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer


@pytest.mark.parametrize("add", [optim.norm_dependent, lambda o: optim.gradient_noise(o, 0.1)])
def test_a_wrapper_without_hooks_is_refused(add):
    with pytest.raises(TypeError, match="of a wrapper the one inside; got Wrapper"):
        add(Wrapper(torch.optim.SGD([weight()], **UP)))
