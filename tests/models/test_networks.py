"""The ordinary networks: sizes as published, and what their starts compute."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from softhebb_fast.init import symmetry
from softhebb_fast.models import NETWORKS, network
from softhebb_fast.models.parts import OpenReLU, Scalars
from tests.tolerances import TOLERANCES

MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
BOTTLENECKS = {"blocks": (3, 4, 6, 3), "bottleneck": True}
SCHICHO = {**BOTTLENECKS, "bias": True, "activation": "elu", "first_norm": False}
PARAMETERS = [
    ("perceptron", MNIST, {}, 397_510),
    ("perceptron", CIFAR, {"hidden": (512, 256, 128)}, 1_738_890),
    ("mnist_cnn", MNIST, {}, 264_138),
    ("cifar_cnn", CIFAR, {}, 5_852_234),
    ("resnet", CIFAR, {}, 11_173_962),
    ("resnet", CIFAR, SCHICHO, 23_539_850),
    ("constnet", CIFAR, {"widen": 1}, 174_938),
    ("constnet", CIFAR, {"widen": 10}, 17_115_354),
]


@pytest.mark.parametrize(("name", "shape", "options", "count"), PARAMETERS)
def test_parameters_as_published(name, shape, options, count):
    with torch.device("meta"):
        net = NETWORKS[name](shape, 10, **options) if name != "constnet" else None
    net = net or network(name, shape, 10, **options)
    assert sum(p.numel() for p in net.parameters()) == count


SMALL = [
    ("perceptron", {"hidden": [7, 5], "activation": "relu", "bias": False, "dropout": 0.1}),
    ("mnist_cnn", {"width": 0.25, "dropout": 0.1}),
    ("cifar_cnn", {"width": 0.05}),
    ("resnet", {"width": 4, "norm": "scalar", "stem_stride": 2, "dropout": 0.1}),
    ("resnet", {"width": 4, "blocks": [1, 1], "bottleneck": True, "norm": "none"}),
    ("zero_resnet", {"width": 4, "blocks": [1, 1, 1]}),
    ("zero_resnet", {"width": 4, "blocks": [1, 2], "bottleneck": True, "stem_stride": 2}),
    ("constnet", {"widen": 1, "dropout": 0.1}),
    ("leakynet", {"widen": 1}),
]


@pytest.mark.parametrize(("name", "options"), SMALL, ids=lambda v: str(v))
def test_logits_and_gradients(name, options):
    net = network(name, CIFAR, 7, **options)
    logits = net(torch.rand(2, *CIFAR))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_blocks_and_depth():
    deep = network("resnet", CIFAR, 10, blocks=[18] * 3, width=8)
    layers = [m for m in deep.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(layers) == 109
    schicho = network("resnet", CIFAR, 10, **SCHICHO | {"width": 4})
    first, second = schicho[3].branch[0], schicho[3].branch[1]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.ELU)


def test_zero_resnet_starts_as_the_image_mixed():
    """Behind zero branches the maps are the image times orthonormal matrices."""
    net = network("zero_resnet", CIFAR, 10, width=8, blocks=(2, 2))
    x = torch.randn(3, *CIFAR)
    mixed = net[0](x)
    torch.testing.assert_close(mixed.square().sum(1), x.square().sum(1))
    maps = net[:5](x)
    assert maps.shape == (3, 16, 16, 16)
    torch.testing.assert_close(maps.square().sum(1), x[:, :, ::2, ::2].square().sum(1))
    assert not net(x).any()
    with pytest.raises(ValueError, match="powers of two; got 12"):
        network("zero_resnet", CIFAR, 10, width=12)


def test_open_relu_passes_a_gradient_at_zero():
    x = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    y = OpenReLU()(x)
    y.sum().backward()
    assert y.tolist() == [0, 0, 2]
    assert x.grad.tolist() == [0, 1, 1]


def test_scalars_start_as_nothing():
    x = torch.randn(2, 3)
    assert torch.equal(Scalars()(x), x)


def test_constnet_has_the_published_variances():
    net = network("constnet", CIFAR, 10, widen=4)
    for conv, variance in (
        (net[0], 1 / (9 * 16)),
        (net[1].conv, 2 / (9 * 64)),
        (net[5].skip, 1 / 128),
        (net[12].conv, 2 / (9 * 256)),
    ):
        assert conv.weight.var().item() == pytest.approx(variance, rel=0.2)
    assert net[2].skip is None
    assert not net[-1].weight.any()


def test_leakynet_follows_its_code():
    net = network("leakynet", CIFAR, 10, widen=1, codes="1_ii1h_iiii_iiii")
    convs = [m for m in net if isinstance(m, nn.Conv2d)]
    assert torch.equal(convs[0].weight[:, :, 1, 1], torch.full((16, 3), 1 / 3))
    assert torch.equal(convs[1].weight[:, :, 1, 1], torch.eye(16))
    assert torch.equal(convs[2].weight[:, :, 1, 1], -100 * torch.eye(16))
    assert (convs[3].weight[:, :, 1, 1] == 1 / 16).all()
    assert convs[4].weight.std() > 1
    wide = convs[5].weight[:, :, 1, 1]  # 16 channels to 32
    assert torch.equal(wide, torch.eye(16).repeat(2, 1))
    x = torch.randn(2, 16, 5, 5)
    assert (net[2:6](x) + x).abs().max() < TOLERANCES["float32_u"]
    assert symmetry(net, ranks=False)["0.weight"].deviation == 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (3, {}, "name must be one of perceptron"),
        ("convnet", {}, "name must be one of perceptron"),
        ("constnet", {"depth": 3}, r"options of constnet must be among widen, dropout; got \['de"),
        ("perceptron", {"activation": "tanh"}, "activation must be one of relu, elu; got 'tanh'"),
        ("resnet", {"norm": "layer"}, "norm must be one of batch, scalar, none; got 'layer'"),
        ("leakynet", {"codes": "1iii"}, "codes must be 13 of i, 1, h; got '1iii'"),
        ("leakynet", {"codes": "x" * 13}, "codes must be 13 of i, 1, h"),
        ("leakynet", {"widen": -1}, "widen must be at least 1; got -1"),
        ("constnet", {"widen": 0}, "widen must be at least 1; got 0"),
        ("cifar_cnn", {"width": 0}, "width must be a positive, finite number; got 0"),
        ("cifar_cnn", {"width": math.nan}, "width must be a positive, finite number; got nan"),
        ("perceptron", {"hidden": [-1]}, "hidden must be at least 1; got -1"),
        ("perceptron", {"dropout": 1}, "dropout must be at least 0 and below 1; got 1"),
        ("zero_resnet", {"width": 12}, "width must make all channels powers of two; got 12"),
    ],
)
def test_mistakes(name, options, message):
    with pytest.raises(ValueError, match=message):
        network(name, CIFAR, 10, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("constnet", {"widen": 1.5}, "widen must be an int; got 1.5"),
        ("leakynet", {"codes": 3}, "codes must be a str; got 3"),
        ("perceptron", {"dropout": "a"}, "dropout must be a number; got 'a'"),
        ("perceptron", {"hidden": 5}, "hidden must be a list of whole numbers; got 5"),
        ("perceptron", {"hidden": "ab"}, "hidden must be a list of whole numbers; got 'ab'"),
        ("perceptron", {"hidden": [1.5]}, "hidden must be an int; got 1.5"),
        ("perceptron", {"bias": "no"}, "bias must be a bool; got 'no'"),
        ("resnet", {"blocks": 3}, "blocks must be a list of whole numbers; got 3"),
    ],
)
def test_options_of_a_wrong_kind(name, options, message):
    with pytest.raises(TypeError, match=message):
        network(name, CIFAR, 10, **options)


@pytest.mark.parametrize(
    ("shape", "classes", "error", "message"),
    [
        (3, 10, TypeError, r"image_shape must be \(C, H, W\); got 3"),
        ((3, 32), 10, TypeError, r"image_shape must be \(C, H, W\); got \(3, 32\)"),
        ((3, 0, 32), 10, ValueError, "height must be at least 1; got 0"),
        (CIFAR, 0, ValueError, "classes must be at least 1; got 0"),
        (CIFAR, "ten", TypeError, "classes must be an int; got 'ten'"),
        ((3, 4, 4), 10, ValueError, r"image_shape must have 8 rows and .*; got \(3, 4, 4\)"),
    ],
)
def test_shapes_that_no_network_is_for(shape, classes, error, message):
    with pytest.raises(error, match=message):
        network("cifar_cnn", shape, classes)
