from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from softhebb_fast.init import INITS
from softhebb_fast.models import ACTIVATIONS, build, evaluation_mode, features
from softhebb_fast.nn import Dropout, SoftHebbConv2d, SoftHebbLinear, Triangle
from softhebb_fast.presets import PRESETS, get_preset, parse_network
from tests.tolerances import TOLERANCES, assert_close, literal

MNIST, CIFAR, STL, IMNET = (1, 28, 28), (3, 32, 32), (3, 96, 96), (3, 160, 160)

# preset, images, a (filters, rows after the convolution, rows after the pool, weights) for each
# convolution, inputs of the classifier
_CIFAR_LAYERS = ((96, 32, 16, 7_200), (384, 16, 8, 331_776), (1536, 8, 4, 5_308_416))
GEOMETRY = (
    ("4SoftHebbCnnCIFAR", CIFAR, _CIFAR_LAYERS, 24_576),
    (
        "4SoftHebbCnnCIFAR",
        MNIST,
        ((96, 28, 14, 2_400), (384, 14, 7, 331_776), (1536, 7, 3, 5_308_416)),
        13_824,
    ),
    ("3SoftHebbCnnCIFAR", CIFAR, _CIFAR_LAYERS[:2], 24_576),
    ("2SoftHebbCnnCIFAR", CIFAR, _CIFAR_LAYERS[:1], 24_576),
    (
        "5SoftHebbCnnSTL",
        STL,
        (
            (96, 96, 48, 7_200),
            (384, 48, 24, 331_776),
            (1536, 24, 12, 5_308_416),
            (6144, 12, 6, 84_934_656),
        ),
        221_184,
    ),
    (
        "6SoftHebbCnnImNet",
        IMNET,
        (
            (48, 160, 80, 3_600),
            (192, 80, 40, 82_944),
            (768, 40, 20, 1_327_104),
            (3072, 20, 10, 21_233_664),
            (12288, 10, 5, 339_738_624),
        ),
        307_200,
    ),
    ("2SoftHebbZerOMNIST", MNIST, ((128, 30, 15, 1_152),), 28_800),
    (
        "4SoftHebbCnnZerOMNIST",
        MNIST,
        ((96, 30, 15, 864), (384, 14, 7, 589_824), (1536, 9, 4, 589_824)),
        24_576,
    ),
)


def images_of(name: str) -> tuple[int, int, int]:
    kinds = {"MNIST": MNIST, "CIFA": CIFAR, "STL": STL, "ImNet": IMNET}
    return next((shape for kind, shape in kinds.items() if kind in name), MNIST)


def on_meta(name: str, shape: tuple[int, int, int]):
    with torch.device("meta"):
        return build(get_preset(name), shape, 10).eval(), torch.empty(2, *shape)


@pytest.mark.parametrize(
    ("name", "shape", "layers", "inputs"), GEOMETRY, ids=lambda v: v if isinstance(v, str) else ""
)
def test_geometry_is_the_published_one(name, shape, layers, inputs):
    net, x = on_meta(name, shape)
    found = []
    for block in net.blocks:
        rows = block.layer(block.norm(x)).shape[2]
        x = block(x)
        found.append((x.shape[1], rows, x.shape[2], block.layer.weight.numel()))
    assert tuple(found) == layers
    assert net.head[-1].in_features == inputs == x[0].numel()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds(name):
    net, x = on_meta(name, images_of(name))
    body = net.preset.layers[:-1]
    if any(layer.whiten for layer in body):
        with pytest.raises(RuntimeError, match="PatchWhitening must be fitted before it is used"):
            net(x)
    else:
        assert net(x).shape == (2, 10)
    assert net.hebbian_blocks == [i for i, layer in enumerate(body) if layer.rule != "bp"]


def test_weights_are_drawn_in_the_order_of_the_layers():
    torch.manual_seed(0)
    net = build(get_preset("4SoftHebbCnnCIFAR", neuron_factor=0.25), CIFAR, 10)
    torch.manual_seed(0)
    for block, shape in zip(
        net.blocks, [(24, 3, 5, 5), (96, 24, 3, 3), (384, 96, 3, 3)], strict=True
    ):
        drawn = torch.randn(shape) * (25 / math.sqrt(math.prod(shape[1:])))
        assert_close(block.layer.weight, drawn, TOLERANCES["float32_u"])
    head = nn.Linear(384 * 4 * 4, 10)
    assert torch.equal(net.head[-1].weight, head.weight)
    assert torch.equal(net.head[-1].bias, head.bias)


def test_first_weights_of_the_published_net():
    torch.manual_seed(0)
    weight = build(get_preset("2SoftHebbCnnCIFAR"), CIFAR, 10).blocks[0].layer.weight
    assert weight.flatten()[:3].tolist() == literal([-3.2500198, -3.3265774, -0.7233581])


@pytest.mark.parametrize(
    ("seed", "counts"),
    [
        (0, [1224, 166292, 2653295]),
        (1, [1173, 165835, 2653260]),
        (2, [1216, 165784, 2653880]),
        (3, [1158, 165990, 2653988]),
    ],
)
def test_random_binary_gives_the_published_counts(seed, counts):
    torch.manual_seed(seed)
    net = build(get_preset("4SoftHebbCnnCIFAR"), MNIST, 10, init="random_binary")
    assert [int(block.layer.weight.count_nonzero()) for block in net.blocks] == counts


def test_published_start_is_normal_behind_a_batch_norm_and_positive_elsewhere():
    normal = build(get_preset("4SoftHebbCnnCIFAR", neuron_factor=0.1), CIFAR, 10)
    bare = build(get_preset("4SoftHebbCnnCIFAR_noBatchNorm", neuron_factor=0.1), CIFAR, 10)
    for block in normal.blocks:
        assert isinstance(block.norm, nn.BatchNorm2d)
        assert not block.norm.affine
        assert 0.4 < float((block.layer.weight < 0).float().mean()) < 0.6
        assert 23 < float(block.layer.norms().mean()) < 27
    for block in bare.blocks:
        assert block.norm is None
        low, high = block.layer.weight.detach().aminmax()
        limit = 25 * math.sqrt(3 / block.layer.weight[0].numel())
        assert 0 <= low < 0.1 * limit < 0.9 * limit < high < limit
    perceptron = build(get_preset("2SoftMlpMNIST", neuron_factor=0.05), MNIST, 10).blocks[0].layer
    assert not (perceptron.weight < 0).any()
    assert 34 < float(perceptron.norms().mean()) < 36


def test_random_biases_on_top_of_other_weights_stay_as_drawn():
    init = {"name": "hadamard_taps", "random_bias": 1.0}
    net = build(get_preset("3SoftHebbCnnCIFAR", neuron_factor=0.1), MNIST, 10, init=init)
    layer = net.blocks[0].layer
    bias = layer.bias.clone()
    assert bias.unique().numel() == layer.out_channels
    assert layer.weight.any()
    net.blocks[0].train()(torch.rand(2, *MNIST))
    assert torch.equal(layer.bias, bias)


@pytest.mark.parametrize("init", ["random_bias", {"name": "Random_Bias", "scale": 2.0}])
def test_random_bias_brings_the_bias_it_needs(init):
    net = build(get_preset("3SoftHebbCnnCIFAR", neuron_factor=0.1), MNIST, 10, init=init)
    for block in net.blocks:
        assert not block.layer.weight.any()
        assert block.layer.bias.unique().numel() == block.layer.out_channels
    plain = build(get_preset("3SoftHebbCnnCIFAR", neuron_factor=0.1), MNIST, 10)
    assert all(block.layer.bias is None for block in plain.blocks)


def test_init_by_layer():
    preset = get_preset("4SoftHebbCnnCIFAR", neuron_factor=0.1)
    net = build(preset, MNIST, 10, init={0: "zerO", 2: "random_bias"})
    first, second, third = (block.layer for block in net.blocks)
    assert int(first.weight.count_nonzero()) == 10
    assert int(second.weight.count_nonzero()) == second.weight.numel()
    assert second.bias is None
    assert not third.weight.any()
    listed = build(preset, MNIST, 10, init=["zerO", "normal", {"name": "constant", "value": 0.5}])
    assert listed.blocks[2].layer.weight.unique().tolist() == [0.5]


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("zeroes", f"init must be one of {', '.join(INITS)}"),
        (["normal"], "init must have one entry per layer, 2; got 1"),
        ({2: "zerO"}, "indices from 0 to 1 as keys"),
    ],
)
def test_bad_init(init, message):
    with pytest.raises(ValueError, match=message):
        build(get_preset("3SoftHebbCnnCIFAR"), CIFAR, 10, init=init)


def test_options_reach_the_layers():
    net = build(get_preset("3SoftHebbCnnCIFAR"), CIFAR, 7, backend="reference")
    layer = net.blocks[1].layer
    assert isinstance(layer, SoftHebbConv2d)
    assert (layer.t_invert, layer.wta, layer.lr, layer.lr_power) == (0.65, "soft_anti", 0.005, 0.5)
    assert (layer.kernel_size, layer.padding, layer.padding_mode) == ((3, 3), (1, 1), "reflect")
    assert (layer.pre_triangle, layer.update, layer.backend) == (True, "in_place", "reference")
    assert not net.blocks[0].layer.pre_triangle
    assert isinstance(net.blocks[1].activation, Triangle)
    assert isinstance(net.blocks[0].pool, nn.AvgPool2d)
    assert isinstance(net.blocks[1].pool, nn.MaxPool2d)
    assert [type(part) for part in net.head] == [nn.Flatten, Dropout, nn.Linear]
    assert (net.head[1].p, net.head[2].out_features) == (0.5, 7)


def test_rates_that_decay_do_not_depend_on_the_norm():
    net = build(get_preset("2HardCnnCIFA_speed_linearDecay", neuron_factor=0.1), CIFAR, 10)
    layer = net.blocks[0].layer
    assert (layer.lr, layer.lr_power, layer.wta) == (0.025, 0.0, "hard")
    assert layer.learning_rates().tolist() == literal([0.025] * 10)


def test_classifier_that_learns_by_the_hebbian_rule():
    net = build(
        get_preset("4SoftHebbCnnCIFAR_HebbClassifier", neuron_factor=0.1), MNIST, num_classes=10
    )
    head = net.head[-1]
    assert isinstance(head, SoftHebbLinear)
    assert (head.out_features, head.t_invert, head.lr, head.lr_power) == (10, 12, 0.045, 0.0)
    assert net.hebbian_blocks == [0, 1, 2]


def test_groups():
    layers = "soft-c8-k3-p1:triangle hard-c12-k3-p1-g4:relu BP-c6-k1-g3:tanh BP"
    net = build(parse_network(layers), MNIST, 10)
    shapes = [tuple(block.layer.weight.shape) for block in net.blocks]
    assert shapes == [(8, 1, 3, 3), (12, 2, 3, 3), (6, 4, 1, 1)]
    assert net.hebbian_blocks == [0, 1]
    assert net(torch.rand(2, *MNIST)).shape == (2, 10)
    with pytest.raises(ValueError, match="groups must divide in_channels"):
        build(parse_network("soft-c8-k3-g2 BP"), CIFAR, 10)


def test_inputs_of_unit_length():
    net = build(parse_network("soft-c20:unitlength BP"), (1, 4, 4), 10).eval()
    x = torch.randn(3, 1, 4, 4)
    x[1] = 0
    lengths = net.blocks[0].norm(x).norm(dim=1)
    assert_close(lengths, torch.tensor([1.0, 0.0, 1.0]), TOLERANCES["float32_u"])
    assert_close(net(7 * x), net(x), TOLERANCES["float32_u"])


def test_linear_blocks_flatten_and_drop_out():
    net = build(parse_network("BP-c20-k3:relu soft-c8:dropout_0.3:softmax_5 BP"), MNIST, 10)
    flatten, dropout = net.blocks[1].norm
    assert (type(flatten), dropout.p) == (nn.Flatten, 0.3)
    assert net.blocks[1].layer.in_features == 20 * 26 * 26
    assert torch.allclose(net.blocks[1](torch.rand(2, 20, 26, 26)).sum(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ("soft-c4-k5 BP", (1, 4, 4), r"at layer 0 of custom the map is 4x4 and the window 5x5"),
        ("soft-c4-k3-p1:max_2_2_0 soft-c4-k3 BP", (1, 4, 8), "at layer 1 of custom the map is 2x4"),
        ("soft-c4-k3:max_4_2_1 BP", (1, 3, 3), "the map is 1x1 and the window 4x4"),
        ("soft-c4-k3-p2 BP", (1, 2, 2), "the map is 2x2 and cannot be reflected by padding=2"),
    ],
)
def test_images_too_small(layers, shape, message):
    with pytest.raises(ValueError, match=f"image_shape is too small: .*{message}.*use larger"):
        build(parse_network(layers), shape, 10)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("soft-c4-k3:sigmoid BP", f"activation must be one of {', '.join(ACTIVATIONS)}"),
        ("soft-c4-k3 BP-c10-k3", "last layer of a preset must be linear; got 'conv'"),
        ("soft-c4-k3 hard-c10", "must learn from labels.*got 'hard'"),
    ],
)
def test_networks_that_cannot_be_built(layers, message):
    with pytest.raises(ValueError, match=message):
        build(parse_network(layers), MNIST, 10)


def test_a_net_is_its_blocks_and_its_head():
    net = build(get_preset("3SoftHebbCnnCIFAR", neuron_factor=0.1), MNIST, 10).eval()
    x = torch.rand(3, *MNIST)
    below = features(list(net.blocks), x)
    assert below.grad_fn is None
    with torch.no_grad():
        assert torch.equal(net(x), net.head(below))
    assert torch.equal(features([], x), x)


def test_evaluation_mode_gives_every_part_its_mode_back():
    net = build(get_preset("3SoftHebbCnnCIFAR", neuron_factor=0.1), MNIST, 10).eval()
    net.blocks[1].train()
    before = [part.training for part in net.modules()]
    assert len(set(before)) == 2
    with evaluation_mode(net):
        assert not any(part.training for part in net.modules())
    assert [part.training for part in net.modules()] == before
    with pytest.raises(RuntimeError, match="inside"), evaluation_mode(net):
        raise RuntimeError("inside")
    assert [part.training for part in net.modules()] == before


def test_a_layer_that_does_not_fit_into_memory_is_named():
    network = parse_network(f"softkrotov-c{1 << 43}-k3-t1-lr0.05 BP")
    said = r"layer 0 of .*, of 8796093022208 neurons, does not fit into memory: .*tried to allocate"
    with pytest.raises(RuntimeError, match=said):
        build(network, MNIST, 10)
