from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from softhebb_fast.models import Selection, build
from softhebb_fast.models.readout import windows
from tests.tolerances import TOLERANCES, assert_close

NET = "softkrotov-c6-k3-p1-t1:triangle_1:max_2_2_0 soft-c8-k3-p1-t1:topshare_0.4 soft-c10-t1 bp"
SHAPE = (3, 14, 10)  # 7 x 5 behind the first layer and the second


def net(**selection):
    torch.manual_seed(0)
    return build(NET, SHAPE, 4, features=Selection(**selection)).eval()


def images() -> torch.Tensor:
    return torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1))


def outputs(model) -> list[torch.Tensor]:
    x, found = images(), []
    for block in model.blocks:
        x = block(x)
        found.append(x)
    return found


@torch.no_grad()
@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize(
    ("layers", "grid", "sides"),
    [
        ((1,), 2, (2,)),
        ((2,), 0, (0,)),
        ((1, 2), 3, (3, 3)),
        ((1, 2), (4, 1), (4, 1)),
        ((1, 3), (5, 0), (5, 0)),
    ],
    ids=str,
)
def test_features_are_torchs_adaptive_pools_side_by_side(layers, grid, sides, pool):
    model = net(layers=layers, grid=grid, **({"pool": pool} if grid else {}))
    adaptive = F.adaptive_avg_pool2d if pool == "avg" else F.adaptive_max_pool2d
    found = [outputs(model)[layer - 1] for layer in layers]
    parts = [adaptive(x, side) if side else x for x, side in zip(found, sides, strict=True)]
    expected = torch.cat([part.flatten(1) for part in parts], 1)
    assert torch.equal(model.readout(images()), expected)
    assert model.head[-1].in_features == expected.shape[1] == model.readout.features
    assert torch.equal(model(images()), model.head(expected))
    assert torch.equal(model(images()[0]), model(images()[:1])[0])


@torch.no_grad()
@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize(
    ("share", "rows", "columns"),
    [
        (0.5, [(0, 5), (1, 6), (2, 7)], [(0, 3), (1, 4), (2, 5)]),
        (0.01, [(0, 3), (2, 5), (4, 7)], [(0, 3), (1, 4), (2, 5)]),
    ],
    ids=str,
)
def test_windows_overlap_and_cover_the_map(share, rows, columns, pool):
    model = net(layers=(2,), grid=3, window=share, pool=pool)
    found = outputs(model)[1]
    reduce = {"avg": torch.mean, "max": torch.amax}[pool]
    expected = [
        reduce(found[:, :, top:bottom, left:right], dim=(2, 3))
        for top, bottom in rows
        for left, right in columns
    ]
    assert_close(
        model.readout(images()), torch.stack(expected, 2).flatten(1), TOLERANCES["float32_u"]
    )


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1.0))
def test_windows_are_as_wide_as_asked(side, count, share):
    assume(count <= side)
    if count > 1 and math.ceil(share * side) > side - count + 1:
        with pytest.raises(ValueError, match=f"for {count} windows on {side} pixels"):
            windows(side, count, share)
        return
    size, step = windows(side, count, share)
    assert size >= max(step, share * side)
    assert size + step * (count - 1) == side
    assert F.avg_pool1d(torch.zeros(1, 1, side), size, step).shape[-1] == count


@torch.no_grad()
def test_mirrored_features_are_those_of_the_mirror_image():
    plain = net(layers=(1, 2), grid=(4, 3))
    model = net(layers=(1, 2), grid=(4, 3), mirrored=True, power=0.7)
    found, mirror = plain.readout(images()), plain.readout(images().flip(-1))
    assert not torch.equal(found, mirror)
    expected = ((found + mirror) / 2) ** 0.7
    assert_close(model.readout(images()), expected, TOLERANCES["float32_u"])
    assert torch.equal(model.readout(images().flip(-1)), model.readout(images()))


@torch.no_grad()
@pytest.mark.parametrize("power", [0.5, 2])
def test_a_power_of_features_keeps_their_signs(power):
    torch.manual_seed(0)
    nets = [
        build("soft-c6-k3-p1-t1:tanh bp", SHAPE, 4, features=Selection(grid=2, power=p)).eval()
        for p in (1, power)
    ]
    nets[1].load_state_dict(nets[0].state_dict())
    plain, found = (net.readout(images()) for net in nets)
    assert (plain < 0).any()
    assert (plain > 0).any()
    assert_close(found, plain.sign() * plain.abs().pow(power), TOLERANCES["float32_u"])


def test_a_root_of_features_that_are_zero_has_a_gradient():
    torch.manual_seed(0)
    model = build("soft-c6-k3-p1-t1:triangle bp", SHAPE, 4, features=Selection(power=0.5)).eval()
    x = images().requires_grad_()
    found = model.readout(x)
    assert (found == 0).any()
    found.sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.any()


@torch.no_grad()
def test_channels_behind_a_split_triangle_are_twice_the_neurons():
    torch.manual_seed(0)
    layers = "soft-c6-k3-p1-t1:split_1:avg_2_2_0 soft-c8-k3-p1-t1:split_0.7 soft-c5-t1:split_1 bp"
    model = build(layers, SHAPE, 4, features=Selection((1, 2, 3), (2, 3, 0))).eval()
    assert model.blocks[1].layer.in_channels == 12
    assert model.blocks[2].layer.in_features == 16 * 7 * 5
    assert [x.shape[1] for x in outputs(model)] == [12, 16, 10]
    assert model.readout(images()).shape == (5, 12 * 4 + 16 * 9 + 10)
    assert build(layers, SHAPE, 4).head[-1].in_features == 10


@torch.no_grad()
def test_the_last_layer_alone_is_what_a_head_sees_without_a_selection():
    torch.manual_seed(0)
    plain = build(NET, SHAPE, 4).eval()
    model = net()
    assert plain.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(model(images()), plain(images()))


@torch.no_grad()
def test_a_copy_sees_its_own_layers():
    model = net(layers=(1, 2), grid=2)
    other = copy.deepcopy(model)
    other.blocks[0].layer.weight.zero_()
    assert not torch.equal(other(images()), model(images()))
    assert other.readout.blocks[0] is other.blocks[0]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"layers": (2, 1)}, r"layers must rise, each named once; got \(2, 1\)"),
        ({"layers": (1, 1)}, "layers must rise"),
        ({"layers": (0,)}, "layers must be at least 1; got 0"),
        ({"layers": (4,)}, r"layers must be among the 3 below the classifier; got \(4,\)"),
        ({"layers": (1, 2), "grid": (1, 2, 3)}, "grid must be one side, or one for each of the 2"),
        ({"grid": -1}, "grid must be at least 0; got -1"),
        ({"layers": (1,), "grid": 6}, "grid must be at most the map of layer 1, 7x5; got 6"),
        ({"grid": 2}, "grid must be at most the map of layer 3, 1x1; got 2"),
        ({"pool": "sum"}, "pool must be one of avg, max; got 'sum'"),
        ({"window": -0.1}, "window must be finite and not negative; got -0.1"),
        ({"window": 1.1}, "window must be at most 1, the whole map; got 1.1"),
        (
            {"layers": (1,), "grid": 4, "window": 0.9},
            "window must be at most 0.571 for 4 windows on 7 pixels; got 0.9",
        ),
        ({"power": 0}, "power must be positive and finite; got 0"),
    ],
    ids=str,
)
def test_what_cannot_be_selected_is_named(selection, message):
    with pytest.raises(ValueError, match=message):
        net(**selection)


def test_mirrored_must_be_a_bool():
    with pytest.raises(TypeError, match="mirrored must be a bool; got 1"):
        Selection(mirrored=1)


def test_a_selection_survives_json():
    selection = Selection([1, 2], [4, 0], "max", window=0.5, mirrored=True, power=0.5)
    assert Selection(**selection.to_dict()) == selection
    assert selection.to_dict() == {
        **{"layers": [1, 2], "grid": [4, 0], "pool": "max"},
        **{"window": 0.5, "mirrored": True, "power": 0.5},
    }


@torch.no_grad()
def test_a_block_that_is_replaced_is_seen():
    one, x = net(layers=(1, 2), grid=2), images()
    before, other = one(x), copy.deepcopy(one)
    other.blocks[0] = copy.deepcopy(other.blocks[0])
    assert torch.equal(other(x), before)
    other.blocks[0].layer.weight.zero_()
    assert not torch.equal(other(x), before)
    assert torch.equal(one(x), before)


@pytest.mark.parametrize(
    "selection", [{"window": 0.5}, {"pool": "max"}, {"grid": [0], "window": 1}]
)
def test_how_maps_are_pooled_is_refused_where_none_is(selection):
    with pytest.raises(ValueError, match="grid must be at least 1"):
        Selection(**selection)
    Selection((1, 2), (0, 2), pool="max")  # one of them is


@pytest.mark.parametrize("pool", [["avg"], None, 2])
def test_pools_that_there_are_not(pool):
    with pytest.raises(ValueError, match="pool must be one of avg, max"):
        Selection(grid=2, pool=pool)


@pytest.mark.parametrize("name", ["features", "views"])
def test_what_is_no_selection_or_view_is_named(name):
    with pytest.raises(TypeError, match=f"{name} must be a "):
        build(NET, SHAPE, 4, **{name: {"grid": 2}})
