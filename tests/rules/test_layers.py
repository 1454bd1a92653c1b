"""Layers of any rule: as the SoftHebb layers, and the state of their rule."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from softhebb_fast import (
    HebbianConv1d,
    HebbianConv2d,
    HebbianLinear,
    SoftHebbConv2d,
    SoftHebbLinear,
    Triangle,
    convert,
    functional,
)
from softhebb_fast.kinds import RULES
from softhebb_fast.nn import Block
from softhebb_fast.options import Rule

IN_PLACE = {"update": "in_place", "lr": 0.1}
LAYERS = {
    "conv2d": (lambda **o: HebbianConv2d(3, 6, 3, padding=1, **o), (4, 3, 6, 6)),
    "conv1d": (lambda **o: HebbianConv1d(3, 6, 3, padding=1, **o), (4, 3, 9)),
    "linear": (lambda **o: HebbianLinear(10, 6, **o), (4, 10)),
}
OF_STATE = {"bcm": "threshold", "kmeans": "counts", "similarity": "lateral"}


def make(kind: str, **options) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    return LAYERS[kind][0](generator=generator, **{"radius": 1.0, "t_invert": 2.0, **options})


def batch(kind: str, rule: str = "softhebb", seed: int = 0) -> tuple[torch.Tensor, dict]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(LAYERS[kind][1], generator=draw)
    labelled = rule in ("teacher", "delta_rule")
    return x, {"target": torch.randint(0, 6, (4,), generator=draw)} if labelled else {}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rule", RULES)
def test_both_updates_learn_and_return_u(kind, rule):
    x, given = batch(kind, rule)
    layer = make(kind, rule=rule, bias=True)
    wanted = layer.hebbian_update(x, **given)
    u = layer(x, **given)
    assert torch.equal(u, wanted.u)
    assert torch.equal(layer.weight.grad, wanted.delta_w)
    assert (layer.bias.grad is not None) == (rule in ("softhebb", "instar"))
    stepper = make(kind, rule=rule, bias=True, **IN_PLACE)
    start = stepper.weight.detach().clone()
    torch.testing.assert_close(stepper(x, **given), wanted.u)
    rates = 0.1 * ((start.flatten(1).norm(dim=1) - 1).abs() + 1e-10) ** stepper.lr_power
    moved = start + rates.view(-1, *[1] * (start.dim() - 1)) * wanted.delta_w
    torch.testing.assert_close(stepper.weight.detach(), moved)
    assert not torch.equal(stepper.weight, start)
    frozen = layer.eval()
    torch.testing.assert_close(frozen(x), u, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["conv2d", "linear"])
@pytest.mark.parametrize("options", [{}, IN_PLACE])
def test_softhebb_is_the_layer_of_its_own(kind, options):
    own = make(kind, **options)
    other = SoftHebbConv2d(3, 6, 3, padding=1, radius=1.0, t_invert=2.0, **options)
    if kind == "linear":
        other = SoftHebbLinear(10, 6, radius=1.0, t_invert=2.0, **options)
    assert own.state_dict().keys() == other.state_dict().keys()
    other.load_state_dict(own.state_dict())
    x, _ = batch(kind)
    assert torch.equal(own(x), other(x))
    assert torch.equal(own.weight, other.weight)
    if not options:
        assert torch.equal(own.weight.grad, other.weight.grad)


@pytest.mark.parametrize("rule", ["softhebb", "krotov", "kmeans", "hebb"])
def test_the_rules_own_options(rule):
    layer = make("linear", rule=rule)
    assert layer.wta == {"krotov": "hard_anti", "kmeans": "hard"}.get(rule, "soft_anti")
    assert (layer.delta, layer.rank) == ((0.4, 2) if rule == "krotov" else (2.0, 3))
    assert layer.lr_power == (0.5 if rule == "softhebb" else 0.0)
    assert layer.normalise == {"kmeans": "count"}.get(rule, "max")
    assert repr(rule) in repr(layer)


@pytest.mark.parametrize("options", [{}, IN_PLACE])
@pytest.mark.parametrize("rule", OF_STATE)
@pytest.mark.parametrize("kind", LAYERS)
def test_state_moves_is_saved_and_starts_again(kind, rule, options):
    x, _ = batch(kind)
    layer, name = make(kind, rule=rule, momentum=0.25, **options), OF_STATE[rule]
    statistic = layer.hebbian_update(x).statistic
    positions = layer(x).numel() // 6
    state = getattr(layer, name)
    if rule == "bcm":
        torch.testing.assert_close(state, 0.25 * statistic / positions)
    elif rule == "kmeans":
        assert torch.equal(state, statistic)
        assert state.sum() == positions
    else:
        most = statistic.diagonal().max()
        expected = 0.25 * statistic.fill_diagonal_(0) / most
        torch.testing.assert_close(state, expected)
    twin = make(kind, rule=rule, momentum=0.25, **options)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), twin(x))
    assert torch.equal(getattr(twin, name), getattr(layer, name))
    assert torch.equal(twin.weight, layer.weight)
    before = state.clone()
    layer.hebbian_update(x)
    layer.eval()(x)
    assert torch.equal(getattr(layer, name), before)
    layer.reset_parameters()
    assert not getattr(layer, name).any()


def test_state_outlives_copies_files_and_other_dtypes():
    x, _ = batch("linear")
    layer = make("linear", rule="kmeans", **IN_PLACE)
    layer(x)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert torch.equal(other.counts, layer.counts)
    assert layer.bfloat16().counts.dtype == torch.float32
    assert layer.double().counts.dtype == torch.float64


def test_groups_keep_their_lateral_weights_apart():
    layer = HebbianConv2d(4, 6, 1, groups=2, rule="similarity", radius=1.0)
    assert layer.lateral.shape == (6, 3)
    layer(torch.randn(2, 4, 5, 5))
    own = torch.arange(6) % 3
    assert not layer.lateral.gather(1, own[:, None]).any()
    assert layer.lateral.any(dim=1).all()


@pytest.mark.parametrize("kind", LAYERS)
def test_a_modulator_of_0_teaches_nothing(kind):
    x, _ = batch(kind)
    layer = make(kind, rule="oja", **IN_PLACE)
    start = layer.weight.detach().clone()
    layer(x, modulator=torch.zeros(4))
    assert torch.equal(layer.weight, start)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    layer(x, modulator=signs)
    wanted = make(kind, rule="oja", **IN_PLACE)
    found = wanted.hebbian_update(x, modulator=signs).delta_w
    torch.testing.assert_close(layer.weight.detach(), start + 0.1 * found)


def test_neurons_of_rate_0_stay_as_they_are():
    mask = torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0, 1.0])
    x, _ = batch("linear")
    layer = make("linear", rule="oja", neuron_rates=mask, unit_norm=True, **IN_PLACE)
    start = layer.weight.detach().clone()
    layer(x)
    stayed = (layer.weight == start).all(dim=1)
    assert stayed.tolist() == (mask == 0).tolist()
    torch.testing.assert_close(layer.norms()[mask > 0], torch.ones(4))
    grad = make("linear", rule="oja", neuron_rates=mask)
    grad(x)
    whole = grad.hebbian_update(x).delta_w
    assert torch.equal(grad.weight.grad, whole * mask[:, None])
    assert "neuron_rates" in grad.state_dict()
    assert torch.equal(layer.learning_rates(), 0.1 * mask)


def test_rounding_at_random_goes_to_unit_norm_too():
    x, _ = batch("linear")
    layer = make("linear", rule="oja", unit_norm=True, rounding="stochastic", **IN_PLACE)
    layer = layer.bfloat16()
    layer(x.bfloat16())
    torch.testing.assert_close(layer.norms(), torch.ones(6), rtol=0, atol=2e-2)


@pytest.mark.parametrize("wta", ["hard", "soft"])
def test_a_conscience_shares_out_the_wins(wta):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(4000, 10, generator=draw)
    shares = {}
    for conscience in (0.0, 0.5):
        layer = make(
            *("linear",),
            rule="instar",
            wta=wta,
            conscience=conscience,
            init="positive",
            **{**IN_PLACE, "lr": 0.01},
        )
        for rows in x.split(100):
            layer(rows)
        wins = layer.hebbian_update(x).statistic
        shares[conscience] = wins / wins.sum()
    assert shares[0.5].std() < 0.5 * shares[0.0].std()
    assert shares[0.5].min() > 0.05
    assert layer.shares.sum().item() == pytest.approx(1)


BLOCK_RULES = ["oja", "kmeans", "bcm", "teacher", "sanger", "similarity", "krotov"]


@pytest.mark.parametrize("options", [{}, IN_PLACE])
@pytest.mark.parametrize("rule", BLOCK_RULES)
def test_blocks_are_their_parts(rule, options):
    x, given = batch("conv2d", rule)
    parts = make("conv2d", rule=rule, **options)
    block = Block(copy.deepcopy(parts), activation=Triangle(), pool=nn.MaxPool2d(2))
    with torch.no_grad():
        out = block(x, **given)
        expected = nn.MaxPool2d(2)(Triangle()(parts(x, **given)))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block.layer.weight.detach(), parts.weight.detach())
    if not options:
        torch.testing.assert_close(block.layer.weight.grad, parts.weight.grad)
    for name, buffer in parts.named_buffers():
        torch.testing.assert_close(getattr(block.layer, name), buffer)


@pytest.mark.parametrize("rule", ["oja", "kmeans", "bcm", "similarity", "delta_rule"])
@pytest.mark.parametrize("options", [{}, IN_PLACE])
def test_compiled_layers_learn_alike(rule, options):
    torch.compiler.reset()
    x, given = batch("linear", rule)
    layer = make("linear", rule=rule, **options)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        u, v = layer(x, **given), compiled(x, **given)
        torch.testing.assert_close(v, u)
    torch.testing.assert_close(twin.weight.detach(), layer.weight.detach())
    for name, buffer in layer.named_buffers():
        torch.testing.assert_close(getattr(twin, name), buffer)


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_are_exported_and_traced_as_plain_ones(kind):
    x, _ = batch(kind)
    layer = make(kind, rule="similarity").eval()
    expected = layer(x)
    for other in (
        torch.export.export(layer, (x,)).module(),
        torch.jit.trace(layer, x),
        torch.fx.symbolic_trace(layer),
    ):
        torch.testing.assert_close(other(x), expected)
    with pytest.raises(RuntimeError, match="cannot be traced or exported"):
        torch.export.export(layer.train(), (x,))


def test_a_step_with_a_graph_leads_back_to_x():
    x, _ = batch("linear")
    x.requires_grad_()
    layer = make("linear", rule="oja", **IN_PLACE)
    weight = layer.weight.detach().clone()
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(dim=0).expand(4, 10))
    assert not torch.equal(layer.weight, weight)


def test_conversion_leaves_layers_of_any_rule_alone():
    model = nn.Sequential(nn.Linear(10, 6), make("linear", rule="oja"), nn.Linear(6, 2))
    result = convert(model)
    assert result.converted == ["0"]
    assert type(model[1]) is HebbianLinear


WRONG = {
    "unit_norm": ({"unit_norm": True}, "unit_norm is for update='in_place'"),
    "momentum": ({"momentum": 2.0}, "momentum must be at most 1"),
    "conscience": ({"rule": "oja", "conscience": 1.0}, "conscience must be 0 but for"),
    "neuron_rates": ({"neuron_rates": torch.ones(3)}, r"neuron_rates must be a tensor \[6\]"),
    "rule": ({"rule": "ojas"}, "rule must be one of"),
    "tensor": ({"rule": Rule(modulator=torch.ones(1))}, "rule must come without its modulator"),
    "wta": ({"rule": "krotov", "wta": "soft"}, "wta must be 'hard_anti'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_named(name):
    options, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        make("linear", **options)


def test_labels_are_asked_for():
    layer, (x, _) = make("linear", rule="teacher"), batch("linear")
    with pytest.raises(ValueError, match="target must be given"):
        layer(x)
    assert layer.weight.grad is None
    assert layer.eval()(x).shape == (4, 6)


IN_VAIN = {
    "a modulator that is no tensor": ({"modulator": [1.0]}, TypeError, "modulator must be"),
    "a complex modulator": ({"modulator": torch.ones(4) * 1j}, TypeError, "modulator must be real"),
    "a modulator of others": ({"modulator": torch.ones(5)}, ValueError, "modulator must be"),
    "a complex target": ({"target": torch.ones(4, 6) * 1j}, TypeError, "target must be real"),
    "a target of others": ({"target": torch.ones(4, 7)}, ValueError, "target must be"),
    "no class": ({"target": torch.full((4,), 6)}, ValueError, "target must hold"),
}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", ["conv2d", "conv1d", "linear"])
@pytest.mark.parametrize("name", IN_VAIN)
def test_what_a_batch_is_told_is_checked_where_nothing_learns(name, kind, frozen):
    given, error, message = IN_VAIN[name]
    layer, (x, _) = make(kind, rule="teacher"), batch(kind)
    layer.requires_grad_(not frozen).train(frozen)
    told = {"target": torch.zeros(4, dtype=torch.long), "modulator": torch.ones(4)}
    assert torch.equal(layer(x, **told), layer(x))
    with pytest.raises(error, match=message):
        layer(x, **given)
    with pytest.raises(ValueError, match="target must be None"):
        make(kind, rule="oja").eval()(x, target=told["target"])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("x", [[1.0], None, torch.ones(2, dtype=torch.int32), torch.ones(())])
def test_an_x_that_does_not_fit_is_named_beside_what_a_batch_is_told(kind, training, x):
    layer = make(kind, rule="teacher").train(training)
    told = {"target": torch.zeros(4, dtype=torch.long), "modulator": torch.ones(4)}
    for call in (layer, layer.hebbian_update):
        for given in ({}, told):
            with pytest.raises((TypeError, ValueError), match="x must"):
                call(x, **given)


def test_a_block_hands_on_what_a_batch_is_told_where_nothing_learns():
    x = torch.randn(4, 3, 8, 8)
    layer = HebbianConv2d(3, 6, 3, rule="teacher", backend="reference")
    for layer.backend in ("reference", "auto"):
        block = Block(layer, activation=nn.ReLU()).eval()
        assert torch.equal(block(x, target=torch.zeros(4, dtype=torch.long)), block(x))
        for bad in (torch.ones(5), torch.ones(4) * 1j):
            with pytest.raises((ValueError, TypeError), match="modulator must be"):
                block(x, modulator=bad)
        with pytest.raises(TypeError, match=r"modulator must be a torch\.Tensor"):
            block(x[0], modulator=[1.0])


def test_a_rule_of_ones_own():
    x, _ = batch("linear")
    layer = make("linear", rule=Rule("linear", "activity", normalise="mean"))
    layer(x)
    expected = functional.hebbian_linear(x, layer.weight.detach(), rule=layer.rule).delta_w
    assert torch.equal(layer.weight.grad, expected)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    "options",
    [{"rule": rule} for rule in OF_STATE] + [{"rule": "kmeans", "conscience": 0.5}],
    ids=str,
)
def test_an_empty_batch_leaves_the_state_of_a_rule_as_it_was(kind, options):
    layer = make(kind, **options, **IN_PLACE)
    x, labels = batch(kind, options["rule"])
    layer(x, **labels)
    before = copy.deepcopy(layer.state_dict())
    layer(x[:0], **labels)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]), name
