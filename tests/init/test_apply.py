"""Any model's start in one line: what every layer gets, what is left alone and why."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from softhebb_fast import init
from softhebb_fast.init.branches import branch_ends
from softhebb_fast.models import network
from tests.torchvision_tree import ResNet18
from tests.training.test_resume import is_same

BLOCKS = [f"layer{i}.{j}" for i in range(1, 5) for j in range(2)]


def algorithm1(rows: int, columns: int) -> Tensor:
    """By Kronecker products and cuts, as Zhao et al. write it, with the code's constant."""
    if rows <= columns:
        return torch.eye(columns)[:rows]
    size = math.ceil(math.log2(rows))
    hadamard = torch.ones(1, 1)
    for _ in range(size):
        hadamard = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), hadamard)
    return hadamard[:rows, :columns] * 2 ** (-size / 2)


def centred(matrix: Tensor, like: Tensor) -> Tensor:
    if like.dim() == 2:
        return matrix
    weight = torch.zeros_like(like)
    weight[(..., *(size // 2 for size in like.shape[2:]))] = matrix
    return weight


def is_algorithm(weight: Tensor) -> bool:
    return torch.equal(weight, centred(algorithm1(*weight.shape[:2]), weight))


def test_zero_on_a_torchvision_resnet18():
    model = ResNet18()
    state = model.state_dict()
    norms = {n: v.clone() for n, v in state.items() if "bn" in n or "downsample.1" in n}
    done = init.apply(model, "zerO")
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert set(done.started) == set(layers)
    assert all(is_algorithm(layer.weight) for layer in layers.values())
    assert model.fc.bias.count_nonzero() == 0
    assert set(done.left.values()) == {"normalisation"}
    assert len(done.left) == 20
    assert all(torch.equal(state[name], value) for name, value in norms.items())
    assert done.model is model
    assert "conv1: zerO, Hadamard 64x3\n" in str(done)
    assert "\nbn1: left alone, normalisation\n" in str(done)


def test_residual_branches_end_in_zeros_where_asked():
    model = ResNet18(8, 10)
    assert branch_ends(model) == ({f"{block}.conv2" for block in BLOCKS}, "")
    done = init.apply(model, "zerO", zero_branches=True, zero_head=True)
    zero = {n for n, p in model.named_parameters() if p.dim() > 1 and not p.any()}
    assert zero == {*(f"{block}.conv2.weight" for block in BLOCKS), "fc.weight"}
    assert done.started["layer1.0.conv2"] == "zero, the end of a residual branch"
    assert done.started["fc"] == "zero, the head"


def test_the_printed_constant_is_larger():
    model, printed = nn.Linear(3, 5), nn.Linear(3, 5)
    init.apply(model, "zerO")
    init.apply(printed, {"name": "zerO", "scale": "algorithm2"})
    assert torch.equal(printed.weight / math.sqrt(2), model.weight)


def test_constnet_is_its_published_start():
    net = network("constnet", (3, 32, 32), 10, widen=2)
    init.apply(net, "constant")
    assert torch.equal(net[0].weight, centred(torch.full((16, 3), 1 / 3), net[0].weight))
    for block in net[1:13]:
        assert block.conv.weight.count_nonzero() == 0
        if block.skip is not None:
            inputs = block.skip.in_channels
            assert (block.skip.weight == 1 / inputs).all()
    assert net[-1].weight.count_nonzero() == net[-1].bias.count_nonzero() == 0


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_a_transformer_encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    done = init.apply(model, "zerO", zero_branches=True)
    for one in model.layers:
        query, key, value = one.self_attn.in_proj_weight.chunk(3)
        assert torch.equal(query, torch.eye(16))
        assert not key.any()
        assert not value.any()
        # Zero values make the branch zero; with a projection of zeros neither would ever learn.
        assert torch.equal(one.self_attn.out_proj.weight, torch.eye(16))
        assert is_algorithm(one.linear1.weight)
        assert not one.linear2.weight.any()
        assert not one.self_attn.in_proj_bias.any()
    assert "query alone" in done.started["layers.0.self_attn"]
    x = torch.randn(3, 5, 16)
    normed = x
    for one in model.layers:  # behind zero branches nothing but normalisation is left
        normed = one.norm2(one.norm1(normed))
    torch.testing.assert_close(model(x), normed)
    init.apply(model, "constant")
    assert not model.layers[0].self_attn.out_proj.weight.any()
    assert (model.layers[0].self_attn.in_proj_weight == 1 / 16).all()


def test_groups_and_one_dimension():
    model = nn.Sequential(
        nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(6, 6, 5, groups=6), nn.Conv1d(4, 6, 5)
    )
    done = init.apply(model, "zerO")
    for part in model[0].weight.chunk(4):
        assert is_algorithm(part)
    assert (model[1].weight[:, 0, 2, 2] == 1).all()
    assert is_algorithm(model[2].weight)
    assert done.started["0"] == "zerO, Hadamard 3x2, 4 groups apart"


def test_tied_weights_are_started_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Embedding(6, 4), nn.Linear(4, 6))
    model[1].weight = model[0].weight
    model[3].weight = model[2].weight
    before = model[2].weight.clone()
    torch.manual_seed(1)
    done = init.apply(model, "zero_bias")
    assert done.started == {"0": "random_bias", "1": "tied to 0"}
    assert torch.equal(model[2].weight, before)
    assert "also that of 2 (Embedding)" in done.left["3"]
    assert not model[0].weight.any()
    assert not torch.equal(model[0].bias, model[1].bias)


def test_what_is_left_alone_and_why():
    class Raw(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.ones(3))
            self.weighed = parametrizations.weight_norm(nn.Linear(3, 3))
            self.lazy = nn.LazyLinear(3)
            self.spoken = nn.LSTM(3, 3)
            self.out = nn.ConvTranspose2d(3, 3, 2)
            self.kept = nn.Sequential(nn.Linear(3, 3))

    done = init.apply(Raw(), "zerO", exclude=["kept"])
    assert done.started == {}
    assert "holds token" in done.left[""]
    assert done.left["weighed"] == "its weight is computed from other parameters"
    assert "lazy" in done.left["lazy"]
    assert done.left["spoken"].startswith("LSTM holds")
    assert done.left["out"].startswith("ConvTranspose2d holds")
    assert done.left["kept.0"] == "excluded"


@pytest.mark.parametrize("start", ["zerO", "constant", "zeros"])
def test_starts_without_draws_have_the_same_bits_everywhere(start, device):
    models = [ResNet18(8, 10), ResNet18(8, 10)]
    state = torch.get_rng_state()
    first, second = (
        init.apply(m.to(d), start).model for m, d in zip(models, ("cpu", device), strict=True)
    )
    assert is_same(first.state_dict(), {n: v.cpu() for n, v in second.state_dict().items()})
    assert torch.equal(torch.get_rng_state(), state)


def test_random_biases_and_zero_weights():
    def started(seed: int, **options) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(1, 2000, 3), nn.Linear(5, 2000))
        return init.apply(model, {"name": "zero_bias", **options}, generator=generator).model

    normal, again = started(0, scale=100.0), started(0, scale=100.0)
    assert is_same(normal.state_dict(), again.state_dict())
    assert not any(layer.weight.any() for layer in normal)
    assert normal[1].bias.std().item() == pytest.approx(100, rel=0.1)
    uniform = started(0, distribution="uniform", scale=0.01)[0].bias
    assert 0 <= uniform.min() < 2e-5
    assert 0.00998 < uniform.max() < 0.01
    done = init.apply(nn.Conv2d(2, 2, 3, bias=False), "zero_bias")
    assert done.started == {"": "random_bias, without a bias to draw"}
    assert not done.model.weight.any()


def test_any_other_start_has_norms_of_one():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 4))
    init.apply(model, "hadamard_patches")
    norms = [layer.weight.flatten(1).norm(dim=1) for layer in model]
    torch.testing.assert_close(torch.cat(norms), torch.ones(12))
    init.apply(model, nn.init.ones_)
    assert (model[0].weight == 1).all()
    assert not model[0].bias.any()


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        if x.sum() > 0:
            return x
        return x + self.last(self.first(x))


def test_branches_that_cannot_be_traced_are_named_by_hand():
    model = Untraceable()
    done = init.apply(model, "zerO", zero_branches=True)
    assert "residual branches not found" in done.note
    assert "TraceError" in str(done)
    assert model.last.weight.any()
    init.apply(model, "zerO", branches=["last"])
    assert not model.last.weight.any()


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("constnet", {"widen": 1}, 12),
        ("resnet", {"width": 4}, 8),
        ("resnet", {"width": 4, "blocks": (1, 1), "bottleneck": True}, 2),
        ("zero_resnet", {"width": 4}, 17),
        ("perceptron", {}, 0),
    ],
)
def test_branches_of_known_networks(name, options, count):
    found, why = branch_ends(network(name, (3, 32, 32), 10, **options))
    assert (len(found), why) == (count, "")


def test_two_branches_alike_have_no_end():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x) + self.b(x)

    assert branch_ends(Twice()) == (set(), "")


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((3, "zerO"), {}, TypeError, "model must be a torch.nn.Module; got int"),
        ((nn.Linear(2, 2), "zeroes"), {}, ValueError, "init must be one of"),
        ((nn.Linear(2, 2), {"scale": 1}), {}, TypeError, "init must be a name"),
        ((nn.Linear(2, 2), {"name": "zerO", "size": 1}), {}, ValueError, "unknown key 'size'"),
        ((nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)), "identity"), {}, ValueError, "as many"),
        ((nn.Linear(2, 2), "zerO"), {"exclude": ["a"]}, ValueError, r"exclude must name .*'a'"),
        ((nn.Linear(2, 2), "zerO"), {"branches": ["a"]}, ValueError, r"branches must name .*'a'"),
        ((nn.Linear(2, 2), "zerO"), {"branches": [1, "a"]}, ValueError, "branches must name"),
        ((nn.Linear(2, 2), "zerO"), {"exclude": 5}, TypeError, "exclude must be names of modules"),
        (
            (nn.Linear(2, 2), "zerO"),
            {"zero_head": 1},
            TypeError,
            "zero_head must be a bool",
        ),
        (
            (nn.Linear(2, 2), "zero_bias"),
            {"generator": 3},
            TypeError,
            "generator must be a torch.G",
        ),
    ],
)
def test_mistakes_leave_the_model_as_it_was(arguments, options, error, message):
    before = copy.deepcopy(arguments[0])
    with pytest.raises(error, match=message):
        init.apply(*arguments, **options)
    if isinstance(before, nn.Module):
        assert is_same(arguments[0].state_dict(), before.state_dict())
