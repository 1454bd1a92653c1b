from __future__ import annotations

import pytest
import torch

from softhebb_fast.bench.cases import NETWORKS, QUICK, STANDARD, Case, Part, registry, select
from softhebb_fast.bench.inputs import inputs
from softhebb_fast.bench.providers import network
from softhebb_fast.presets import Layer, Pool, get_preset

CPU = torch.device("cpu")


def test_every_layer_of_the_presets_at_every_batch():
    names = set(registry())
    for network_name, (preset, _) in NETWORKS.items():
        layers = [layer for layer in get_preset(preset).layers if layer.hebbian]
        for batch in (1, 10, 32, 100, 1000):
            assert f"{network_name}/step/b{batch}" in names
            for number in range(1, len(layers) + 1):
                assert f"{network_name}/layer{number}/b{batch}" in names
    assert {"cifar10/probe/b64", "mnist/probe/b32"} <= names


def test_cases_by_pattern():
    assert [c.name for c in select(["cifar10/layer[13]/b10"])] == [
        "cifar10/layer1/b10",
        "cifar10/layer3/b10",
    ]
    assert [c.name for c in select(["mnist/step/b1", "*/step/b1"])][:2] == [
        "mnist/step/b1",
        "cifar10/step/b1",
    ]
    assert {c.network for c in select(["*/step/b1"])} == set(NETWORKS)
    assert select(QUICK)
    assert select(STANDARD)
    with pytest.raises(ValueError, match=r"CASES must match a case, got 'cifar10/layer9/b10'"):
        select(["cifar10/step/b1", "cifar10/layer9/b10"])


def test_the_shapes_of_the_cifar_net():
    stack = registry()["cifar10/step/b10"].parts
    assert [part.weight_shape for part in stack] == [
        (96, 3, 5, 5),
        (384, 96, 3, 3),
        (1536, 384, 3, 3),
    ]
    assert [part.map for part in stack] == [(32, 32), (16, 16), (8, 8)]
    assert [part.output for part in stack] == [(96, 16, 16), (384, 8, 8), (1536, 4, 4)]
    # published: 7.4 + 84.9 + 339.7 million products a sample, forward and again for the update
    assert [round(part.flops(1) / 4e6, 1) for part in stack] == [7.4, 84.9, 339.7]
    assert registry()["cifar10/step/b10"].flops == 10 * sum(part.flops(1) for part in stack)
    assert registry()["cifar10/probe/b64"].features == 24576


def test_a_linear_layer_takes_flat_images():
    (part,) = registry()["mnist-mlp/step/b10"].parts
    assert (part.weight_shape, part.map, part.output) == ((2000, 784), (1, 1), (2000, 1, 1))
    assert part.flops(10) == 4 * 10 * 784 * 2000


def test_a_larger_batch_needs_more_memory():
    sizes = [registry()[f"stl10/layer4/b{batch}"].bytes for batch in (1, 10, 100)]
    assert sizes == sorted(set(sizes))
    # the weights of 6144 x 1536 x 3 x 3 alone, six times
    assert sizes[0] > 6 * 4 * 6144 * 1536 * 9


def test_inputs_are_the_same_for_everybody():
    case = registry()["mnist/step/b1"]
    first, second = inputs(case, CPU), inputs(case, CPU)
    assert torch.equal(first.x, second.x)
    assert all(torch.equal(*pair) for pair in zip(first.weights, second.weights, strict=True))
    assert first.x.shape == (1, 1, 28, 28)
    assert 0 <= first.x.min() < first.x.max() <= 1
    norms = first.weights[1].flatten(1).norm(dim=1)
    assert float(norms.mean()) == pytest.approx(25, rel=0.01)


def test_a_network_that_learns_into_the_given_weights():
    layer = Layer(
        "conv", "soft_anti", 6, 3, 1, lr=0.1, activation=("triangle", 1.0), pool=Pool("max", 2, 2)
    )
    case = Case("tiny/step/b2", "step", (Part(layer, (2, 8, 8)),), 2)
    given = inputs(case, CPU)
    before = given.weights[0].clone()
    net = network(case, given, "reference").train()
    with torch.no_grad():
        out = net.blocks[0](given.x)
    assert out.shape == (2, *case.parts[0].output)
    assert not torch.equal(given.weights[0], before)
