"""What layers take as x: images without a batch, paddings in words, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from softhebb_fast import (
    SoftHebbBlock,
    SoftHebbConv1d,
    SoftHebbConv2d,
    SoftHebbLinear,
    Triangle,
    functional,
    models,
)
from softhebb_fast.nn import Block

LAYERS = {
    "conv2d": (lambda **o: SoftHebbConv2d(3, 4, 3, pre_triangle=True, **o), (3, 6, 7)),
    "conv1d": (lambda **o: SoftHebbConv1d(3, 4, 3, **o), (3, 8)),
    "linear": (lambda **o: SoftHebbLinear(5, 4, **o), (5,)),
    "block": (lambda **o: SoftHebbBlock(3, 4, 3, pool=nn.MaxPool2d(2), **o), (3, 6, 7)),
    "no norm": (lambda **o: SoftHebbBlock(3, 4, 3, batch_norm=False, **o), (3, 6, 7)),
    "sequences": (lambda **o: Block(SoftHebbConv1d(3, 4, 3, **o), activation=Triangle()), (3, 8)),
    "rows": (lambda **o: Block(SoftHebbLinear(5, 4, **o), activation=Triangle()), (5,)),
}


@pytest.mark.parametrize("mode", ["grad", "in_place", "eval", "with a graph"])
@pytest.mark.parametrize("kind", LAYERS)
def test_one_image_is_a_batch_of_one(kind, mode):
    make, shape = LAYERS[kind]
    options = {"update": "in_place", "lr": 0.1} if mode == "in_place" else {}
    x, found = torch.randn(shape), []
    for one in (x, x.unsqueeze(0)):
        torch.manual_seed(0)
        module = make(**options).train(mode != "eval")
        with torch.set_grad_enabled(mode == "with a graph"):
            out = module(one.clone().requires_grad_(mode == "with a graph"))
        layer = getattr(module, "layer", module)
        found.append((out, layer.weight, layer.weight.grad))
    (out, weight, grad), (batch, *expected) = found
    assert out.shape == batch.shape[1:]
    assert torch.equal(out, batch[0])
    assert torch.equal(weight, expected[0])
    assert (grad is None and expected[1] is None) or torch.equal(grad, expected[1])


def test_functions_and_networks_take_one_image():
    x, w = torch.randn(3, 6, 6), torch.randn(4, 3, 3, 3)
    out, batch = functional.softhebb_conv2d(x, w), functional.softhebb_conv2d(x[None], w)
    assert torch.equal(out.u, batch.u[0])
    y = functional.soft_wta(batch.u)
    direction = functional.hebbian_update(x[None], y, batch.u, w)
    assert torch.equal(functional.hebbian_update(x, y[0], batch.u[0], w), direction)
    net = models.build("2SoftHebbCnnCIFAR", (3, 32, 32), 10).eval()
    image = torch.randn(3, 32, 32)
    assert torch.equal(net(image), net(image[None])[0])


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("kernel", [3, 4, (2, 5), (1, 2)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_paddings_in_words_are_those_of_torch(padding, kernel, mode):
    options = {"padding": padding, "padding_mode": mode, "dilation": (1, 2), "groups": 2}
    ours, theirs = (
        kind(4, 6, kernel, bias=False, **options) for kind in (SoftHebbConv2d, nn.Conv2d)
    )
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
    x = torch.randn(2, 4, 9, 11)
    expected = theirs(x)
    torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(ours.eval()(x), expected)
    assert padding == "valid" or expected.shape[2:] == x.shape[2:]
    # The step is that of the same layer on an x that was padded before.
    sides = theirs._reversed_padding_repeated_twice if padding == "same" else [0] * 4
    padded = F.pad(x, sides, "constant" if mode == "zeros" else mode)
    alone = functional.softhebb_conv2d(padded, ours.weight, dilation=(1, 2), groups=2)
    torch.testing.assert_close(ours.weight.grad, alone.delta_w)
    torch.testing.assert_close(functional.softhebb_conv2d(x, ours.weight, **options).u, expected)


def test_a_block_fuses_with_any_padding():
    block = (
        SoftHebbBlock(3, 4, 4, padding="same", pool=nn.AvgPool2d(2)).eval().requires_grad_(False)
    )
    x = torch.randn(2, 3, 8, 8)
    apart = block.pool(block.activation(block.layer(block.norm(x))))
    torch.testing.assert_close(block(x), apart)


STRANGERS = {
    "array": np.ones((2, 3, 6, 6), np.float32),
    "list": [[1.0]],
    "None": None,
    "int": 3,
    "sparse": torch.ones(2, 3, 6, 6).to_sparse(),
    "complex": torch.ones(2, 3, 6, 6, dtype=torch.complex64),
    "bytes": torch.ones(2, 3, 6, 6, dtype=torch.uint8),
    "bool": torch.ones(2, 3, 6, 6, dtype=torch.bool),
    "quantised": torch.quantize_per_tensor(torch.ones(2, 3, 6, 6), 0.1, 0, torch.qint8),
    "meta": torch.ones(2, 3, 6, 6, device="meta"),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_dense_real_tensor_is_named(name, training):
    x = STRANGERS[name]
    layer = SoftHebbConv2d(3, 4, 3).train(training)
    for take in (layer, Block(layer, activation=Triangle())):
        with pytest.raises(TypeError, match=r"^x must"):
            take(x)
    with pytest.raises(TypeError, match=r"^x must"):
        functional.softhebb_conv2d(x, layer.weight)
