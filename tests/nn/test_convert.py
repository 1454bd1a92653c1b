from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from softhebb_fast import SoftHebbConv2d, SoftHebbLinear, Triangle, convert
from softhebb_fast.nn import HebbianConv2d, HebbianLinear
from tests.nn.example import ExampleConv2d, ExampleNet
from tests.tolerances import TOLERANCES, assert_close


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.branches = nn.ModuleList([nn.Conv2d(4, 4, 1, bias=False), nn.Conv2d(4, 4, 3, 1, 1)])
        self.hidden = nn.ModuleDict({"fc": nn.Linear(4 * 6 * 6, 8)})
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = sum(branch(x) for branch in self.branches)
        return self.head(self.hidden["fc"](x.flatten(1)).relu())


CLASSIFIER = "the last linear layer, taken to be the classifier"
ALL = ["stem.0", "branches.0", "branches.1", "hidden.fc"]


def test_every_suitable_layer_of_a_nested_model_is_replaced():
    model = Nested()
    result = convert(model, t_invert=0.5, update="in_place", lr=0.1)
    assert result.model is model
    assert result.converted == ALL
    assert result.left == {"head": CLASSIFIER}
    assert type(model.head) is nn.Linear
    for name in ALL:
        layer = model.get_submodule(name)
        assert type(layer) is (SoftHebbLinear if name == "hidden.fc" else SoftHebbConv2d)
        assert (layer.t_invert, layer.update, layer.lr) == (0.5, "in_place", 0.1)
        before = layer.weight.detach().clone()
        model(images(3, 2, 6, 6))
        assert not torch.equal(layer.weight, before)


@pytest.mark.parametrize("rule", ["oja", "kmeans", "bcm", "similarity"])
def test_layers_of_any_rule(rule):
    model, x = Nested().train(), images(3, 2, 6, 6)
    twin = copy.deepcopy(model).eval()
    result = convert(model, rule=rule, update="in_place", lr=0.01)
    assert (result.converted, result.left) == (ALL, {"head": CLASSIFIER})
    assert torch.equal(model.eval()(x), twin(x))
    model.train()(x)
    for name in ALL:
        layer, old = model.get_submodule(name), twin.get_submodule(name)
        assert type(layer) is (HebbianLinear if name == "hidden.fc" else HebbianConv2d)
        assert layer.rule == rule
        assert not torch.equal(layer.weight, old.weight)
        assert {buffer.device for buffer in layer.buffers()} <= {layer.weight.device}


def test_rates_of_neurons_come_along():
    model = nn.Sequential(nn.Linear(6, 3))
    options = {"update": "in_place", "lr": 0.1, "neuron_rates": torch.tensor([0.0, 1.0, 0.5])}
    convert(model, head=True, rule="oja", **options)
    before = model[0].weight.detach().clone()
    model(images(5, 6))
    assert [torch.equal(*pair) for pair in zip(model[0].weight, before, strict=True)] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("rule", ["teacher", "delta_rule"])
def test_rules_that_need_a_target_are_refused(rule):
    model = Nested()
    with pytest.raises(ValueError, match=f"rule must not need a target.*got '{rule}'"):
        convert(model, rule=rule)
    assert type(model.stem[0]) is nn.Conv2d


def test_evaluation_is_preserved_bit_for_bit():
    model = Nested().eval()
    x = images(3, 2, 6, 6)
    before, state = model(x), copy.deepcopy(model.state_dict())
    convert(model, head=True)
    assert torch.equal(model(x), before)
    assert not model.stem[0].training
    assert list(model.state_dict()) == list(state)
    model.load_state_dict(state)
    assert torch.equal(model(x), before)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"),
        nn.Conv2d(4, 6, 5, padding="same", dilation=(1, 2)),
        nn.Conv2d(4, 6, 4, padding="same"),
        nn.Conv2d(4, 6, (2, 3), padding="same", padding_mode="circular"),
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2, padding_mode="replicate"),
        nn.Conv2d(4, 6, 3, padding="valid", bias=False),
        nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect", dtype=torch.float64),
    ],
    ids=lambda conv: conv.extra_repr(),
)
def test_every_kind_of_padding_is_preserved(conv):
    x = images(2, 4, 9, 8).to(conv.weight.dtype)
    result = convert(conv)
    assert result.converted == [""]
    assert result.model is not conv
    assert torch.equal(result.model.eval()(x), conv(x))


def test_a_root_layer_is_returned_as_the_model():
    linear = nn.Linear(4, 3)
    assert convert(linear).left == {"": CLASSIFIER}
    result = convert(linear, head=True)
    assert isinstance(result.model, SoftHebbLinear)
    assert torch.equal(result.model.eval()(images(2, 4)), linear(images(2, 4)))


def test_the_bias_is_kept_and_frozen():
    model = convert(nn.Sequential(nn.Conv2d(2, 4, 1)), wta="soft", update="in_place", lr=0.1).model
    bias = model[0].bias.detach().clone()
    model(images(3, 2, 4, 4))
    assert torch.equal(model[0].bias, bias)
    assert not model[0].bias.requires_grad
    assert model[0].weight.requires_grad


def test_frozen_weights_stay_frozen():
    conv = nn.Conv2d(2, 4, 1).requires_grad_(False)
    layer = convert(conv).model
    assert not layer.weight.requires_grad
    layer(images(3, 2, 4, 4))
    assert layer.weight.grad is None


def test_parameters_are_the_same_so_that_optimizers_stay_valid():
    model = Nested()
    state = torch.get_rng_state()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, maximize=True)
    parameters = list(model.parameters())
    convert(model)
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert torch.equal(torch.get_rng_state(), state)
    before = model.stem[0].weight.detach().clone()
    model(images(3, 2, 6, 6))
    optimizer.step()
    weight = model.stem[0].weight
    assert_close(weight, before + 0.1 * weight.grad, TOLERANCES["float32_delta_w"])


def test_a_layer_in_several_places_stays_one_layer():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    model.again, model.other = nn.ModuleList([conv]), model[1]
    result = convert(model)
    assert result.converted == ["0", "2", "again.0"]
    assert isinstance(model[0], SoftHebbConv2d)
    assert model[0] is model[2] is model.again[0]
    shared = nn.Sequential(nn.Conv2d(3, 3, 1))
    model = nn.ModuleDict({"a": shared, "b": shared})
    assert convert(model).converted == ["a.0", "b.0"]
    assert model["a"] is model["b"]
    assert isinstance(model["b"][0], SoftHebbConv2d)


def test_tied_weights_stay_tied():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    convert(model, head=True)
    assert model[0].weight is model[1].weight


def test_excluded_layers_and_all_that_excluded_modules_contain():
    result = convert(Nested(), exclude=["stem.0", "branches"])
    assert result.converted == ["hidden.fc"]
    left = {"stem.0": "excluded", "branches.0": "excluded", "branches.1": "excluded"}
    assert result.left == left | {"head": CLASSIFIER}
    assert convert(Nested(), exclude="stem").converted == ALL[1:]
    assert convert(Nested(), exclude=["head"], head=True).left == {"head": "excluded"}
    assert convert(Nested(), exclude=[""]).converted == []


def test_a_shared_layer_is_excluded_by_any_of_its_names():
    conv = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(conv, nn.Conv2d(3, 3, 1), conv)
    result = convert(model, exclude=["2"])
    assert result.converted == ["1"]
    assert model[0] is model[2] is conv


def lazy() -> nn.Module:
    return nn.LazyConv2d(4, 3)


def odd() -> nn.Module:
    conv = ExampleConv2d(2, 4, 3)
    conv.F_padding = (1, 0, 1, 0)
    return conv


def unknown_mode() -> nn.Module:
    conv = ExampleConv2d(2, 4, 3)
    conv.padding_mode = "constant"
    return conv


def flat() -> nn.Module:
    conv = ExampleConv2d(2, 4, 3)
    conv.weight = nn.Parameter(conv.weight.detach().flatten(1))
    return conv


class OwnConv2d(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (parametrizations.weight_norm(nn.Conv2d(2, 4, 3)), "its weight is parametrized"),
        (parametrizations.weight_norm(ExampleConv2d(2, 4, 3)), "its weight is parametrized"),
        (lazy(), "it is lazy and has not seen an input"),
        (nn.LazyLinear(4), "it is lazy and has not seen an input"),
        (nn.Conv1d(2, 4, 3), "Conv1d is neither nn.Conv2d nor nn.Linear"),
        (nn.ConvTranspose2d(2, 4, 3), "ConvTranspose2d is neither nn.Conv2d nor nn.Linear"),
        (nn.Bilinear(2, 3, 4), "Bilinear is neither nn.Conv2d nor nn.Linear"),
        (OwnConv2d(2, 4, 3), "OwnConv2d is neither nn.Conv2d nor nn.Linear"),
        (odd(), "its padding is not the same on both sides"),
        (unknown_mode(), "padding_mode 'constant' is not supported"),
        (flat(), "its weight does not have 4 dimensions"),
    ],
)
def test_what_is_left_and_why(module, reason):
    model = nn.Sequential(module)
    result = convert(model)
    assert result.left == {"0": reason}
    assert result.converted == []
    assert model[0] is module


def test_modules_without_a_product_are_not_mentioned():
    model = nn.Sequential(
        nn.BatchNorm2d(3), Triangle(), nn.Embedding(4, 2), SoftHebbConv2d(3, 4, 1)
    )
    hebbian = model[3]
    result = convert(model)
    assert (result.converted, result.left) == ([], {})
    assert model[3] is hebbian


def test_layers_like_the_published_example_are_converted():
    torch.manual_seed(0)
    model = ExampleNet(ExampleConv2d, Triangle).eval()
    x = images(3, 2, 16, 16)
    before = model(x)
    result = convert(model, update="in_place", lr=0.01)
    assert result.converted == ["conv1", "conv2", "conv3"]
    assert result.left == {"classifier": CLASSIFIER}
    assert [model.conv1.t_invert, model.conv1.padding, model.conv1.padding_mode] == [
        1.0, (2, 2), "reflect",
    ]  # fmt: skip
    assert model.conv2.t_invert == pytest.approx(0.65)
    assert torch.equal(model(x), before)
    start = model.conv3.weight.detach().clone()
    model.train()(x)
    assert not torch.equal(model.conv3.weight, start)


def test_four_sided_paddings_are_read_in_the_published_order():
    conv = ExampleConv2d(2, 4, 3).eval()
    conv.F_padding = (1, 1, 2, 2)  # columns, then rows
    x = images(2, 2, 6, 6)
    layer = convert(conv).model
    assert layer.padding == (2, 1)
    assert torch.equal(layer(x), conv(x))


def test_a_weight_that_is_a_buffer_becomes_a_parameter():
    conv = ExampleConv2d(2, 4, 3)
    weight = conv.weight.detach()
    del conv.weight
    conv.register_buffer("weight", weight)
    layer = convert(conv).model
    assert isinstance(layer.weight, nn.Parameter)
    layer(images(3, 2, 6, 6))
    assert layer.weight.grad is not None


def test_a_wrapper_with_the_attributes_is_left_and_what_it_wraps_is_converted():
    wrapper = ExampleConv2d(2, 4, 3)
    wrapper.inner = nn.Conv2d(2, 4, 3)
    result = convert(nn.Sequential(wrapper, nn.Conv2d(4, 4, 3)))
    assert result.converted == ["0.inner", "1"]
    assert result.left == {"0": "it has more than weight and bias: inner"}


def test_start_anew_from_a_converted_layer():
    layer = convert(nn.Conv2d(3, 96, 5), radius=2.0).model
    torch.manual_seed(0)
    layer.reset_parameters()
    torch.manual_seed(0)
    assert torch.equal(layer.weight, SoftHebbConv2d(3, 96, 5, radius=2.0).weight)


def test_the_report_reads_well():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv1d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
    )
    assert str(convert(model)) == (
        "converted: 0, 2\n"
        "left alone: 1: Conv1d is neither nn.Conv2d nor nn.Linear\n"
        f"left alone: 3: {CLASSIFIER}"
    )
    assert str(convert(nn.Linear(3, 2))) == (
        f"converted: nothing\nleft alone: the model: {CLASSIFIER}"
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"exclude": ["stem.1", "stem.9"]}, ValueError, r"exclude.*got \['stem\.9'\]"),
        ({"exclude": "stam"}, ValueError, r"exclude must name modules of model; got \['stam'\]"),
        ({"init": "zerO", "bias": True}, ValueError, "options must not hold.*got bias, init"),
        ({"dtype": torch.float64}, ValueError, "options must not hold.*got dtype"),
        ({"update": "in_place"}, ValueError, "lr must be given"),
        ({"wta": "hard_anti", "rank": 5}, ValueError, r"rank must lie in 1\.\.4"),
        ({"pre_triangle": True}, TypeError, "unexpected keyword argument 'pre_triangle'"),
    ],
)
def test_errors_leave_the_model_as_it_was(options, error, message):
    model = Nested()
    modules, learns = dict(model.named_modules()), [p.requires_grad for p in model.parameters()]
    with pytest.raises(error, match=message):
        convert(model, **options)
    assert dict(model.named_modules()) == modules
    assert [p.requires_grad for p in model.parameters()] == learns
