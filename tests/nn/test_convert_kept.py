"""What a conversion must not lose: a layer that has more than a product is left as it is."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm

from softhebb_fast import SoftHebbConv2d, convert
from tests.nn.example import ExampleConv2d
from tests.tolerances import TOLERANCES, assert_close


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class FullConv2d(nn.Module):
    """The published code's own layer in evaluation: its weight a buffer, its padding apart."""

    def __init__(self, lebesgue_p=2.0, pre_triangle=False, bias=False, mode="reflect", **own):
        super().__init__()
        self.in_channels, self.out_channels, self.groups = 2, 4, 1
        self.kernel_size, self.stride, self.dilation = (5, 5), (1, 1), (1, 1)
        self.padding, self.F_padding, self.padding_mode = (0, 0), (2,) * 4, mode
        self.t_invert, self.lebesgue_p, self.pre_triangle = (
            torch.tensor(12),
            lebesgue_p,
            pre_triangle,
        )
        self.register_buffer("weight", 3 * images(4, 2, 5, 5))
        self.register_buffer("bias", images(4) if bias else None)
        for name, value in own.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weight.sign() * self.weight.abs() ** (self.lebesgue_p - 1)
        u = F.conv2d(F.pad(x, self.F_padding, self.padding_mode), w, self.bias)
        return F.relu(u - u.mean(dim=1, keepdim=True)) if self.pre_triangle else u


class WithTrain(FullConv2d):
    def train(self, mode: bool = True) -> None:
        self.learning = mode


class WithUpdate(FullConv2d):
    def update(self) -> None:
        self.weight += 1


class WithArgument(FullConv2d):
    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return scale * super().forward(x)


class Normed(FullConv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weight / self.weight.flatten(1).norm(dim=1).clamp_min(1e-6).view(-1, 1, 1, 1)
        return F.conv2d(F.pad(x, self.F_padding, self.padding_mode), w)


class Clamped(FullConv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.clamp(-6, 6))


class EvenSizesOnly(FullConv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x)[..., : x.shape[-1] // 2 * 2]


class Noisy(FullConv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(()) + random.random() + np.random.rand()
        return super().forward(x) + noise


class Pair(FullConv2d):
    def forward(self, x: torch.Tensor) -> tuple:
        return super().forward(x), None


class Counting(FullConv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.weight += 1
        return super().forward(x)


class ChangingItsInput(FullConv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = super().forward(x)
        x.zero_()
        return u


class NeedsLabels(FullConv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError("labels")


class Soft(ExampleConv2d):
    def _update(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        y = torch.softmax(self.t_invert * u, dim=1)
        yx = F.conv2d(x.transpose(0, 1), y.transpose(0, 1)).transpose(0, 1)
        d = yx - (y * u).sum((0, 2, 3)).view(-1, 1, 1, 1) * self.weight
        return d / d.abs().max()


class Strided(ExampleConv2d):
    """The published layer learns with a stride too, if the image fits it."""

    def _update(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        y = torch.softmax(self.t_invert * u, dim=1)
        y = torch.where(F.one_hot(u.argmax(1), u.shape[1]).movedim(3, 1) == 1, y, -y)
        geometry = {"stride": self.dilation, "dilation": self.stride}
        yx = F.conv2d(x.transpose(0, 1), y.transpose(0, 1), **geometry).transpose(0, 1)
        d = yx - (y * u).sum((0, 2, 3)).view(-1, 1, 1, 1) * self.weight
        return d / d.abs().max()


class Descending(ExampleConv2d):
    def _update(self, x: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return -super()._update(x, u)


def with_norm_one(kind: type) -> nn.Module:
    layer = kind()
    layer.weight /= layer.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return layer


def with_no_weight(kind: type) -> nn.Module:
    layer = kind()
    layer.weight.zero_()
    return layer


def example(**own) -> nn.Module:
    layer = ExampleConv2d(2, 4, 3)
    for name, value in own.items():
        setattr(layer, name, value)
    return layer


def learned_temperature() -> nn.Module:
    layer = example()
    del layer.t_invert
    layer.t_invert = nn.Parameter(torch.tensor(12.0))
    return layer


def frozen() -> nn.Module:
    return example().requires_grad_(False)


def changed(change) -> nn.Module:
    conv = nn.Conv2d(2, 4, 3)
    change(conv)
    return conv


def ignored(*_) -> None:
    pass


HOOKS = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_state_dict_pre_hook",
    "register_load_state_dict_pre_hook",
    "register_load_state_dict_post_hook",
    "_register_state_dict_hook",
)
LEFT = {
    **{name: (lambda n=name: changed(lambda m: getattr(m, n)(ignored)), "hooks") for name in HOOKS},
    "a hook of the weight": (
        lambda: changed(lambda m: m.weight.register_hook(ignored)),
        "its weight has hooks",
    ),
    "a hook of the bias": (
        lambda: changed(lambda m: m.bias.register_post_accumulate_grad_hook(ignored)),
        "its bias has hooks",
    ),
    "a mask": (lambda: changed(lambda m: prune.l1_unstructured(m, "weight", 0.5)), "hooks"),
    "g and v": (lambda: changed(weight_norm), "hooks"),
    "a spectral norm": (lambda: changed(spectral_norm), "hooks"),
    "forward of the instance": (
        lambda: changed(lambda m: setattr(m, "forward", lambda x: x)),
        "its forward is its own",
    ),
    "train of the instance": (
        lambda: changed(lambda m: setattr(m, "train", lambda mode=True: m)),
        "its train is its own",
    ),
    "compiled": (lambda: changed(lambda m: m.compile(backend="eager")), "it is compiled"),
    "a buffer beside": (
        lambda: changed(lambda m: m.register_buffer("seen", torch.zeros(1))),
        "it has more than weight and bias: seen",
    ),
    "a module beside": (
        lambda: changed(lambda m: m.add_module("a", nn.ReLU())),
        "it has more than weight and bias: a",
    ),
    "a clashing attribute": (lambda: changed(lambda m: setattr(m, "lr", 1)), "its attribute lr"),
    "complex": (lambda: nn.Conv2d(2, 4, 3, dtype=torch.complex64), "of torch.complex64"),
    "no values": (lambda: example().to("meta"), "on the meta device"),
    "learned temperature": (learned_temperature, "more than weight and bias: t_invert"),
    "temperature with a gradient": (
        lambda: example(t_invert=torch.tensor(2.0, requires_grad=True)),
        "its t_invert is learned",
    ),
    "a temperature a neuron": (lambda: example(t_invert=torch.ones(4)), r"shape \(4,\)"),
    "negative temperature": (lambda: example(t_invert=-1.0), "t_invert must be positive"),
    "a frozen weight that learns": (frozen, "learns although its weight is frozen"),
    "another competition": (lambda: FullConv2d(competitive=False), "competitive"),
    "an activation": (lambda: FullConv2d(activation="relu"), "activation"),
    "train": (WithTrain, "WithTrain overrides train"),
    "a method": (WithUpdate, "WithUpdate has update"),
    "an argument": (WithArgument, "its forward takes"),
    "norms of 1": (lambda: with_norm_one(Normed), "its output differs from the product's by"),
    "weight 0": (lambda: with_no_weight(Normed), "its output differs from the product's by"),
    "clamped": (Clamped, "its output differs from the product's by"),
    "other shapes": (EvenSizesOnly, "its output has the shape"),
    "noise": (Noisy, "its output differs from the product's by"),
    "a pair": (Pair, "its output is a tuple"),
    "a changing weight": (Counting, "its output differs from the product's by"),
    "a changing input": (ChangingItsInput, "its forward changes its input"),
    "an error": (NeedsLabels, "its trial fails with KeyError: 'labels'"),
    "soft competition": (lambda: Soft(2, 4, 3), "its update differs from the new layer's by"),
    "descent": (lambda: Descending(2, 4, 3), "its update differs from the new layer's by 2"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@pytest.mark.parametrize("case", LEFT)
def test_what_cannot_be_kept_is_left_and_unchanged(case):
    make, reason = LEFT[case]
    layer = make()
    model = nn.Sequential(layer).eval()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attributes = dict(vars(layer))
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    result = convert(model)
    assert result.converted == []
    with pytest.raises(ValueError, match=reason):
        raise ValueError(result.left["0"])
    assert model[0] is layer
    assert vars(layer) == attributes
    assert all(p.grad is None for p in layer.parameters())
    for name, tensor in model.state_dict().items():
        assert tensor.is_meta or torch.equal(tensor, state[name])
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == generators[1:]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lebesgue_p": 3.0},
        {"pre_triangle": True},
        {"bias": True, "mode": "circular"},
        {"lebesgue_p": 2.5, "pre_triangle": True, "bias": True, "mode": "replicate"},
    ],
)
def test_the_published_full_layer_is_converted_with_all_that_it_computes(options):
    full = FullConv2d(**options)
    x = images(3, 2, 12, 12)
    result = convert(nn.Sequential(full).eval())
    layer = result.model[0]
    assert type(layer) is SoftHebbConv2d
    assert layer(x).shape == (3, 4, 12, 12)
    assert_close(layer(x), full(x), TOLERANCES["float32_u"])
    assert layer.state_dict().keys() == full.state_dict().keys()
    assert (layer.t_invert, layer.padding, layer.F_padding) == (12.0, (2, 2), (2,) * 4)
    assert layer.bias is None or not layer.bias.requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_example_is_proved_in_every_dtype(dtype):
    layer = ExampleConv2d(2, 4, 3, padding=1, t_invert=0.65).to(dtype)
    new = convert(nn.Sequential(layer)).model[0]
    assert type(new) is SoftHebbConv2d
    assert new.weight is layer.weight
    assert new.t_invert == float(torch.tensor(0.65))


def test_a_competition_that_is_named_makes_another_rule_ours():
    layer = Soft(2, 4, 3)
    x = images(3, 2, 8, 8)
    expected = copy.deepcopy(layer)
    expected(x)
    (new,) = convert(nn.Sequential(layer), wta="soft").model
    new(x)
    assert_close(new.weight.grad, expected.weight.grad, TOLERANCES["float32_delta_w"])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 5])
def test_the_example_is_proved_in_every_geometry(kernel, stride, dilation):
    layer = Strided(2, 4, kernel, stride, padding=1, dilation=dilation)
    assert convert(nn.Sequential(layer)).left == {}


def test_weights_without_values_are_converted_where_the_class_is_torchs():
    model = nn.Sequential(nn.Conv2d(2, 4, 3, device="meta"), nn.Linear(4, 2, device="meta"))
    assert convert(model, head=True).converted == ["0", "1"]


def test_attributes_are_carried_over():
    conv = changed(lambda m: setattr(m, "tag", "stem"))
    assert convert(nn.Sequential(conv)).model[0].tag == "stem"
    assert convert(nn.Sequential(example(device="cpu"))).model[0].device == "cpu"
    conv = changed(lambda m: setattr(m, "lr", 0.1))
    assert convert(nn.Sequential(conv), lr=0.3).model[0].lr == 0.3


class Frozen(nn.Module):
    """A model whose train does not reach its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)

    def train(self, mode: bool = True) -> nn.Module:
        self.training = mode
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def test_a_model_that_is_evaluated_stays_so():
    model, x = Frozen().eval(), images(3, 2, 8, 8)
    expected = model(x)
    assert model.conv.training
    convert(model, update="in_place", lr=0.1)
    assert not model.conv.training
    assert torch.equal(model(x), expected)
    assert torch.equal(model(x), expected)
    assert convert(Frozen()).model.conv.training


def test_layers_that_are_reached_another_way_are_left():
    model = nn.Module()
    model.a, model.b, model.c = (nn.Conv2d(2, 2, 1) for _ in range(3))
    model.stages, model.call = {"first": [model.a]}, model.b.forward
    result = convert(model)
    assert result.converted == ["c"]
    assert result.left == {"a": "stages refers to it too", "b": "call refers to it too"}


def test_a_tensor_that_another_module_uses_is_not_taught():
    embedding, linear = nn.Embedding(4, 4), nn.Linear(4, 4, bias=False)
    linear.weight = embedding.weight
    result = convert(nn.Sequential(embedding, linear), head=True)
    assert result.left == {"1": "it shares a tensor with 0, which is not converted"}
    first, second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
    second.bias = first.bias
    second.register_forward_hook(ignored)
    result = convert(nn.Sequential(first, second))
    assert result.converted == []
    assert first.bias.requires_grad


def test_wrappers():
    conv = nn.Conv2d(2, 4, 3)
    compiled = torch.compile(conv, backend="eager")
    assert convert(compiled).left == {"_orig_mod": "it is compiled; convert it before that"}
    model = torch.compile(nn.Sequential(nn.Conv2d(2, 4, 3)).eval(), backend="eager")
    x = images(3, 2, 8, 8)
    expected = model(x)
    assert convert(model).converted == ["_orig_mod.0"]
    assert torch.equal(model(x), expected)
    parallel = nn.DataParallel(nn.Sequential(nn.Conv2d(2, 4, 3)))
    parallel.device_ids = [0, 1]
    (reason,) = convert(parallel).left.values()
    assert reason == "it is inside DataParallel; convert it before it is wrapped"


class Refusing(nn.Module):
    """Lets its first layer be replaced, and not its second."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.done = True

    def __setattr__(self, name: str, value: object) -> None:
        if name == "b" and getattr(self, "done", False):
            raise RuntimeError("b is fixed")
        super().__setattr__(name, value)


def test_a_replacement_that_fails_leaves_the_model_as_it_was():
    model = Refusing()
    modules = dict(model.named_modules())
    with pytest.raises(RuntimeError, match="b is fixed"):
        convert(model)
    assert dict(model.named_modules()) == modules
    assert model.a.bias.requires_grad


def test_the_report_of_a_bare_layer():
    assert str(convert(nn.Conv2d(2, 4, 3))) == "converted: the model"
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module; got str"):
        convert("model")
