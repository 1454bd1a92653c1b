from __future__ import annotations

import pytest
import torch
from torch import nn

from softhebb_fast import (
    SoftHebbBlock,
    SoftHebbConv1d,
    SoftHebbConv2d,
    SoftHebbLinear,
    Triangle,
    plots,
)
from softhebb_fast.data import load
from softhebb_fast.models import build
from softhebb_fast.optim import norm_dependent
from softhebb_fast.presets import get_preset
from softhebb_fast.training import train_layers
from softhebb_fast.training.finite import NotFinite
from softhebb_fast.training.reporter import Reporter
from tests.tiny import CONFIG, changed, snapshot, trainer, write_mnist_subset


class Listening(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def digits(count: int = 64):
    return load("mnist", limit=count)


IN_PLACE = {"update": "in_place", "backend": "reference"}


def small() -> nn.Sequential:
    return nn.Sequential(
        SoftHebbBlock(1, 6, 5, t_invert=1.0, lr=0.08, pool=nn.AvgPool2d(2), **IN_PLACE),
        SoftHebbBlock(6, 9, 3, t_invert=0.65, lr=0.02, pool=nn.AvgPool2d(2), **IN_PLACE),
    )


def in_parts(**second) -> nn.Sequential:
    """The same layers, every part of a block a module of the stack."""
    options = IN_PLACE | {"lr": 0.02} | second
    return nn.Sequential(
        nn.BatchNorm2d(1, affine=False),
        SoftHebbConv2d(1, 6, 5, t_invert=1.0, lr=0.08, **IN_PLACE),
        nn.Sequential(Triangle(), nn.AvgPool2d(2), nn.BatchNorm2d(6, affine=False)),
        SoftHebbConv2d(6, 9, 3, t_invert=0.65, **options),
        Triangle(),
        nn.AvgPool2d(2),
    )


def test_a_preset_learns_what_its_run_learns(tmp_path):
    root = write_mnist_subset(tmp_path / "data")
    run = trainer(tmp_path / "run", root, probe_epochs=1)
    run.run()
    torch.manual_seed(0)
    preset = get_preset(CONFIG["preset"], neuron_factor=CONFIG["neuron_factor"])
    net = nn.Sequential(*build(preset, (1, 28, 28), 10).blocks)
    images = load("mnist", root=root, limit=CONFIG["limit"])
    figures = train_layers(net, images, batch_size=CONFIG["unsup_batch"])
    assert not changed(snapshot(nn.Sequential(*run.net.blocks)), snapshot(net))
    seconds = {"seconds": 0.0}
    learned = [row | seconds for row in run.rows if row["phase"] == "hebbian"]
    assert [row | seconds for row in figures.rows] == learned
    assert figures.neurons == run.neurons


def test_a_block_and_its_parts_learn_the_same():
    torch.manual_seed(1)
    blocks = small()
    torch.manual_seed(1)
    parts = in_parts()
    train_layers(blocks, digits(), epochs=2)
    train_layers(parts, digits(), epochs=2)
    x, _ = digits().batch(slice(0, 10))
    assert torch.equal(blocks[1].layer.weight, parts[3].weight)
    assert torch.equal(blocks[1].norm.running_mean, parts[2][2].running_mean)
    assert torch.equal(blocks(x), parts(x))


def test_features_that_are_not_kept_give_the_same():
    def trained(gib: float) -> tuple[dict, list[str]]:
        torch.manual_seed(1)
        net, reporter = small(), Listening()
        train_layers(net, digits(), epochs=2, cache_gib=gib, reporter=reporter)
        return snapshot(net), reporter.said

    (kept, quiet), (again, said) = trained(8), trained(0)
    assert not changed(kept, again)
    assert quiet == []
    assert "computed again for every batch" in said[0]


def test_layers_by_an_optimizer_learn_what_layers_in_place_learn():
    torch.manual_seed(1)
    in_place = in_parts(lr_power=0.5)
    torch.manual_seed(1)
    by_gradient = in_parts(update="grad", lr=None)
    by_gradient[1] = in_place[1]
    second = by_gradient[3]
    optimizer = torch.optim.SGD([second.weight], lr=0.02, maximize=True)
    norm_dependent(optimizer, lr_power=0.5)
    frozen = in_place[1].weight.requires_grad_(False)
    train_layers(in_place, digits())
    start = frozen.clone()
    train_layers(by_gradient, digits(), optimizer=optimizer)
    torch.testing.assert_close(second.weight, in_place[3].weight)
    assert torch.equal(frozen, start)


def test_vectors_without_labels_are_enough():
    x = torch.randn(50, 8)
    net = nn.Sequential(SoftHebbLinear(8, 5, lr=0.1, update="in_place"), Triangle())
    before = net[0].weight.clone()
    figures = train_layers(net, x, epochs=3)
    assert not torch.equal(net[0].weight, before)
    assert not any(module.training for module in net.modules())
    assert {row["layer"] for row in figures.rows} == {1}
    assert figures.rows[-1]["epoch"] == 3
    assert sum(figures.neurons[1]["wins"]) == 50


def test_a_module_of_two_layers_trains_both_at_once():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = SoftHebbConv2d(1, 4, 3, lr=0.1, update="in_place")
            self.two = SoftHebbConv2d(4, 5, 3, lr=0.1, update="in_place")

        def forward(self, x):
            return self.two(self.one(x).relu())

    net = nn.Sequential(Two(), SoftHebbConv2d(5, 3, 3, lr=0.1, update="in_place"))
    before = snapshot(net)
    figures = train_layers(net, torch.rand(20, 1, 9, 9))
    assert changed(before, snapshot(net)) == {"0.one.weight", "0.two.weight", "1.weight"}
    assert sorted({row["layer"] for row in figures.rows}) == [1, 2, 3]
    assert sorted(figures.neurons) == [1, 2, 3]


def test_what_does_not_learn_is_told():
    net, reporter = nn.Sequential(*small(), nn.Flatten(), nn.Linear(9 * 5 * 5, 10)), Listening()
    before = snapshot(net)
    train_layers(net, digits(), reporter=reporter)
    assert reporter.said == ["Linear, module 4 of the network, stays as it is"]
    assert "3.weight" not in changed(before, snapshot(net))
    net[0].layer.weight.requires_grad_(False)
    train_layers(net, digits(), reporter=(reporter := Listening()))
    assert reporter.said[0] == "SoftHebbBlock, module 1 of the network, stays as it is"


@pytest.mark.parametrize(
    ("net", "options", "error", "message"),
    [
        (nn.Linear(2, 2), {}, TypeError, "net must be an nn.Sequential; got Linear"),
        (nn.Sequential(nn.Linear(8, 2)), {}, ValueError, "a SoftHebb layer that is not frozen"),
        (nn.Sequential(SoftHebbLinear(8, 2)), {}, ValueError, "optimizer must be given .* layer 1"),
        (None, {"optimizer": 1}, ValueError, "optimizer is for layers with update='grad'"),
        (None, {"epochs": -1}, ValueError, "epochs must be at least 0"),
        (None, {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        (None, {"cache_dtype": "int8"}, ValueError, "cache_dtype must be one of"),
        (None, {"images": torch.ones(3)}, ValueError, r"tensor \[N, \.\.\.\]; got torch.float32"),
        (None, {"images": torch.ones(0, 8)}, ValueError, "images must hold one at least"),
        (None, {"images": torch.full((2, 8), torch.nan)}, ValueError, "images must be finite"),
    ],
)
def test_mistakes_are_named(net, options, error, message):
    if net is None:
        net = nn.Sequential(SoftHebbLinear(8, 2, lr=0.1, update="in_place"))
    images = options.pop("images", torch.ones(4, 8))
    before = snapshot(net)
    with pytest.raises(error, match=message):
        train_layers(net, images, **options)
    assert not changed(before, snapshot(net))


def test_weights_that_are_lost_are_named():
    net = nn.Sequential(SoftHebbLinear(8, 2, lr=1e38, lr_power=0.0, update="in_place"))
    with pytest.raises(NotFinite, match=r"layer 1 \(blocks.0.weight\) became infinite or NaN at"):
        train_layers(net, torch.randn(40, 8), epochs=3)


@pytest.mark.parametrize("make", [small, in_parts])
def test_pictures_of_a_stack(make, tmp_path):
    torch.manual_seed(1)
    net = make()
    figures = train_layers(net, digits())
    written = plots.plot_run(net, figures.rows, tmp_path, recorded=figures.neurons, neurons=4)
    assert [path.name for path in written] == [
        "filters.png",
        "receptive_fields_2.png",
        "curves.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_a_sequence_has_curves_alone(tmp_path):
    net = nn.Sequential(SoftHebbConv1d(2, 4, 3, lr=0.1, update="in_place"), Triangle())
    figures = train_layers(net, torch.randn(20, 2, 9))
    written = plots.plot_run(net, figures.rows, tmp_path, recorded=figures.neurons)
    assert [path.name for path in written] == ["curves.png"]


def test_receptive_fields_do_not_depend_on_how_a_network_is_written():
    torch.manual_seed(1)
    blocks = small()
    torch.manual_seed(1)
    parts = in_parts()
    train_layers(blocks, digits())
    train_layers(parts, digits())
    assert plots.receptive_field_size(parts, 1) == plots.receptive_field_size(blocks, 1) == 10
    found = [plots.receptive_fields(net, 1, [0, 3], steps=5) for net in (blocks, parts)]
    assert found[0].shape == (2, 1, 10, 10)
    assert torch.equal(*found)
