"""Steps that would reach nothing, or the wrong thing: refused with advice, or made right."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from softhebb_fast import SoftHebbBlock
from tests.nn.layers import IN_PLACE, batch, make, moved, product
from tests.tolerances import TOLERANCES, assert_close

UPDATES = pytest.mark.parametrize("options", [{}, IN_PLACE], ids=["grad", "in_place"])


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def to_buffer(layer: nn.Module) -> None:
    weight = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", weight)


def to_tensor(layer: nn.Module) -> None:
    weight = layer.weight.detach()
    del layer.weight
    layer.weight = weight


def to_product(layer: nn.Module) -> None:
    """As nn.utils.weight_norm has done, by hand."""
    weight = nn.Parameter(layer.weight.detach())
    del layer.weight
    layer.halved = weight
    layer.weight = 2 * weight


COMPUTED = {
    "weight_norm": (parametrizations.weight_norm, "remove_parametrizations"),
    "spectral_norm": (parametrizations.spectral_norm, "remove_parametrizations"),
    "orthogonal": (parametrizations.orthogonal, "remove_parametrizations"),
    "own": (
        lambda layer: nn.utils.parametrize.register_parametrization(layer, "weight", Doubled()),
        "remove_parametrizations",
    ),
    "old_weight_norm": (nn.utils.weight_norm, "remove_weight_norm"),
    "old_spectral_norm": (nn.utils.spectral_norm, "remove_spectral_norm"),
    "pruned": (lambda layer: prune.random_unstructured(layer, "weight", 0.5), "prune.remove"),
    "buffer": (to_buffer, "it is a buffer. Replace it by torch.nn.Parameter"),
    "tensor": (to_tensor, "it is a plain tensor. Replace it by torch.nn.Parameter"),
    "product": (to_product, "it is a plain tensor"),
}


@UPDATES
@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_a_weight_that_is_no_parameter_cannot_learn(kind, name, options):
    change, advice = COMPUTED[name]
    layer, x = make(kind, **options), batch(kind)
    change(layer)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(TypeError, match=r"weight must be a parameter of the layer itself") as error:
        layer(x)
    assert advice in str(error.value)
    assert "layer.eval()" in str(error.value)
    if "spectral" not in name:  # its power iteration goes on
        assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    u = layer.eval()(x)
    assert_close(u, product(layer, x, layer.weight), TOLERANCES["float32_u"])


@UPDATES
def test_a_bias_that_is_no_parameter_cannot_learn(kind, options):
    layer, x = make(kind, bias=True, **options), batch(kind)
    nn.utils.parametrize.register_parametrization(layer, "bias", Doubled())
    start = layer.weight.detach().clone()
    with pytest.raises(TypeError, match="bias must be a parameter of the layer itself"):
        layer(x)
    assert torch.equal(layer.weight, start)
    nn.utils.parametrize.remove_parametrizations(layer, "bias")
    layer(x)
    assert moved(layer, start) if options else layer.bias.grad is not None


@UPDATES
def test_a_computed_weight_that_is_frozen_is_a_plain_one(kind, options):
    layer, x = make(kind, **options), batch(kind)
    parametrizations.weight_norm(layer)
    layer.requires_grad_(False)
    assert_close(layer(x), product(layer, x, layer.weight), TOLERANCES["float32_u"])


def test_a_bias_may_be_a_buffer(kind):
    layer, x = make(kind, bias=True, **IN_PLACE), batch(kind)
    bias, start = layer.bias.detach().clone(), layer.weight.detach().clone()
    del layer.bias
    layer.register_buffer("bias", bias)
    layer(x)
    assert moved(layer, start)
    assert torch.equal(layer.bias, bias)


@UPDATES
def test_a_replaced_parameter_learns(kind, options):
    layer, x = make(kind, **options), batch(kind)
    layer(x)
    layer.weight = nn.Parameter(make(kind, seed=1).weight.detach().clone())
    start = layer.weight.detach().clone()
    layer(x)
    assert moved(layer, start) if options else layer.weight.grad is not None


def test_a_parametrized_layer_in_a_block_is_refused():
    block = SoftHebbBlock(3, 8, 3, **IN_PLACE)
    parametrizations.weight_norm(block.layer)
    with pytest.raises(TypeError, match="remove_parametrizations"), torch.no_grad():
        block(torch.randn(2, 3, 6, 6))


def test_replicas_of_data_parallel_are_refused(kind):
    layer = make(kind, **IN_PLACE)
    replica = layer._replicate_for_data_parallel()
    replica._parameters = {"bias": None}
    replica.weight = layer.weight * 1
    with pytest.raises(TypeError, match=r"nn\.DataParallel.*synchronise"):
        replica(batch(kind))


# Views of a weight


def test_an_expanded_weight_is_not_stepped(kind):
    for backend in ("auto", "reference"):
        layer, x = make(kind, backend=backend, **IN_PLACE), batch(kind)
        one = layer.weight.detach()[:1].clone()
        layer.weight.data = one.expand_as(layer.weight)
        before = one.clone()
        with pytest.raises(ValueError, match="weight must not be expanded"):
            layer(x)
        assert torch.equal(one, before)


def test_a_view_of_another_tensor_is_stepped_through(kind):
    layer, x = make(kind, **IN_PLACE), batch(kind)
    twin = copy.deepcopy(layer)
    wide = torch.zeros(2, *layer.weight.shape)
    wide[1] = layer.weight.detach()
    strided = torch.zeros(*layer.weight.shape, 2)
    strided[..., 1] = layer.weight.detach()
    twin(x)
    for view in (wide[1], strided[..., 1]):
        other = copy.deepcopy(layer)
        other.weight.data = view
        other(x)
        assert other.weight.data_ptr() == view.data_ptr()
        assert torch.equal(view, twin.weight)
    assert not wide[0].any()
    assert not strided[..., 0].any()


# Activation checkpointing


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpointed_layer_with_an_optimizer_is_as_without(kind, use_reentrant):
    results = []
    for wrap in (lambda f, x: f(x), functools.partial(checkpoint, use_reentrant=use_reentrant)):
        torch.manual_seed(0)
        first, second = make(kind, bias=True), nn.LazyLinear(2)
        x, y = batch(kind).requires_grad_(), batch(kind, 1).requires_grad_()
        loss = second(wrap(first, x)).square().sum() + second(wrap(first, y)).square().sum()
        first.weight.grad *= 2  # as clipping might, before the backward pass
        loss.backward()
        results.append([x.grad, y.grad, first.weight.grad, first.bias.grad, second.weight.grad])
    for with_it, without in zip(*results, strict=True):
        assert torch.equal(with_it, without)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpointed_layer_that_steps_in_place_is_refused(kind, use_reentrant):
    layer, x = make(kind, **IN_PLACE), batch(kind).requires_grad_()
    u = checkpoint(layer, x, use_reentrant=use_reentrant)
    stepped = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"checkpointing.*update='grad'"):
        u.square().sum().backward()
    assert torch.equal(layer.weight, stepped)
    checkpoint(layer.eval(), x, use_reentrant=use_reentrant).square().sum().backward()
    assert x.grad is not None


def test_a_checkpointed_block_that_steps_in_place_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), SoftHebbBlock(3, 8, 3, **IN_PLACE))
    u = checkpoint(net, torch.randn(2, 3, 6, 6), use_reentrant=False)
    with pytest.raises(RuntimeError, match=r"checkpointing"):
        u.sum().backward()


def test_a_step_invalidates_what_autograd_saved_before(kind):
    layer, x = make(kind, **IN_PLACE), batch(kind).requires_grad_()
    u = layer.eval()(x)
    layer.train()(batch(kind, 1))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        u.sum().backward()


# Gradients of gradients, and torch.func


@UPDATES
def test_a_layer_that_learns_is_differentiated_twice(kind, options):
    layer, x = make(kind, dtype=torch.float64, **options), batch(kind, dtype=torch.float64)
    weight, x = layer.weight.detach().clone(), x.requires_grad_()

    def penalty(u: torch.Tensor) -> torch.Tensor:
        gradient = torch.autograd.grad(u.pow(3).sum(), x, create_graph=True)[0]
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    assert_close(penalty(layer(x)), penalty(product(layer, x, weight)), TOLERANCES["float64"])


TRANSFORMS = {
    "grad": lambda f, x: torch.func.grad(lambda x: f(x).sum())(x),
    "vmap": lambda f, x: torch.func.vmap(f)(x.unsqueeze(0)),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x,))[1],
    "vjp": lambda f, x: torch.func.vjp(f, x)[1](f(x).detach())[0],
    "jacrev": lambda f, x: torch.func.jacrev(f)(x),
    "jacfwd": lambda f, x: torch.func.jacfwd(f)(x),
}


@UPDATES
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_a_layer_that_learns_are_refused(kind, name, options):
    layer, x = make(kind, **options), batch(kind)
    start = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"torch\.func.*layer\.eval\(\)"):
        TRANSFORMS[name](layer, x)
    assert torch.equal(layer.weight, start)
    assert layer.weight.grad is None
    layer.eval()
    plain = functools.partial(product, layer, weight=layer.weight)
    expected = TRANSFORMS[name](lambda x: plain(x), x)
    assert_close(TRANSFORMS[name](layer, x), expected, TOLERANCES["float32_u"])


@UPDATES
def test_forward_mode_through_a_layer_that_learns_is_refused(kind, options):
    layer, x = make(kind, **options), batch(kind)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(RuntimeError, match="forward-mode"):
            layer(dual)
        assert forward_ad.unpack_dual(layer.eval()(dual)).tangent is not None
    layer.train()(x)


@UPDATES
def test_functional_call_evaluates_and_learns_into_parameters_alone(kind, options):
    layer, x = make(kind, **options), batch(kind)
    other = make(kind, seed=1).weight.detach()
    start = layer.weight.detach().clone()
    with pytest.raises(TypeError, match="it is a plain tensor"):
        torch.func.functional_call(layer, {"weight": other}, (x,))
    parameter = nn.Parameter(other.clone())
    torch.func.functional_call(layer, {"weight": parameter}, (x,))
    learned = parameter.grad is not None if not options else not torch.equal(parameter, other)
    assert learned
    assert torch.equal(layer.weight, start)
    assert layer.weight.grad is None
    u = torch.func.functional_call(layer.eval(), {"weight": other}, (x,))
    assert_close(u, product(layer, x, other), TOLERANCES["float32_u"])


def test_transforms_of_a_block_see_its_gradient():
    block = SoftHebbBlock(3, 8, 3, batch_norm=False).eval().requires_grad_(False)
    x = torch.randn(2, 3, 6, 6)
    twin = x.clone().requires_grad_()
    block(twin).square().sum().backward()
    gradient = torch.func.grad(lambda x: block(x).square().sum())(x)
    assert twin.grad.any()
    assert_close(gradient, twin.grad, TOLERANCES["float32_u"])


# What changes between two steps


@pytest.mark.parametrize("first", [torch.float32, torch.float64])
def test_a_layer_that_has_learned_tells_of_16_bits_once_it_has_them(kind, first):
    """Its parameter is the same object as before."""
    layer = make(kind, dtype=first, **IN_PLACE)
    layer(batch(kind, dtype=first))
    layer.half()
    with pytest.warns(UserWarning, match="steps below half the spacing of such numbers are lost"):
        layer(batch(kind, dtype=torch.float16))


@pytest.mark.parametrize("name", ["update", "rounding"])
def test_an_option_that_is_set_to_nothing_known_is_refused(kind, name):
    layer, x = make(kind, **IN_PLACE), batch(kind)
    layer(x)
    before = layer.weight.detach().clone()
    setattr(layer, name, "by magic")
    with pytest.raises(ValueError, match=f"{name} must be one of"):
        layer(x)
    assert not moved(layer, before)
    assert layer.weight.grad is None
