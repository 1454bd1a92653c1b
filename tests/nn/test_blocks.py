from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from softhebb_fast import RePU, SoftHebbBlock, SoftHebbConv2d, SoftHebbLinear, Triangle
from softhebb_fast.nn import Block
from tests.tolerances import TOLERANCES, assert_close


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 + 3 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def parts_called(block: nn.Module, x: torch.Tensor) -> list[str]:
    called = []
    for name, part in block.named_children():
        part.register_forward_hook(lambda *_, name=name: called.append(name))
    block(x)
    return called


def test_the_published_order():
    block = SoftHebbBlock(2, 6, 3, padding=1, pool=nn.AvgPool2d(2))
    assert parts_called(block, images(3, 2, 8, 8)) == ["norm", "layer", "activation", "pool"]
    assert isinstance(block.norm, nn.BatchNorm2d)
    assert not block.norm.affine
    assert isinstance(block.layer, SoftHebbConv2d)
    assert isinstance(block.activation, Triangle)
    assert block.activation.power == 1


def test_the_whole_block_is_the_published_formula():
    block = SoftHebbBlock(
        2, 6, 3, padding=1, activation=Triangle(0.7), pool=nn.MaxPool2d(4, 2, 1),
        dtype=torch.float64,
    )  # fmt: skip
    x = images(3, 2, 8, 8).double()
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    normed = (x - mean) / (var + 1e-5).sqrt()
    u = F.conv2d(F.pad(normed, (1, 1, 1, 1), "reflect"), block.layer.weight)
    expected = F.max_pool2d(F.relu(u - u.mean(1, keepdim=True)) ** 0.7, 4, 2, 1)
    assert_close(block(x), expected, TOLERANCES["float64"])


def test_shapes_of_the_published_cifar_net():
    net = nn.Sequential(
        SoftHebbBlock(3, 6, 5, padding=2, pool=nn.MaxPool2d(4, 2, 1)),
        SoftHebbBlock(6, 8, 3, padding=1, pool=nn.MaxPool2d(4, 2, 1)),
        SoftHebbBlock(8, 10, 3, padding=1, pool=nn.AvgPool2d(2, 2)),
    )
    x, shapes = images(2, 3, 32, 32), []
    for block in net:
        x = block(x)
        shapes.append(tuple(x.shape))
    assert shapes == [(2, 6, 16, 16), (2, 8, 8, 8), (2, 10, 4, 4)]


def test_running_statistics_are_kept_in_training_and_used_in_evaluation():
    block, x = SoftHebbBlock(2, 4, 1), images(5, 2, 3, 3)
    block(x)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    assert block.norm.running_mean.tolist() == pytest.approx((0.1 * mean).tolist())
    assert block.norm.running_var.tolist() == pytest.approx((0.9 + 0.1 * var).tolist())
    state = {k: v.clone() for k, v in block.state_dict().items()}
    u = block.eval().norm(x)
    scale = (block.norm.running_var + 1e-5).sqrt().view(1, -1, 1, 1)
    assert_close(
        u, (x - block.norm.running_mean.view(1, -1, 1, 1)) / scale, TOLERANCES["float32_u"]
    )
    block(images(5, 2, 3, 3, seed=1))
    assert all(torch.equal(v, state[k]) for k, v in block.state_dict().items())


def test_state_names():
    assert list(SoftHebbBlock(2, 4, 3, bias=True).state_dict()) == [
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
        "layer.weight",
        "layer.bias",
    ]
    assert list(SoftHebbBlock(2, 4, 3, batch_norm=False).state_dict()) == ["layer.weight"]


def test_parts_may_be_chosen_or_left_out():
    x = images(3, 2, 8, 8)
    block = SoftHebbBlock(2, 4, 3, activation=RePU(2.0), batch_norm=False)
    assert parts_called(block, x) == ["layer", "activation"]
    u = block.layer.eval()(x)
    assert torch.equal(block.eval()(x), F.relu(u) ** 2)
    plain = SoftHebbBlock(2, 4, 3, activation=nn.Identity(), batch_norm=False).eval()
    assert torch.equal(plain(x), plain.layer(x))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(4, 2, 1), nn.MaxPool2d(2), nn.AvgPool2d(2)])
def test_rectifying_after_the_maximum_gives_the_same_bits(pool):
    conv, relu = nn.Conv2d(2, 4, 3, padding=1), nn.ReLU()
    x = images(3, 2, 8, 8) - 3.5
    x[0, :, :4] = x[1, :, 0, 0].view(2, 1, 1)  # equal maxima
    there, here = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = pool(relu(conv(there)))
    out = Block(conv, activation=relu, pool=pool)(here)
    assert torch.equal(out, expected)
    grad = images(*out.shape, seed=1)
    assert torch.equal(
        *(torch.autograd.grad(y, z, grad)[0] for y, z in ((out, here), (expected, there)))
    )
    assert (expected == 0).any()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_gradients_have_the_memory_format_of_the_map(layout):
    seen = []
    block = Block(nn.Conv2d(2, 4, 3, padding=1), pool=nn.MaxPool2d(2)).to(memory_format=layout)
    block.pool.register_full_backward_hook(lambda _, before, after: seen.extend((*before, *after)))
    x = images(3, 2, 8, 8).to(memory_format=layout)
    flat = block(x).flatten(1)
    flat.backward(torch.ones_like(flat))
    assert len(seen) == 2
    assert all(grad.is_contiguous(memory_format=layout) for grad in seen)


def test_a_block_of_any_layer():
    linear = SoftHebbLinear(18, 4)
    block = Block(linear, norm=nn.Flatten(), activation=Triangle())
    assert parts_called(block, images(5, 2, 3, 3)) == ["norm", "layer", "activation"]
    assert linear.weight.grad is not None
    alone = Block(linear).eval()
    x = images(5, 18)
    assert torch.equal(alone(x), linear(x))


def test_positional_arguments_and_options_reach_the_layer():
    block = SoftHebbBlock(
        4, 6, 3, 2, 1, 2, 2, 0.5, wta="soft", update="in_place", lr=0.1, dtype=torch.float64
    )
    layer = block.layer
    assert (layer.stride, layer.padding, layer.dilation) == ((2, 2), (1, 1), (2, 2))
    assert (layer.groups, layer.t_invert, layer.wta, layer.lr) == (2, 0.5, "soft", 0.1)
    assert layer.weight.dtype == block.norm.running_mean.dtype == torch.float64
    start = layer.weight.detach().clone()
    block(images(3, 4, 9, 9).double())
    assert not torch.equal(layer.weight, start)
    assert SoftHebbBlock(4, 6, 3, device="meta").norm.running_mean.is_meta


def test_errors_are_those_of_the_layer():
    with pytest.raises(ValueError, match="wta must be one of"):
        SoftHebbBlock(2, 4, 3, wta="krotov")
    with pytest.raises(ValueError, match="out_channels must be at least 1"):
        SoftHebbBlock(2, 0, 3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'power'"):
        SoftHebbBlock(2, 4, 3, power=0.7)
