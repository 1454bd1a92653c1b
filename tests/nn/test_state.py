"""What a user expects of any module: state, copies, dtypes, devices, modes."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from softhebb_fast import SoftHebbLinear
from tests.nn.layers import IN_PLACE, LAYERS, batch, make, moved, product


@pytest.mark.parametrize("bias", [False, True])
def test_the_state_is_weight_and_bias(kind, bias):
    layer = make(kind, bias=bias)
    layer(batch(kind))
    names = ["weight", "bias"] if bias else ["weight"]
    assert list(layer.state_dict()) == names
    assert [name for name, _ in layer.named_parameters()] == names
    assert list(layer.buffers()) == []


def test_loaded_weights_are_stepped_by_their_own_norms(kind):
    old, new = make(kind, **IN_PLACE), make(kind, seed=1, radius=30.0, **IN_PLACE)
    old(batch(kind))
    new.load_state_dict(old.state_dict())
    assert torch.equal(new.learning_rates(), old.learning_rates())
    assert torch.equal(new.norms(), old.norms())
    for layer in (old, new):
        layer(batch(kind, 1))
    assert torch.equal(new.weight, old.weight)


def saved(layer: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def saved_state(layer: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    new = copy.deepcopy(layer)
    new.reset_parameters()
    new.load_state_dict(torch.load(file, weights_only=True))
    return new


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), saved, saved_state]
)
def test_copies_go_on_as_the_original_and_apart_from_it(kind, duplicate):
    layer = make(kind, bias=True, **IN_PLACE)
    layer(batch(kind))
    other = duplicate(layer)
    layer(batch(kind, 1))
    assert moved(other, layer.weight)
    other(batch(kind, 1))
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(other.bias, layer.bias)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_layers_move_between_dtypes(kind, dtype):
    for options in ({}, IN_PLACE):
        layer, x = make(kind, bias=True, **options).to(dtype), batch(kind, dtype=dtype)
        start = layer.weight.detach().clone()
        assert layer(x).dtype == layer.weight.dtype == layer.bias.dtype == dtype
        assert layer.eval()(x).dtype == dtype
        if options:
            assert moved(layer, start)
            assert layer.weight.isfinite().all()
        else:
            assert layer.weight.grad.dtype == layer.bias.grad.dtype == dtype
        assert layer.norms().dtype == torch.promote_types(dtype, torch.float32)
        assert layer.convergence()[0] == pytest.approx(float((layer.norms() - 1).abs().mean()))


def test_input_of_another_dtype_is_refused_with_advice(kind):
    for layer in (make(kind), make(kind).eval()):
        with pytest.raises(TypeError, match=r"x must have the dtype of weight.*x\.to"):
            layer(batch(kind, dtype=torch.float64))


def test_meta_layers_give_shapes_and_come_alive(kind):
    x = batch(kind)
    shape = make(kind)(x).shape
    for layer in (make(kind, bias=True).to("meta"), LAYERS[kind][0](bias=True, device="meta")):
        for mode in (True, False):
            assert layer.train(mode)(x.to("meta")).shape == shape
        layer = layer.train().to_empty(device="cpu")
        layer.reset_parameters(torch.Generator().manual_seed(0))
        layer(x)
        assert layer.weight.grad.isfinite().all()


def test_autocast_lowers_evaluation_but_not_learning(kind):
    layer, x = make(kind), batch(kind)
    plain, update = layer(x), layer.weight.grad
    with torch.autocast("cpu", dtype=torch.bfloat16):
        u = layer(x)
        assert u.dtype == torch.float32
        assert torch.equal(u, plain)
        assert torch.equal(layer.weight.grad, update)
        assert layer(x.bfloat16()).dtype == torch.float32
        assert layer.eval()(x).dtype == torch.bfloat16
        assert torch.equal(layer(x), product(layer, x, layer.weight).reshape(u.shape))


def test_train_and_eval_return_the_layer(kind):
    layer = make(kind)
    assert layer.training
    assert layer.eval() is layer
    assert not layer.training
    assert layer.train() is layer
    assert layer.train(False) is layer
    assert not layer.training


def test_layers_learn_inside_a_sequential():
    parts = [make("linear", **IN_PLACE), nn.ReLU(), SoftHebbLinear(8, 5, **IN_PLACE)]
    twins = copy.deepcopy(parts)
    x = batch("linear")
    net = nn.Sequential(*parts)
    u = net(x)
    for part in twins:
        x = part(x)
    assert torch.equal(u, x)
    assert torch.equal(net[2].weight, twins[2].weight)
    assert list(net.state_dict()) == ["0.weight", "2.weight"]


@pytest.mark.parametrize("options", [{}, IN_PLACE], ids=["grad", "in_place"])
def test_compiled_layers_learn_the_same(kind, options):
    torch._dynamo.reset()
    layer, x = make(kind, bias=True, **options), batch(kind)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), twin(x))
    assert torch.equal(layer.weight, twin.weight)
    for p, q in zip(layer.parameters(), twin.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.equal(p.grad, q.grad)
