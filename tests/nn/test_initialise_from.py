"""Starts from patches of images and from their clusters."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from softhebb_fast import SoftHebbConv1d, SoftHebbConv2d, SoftHebbLinear, init
from softhebb_fast.nn import Block, PatchWhitening, Triangle, initialise_from
from tests.nn.test_whitening import images
from tests.tolerances import TOLERANCES, assert_close


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(x, kernel, padding=0, stride=1, dilation=1):
    """All zero-padded patches ``[P, N]`` of ``x``, by torch's own unfold."""
    found = nn.functional.unfold(x, kernel, dilation, padding, stride)
    return found.movedim(1, -1).flatten(0, 1)


def unit(filters, p=2.0):
    filters = filters.detach().flatten(1).double()
    return filters / torch.linalg.vector_norm(filters, p, dim=1, keepdim=True)


def places(filters, patches, p=2.0):
    """Where each filter lies among the patches; all must be found."""
    apart = torch.cdist(unit(filters, p), unit(patches, p), p=float("inf"))
    assert apart.min(dim=1).values.max() < TOLERANCES["float32_u"]
    return apart.argmin(dim=1)


GEOMETRIES = [{}, {"padding": 2}, {"stride": 3, "dilation": 2}, {"padding": 1, "dilation": 2}]


@pytest.mark.parametrize("p", [2.0, 3.0])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_filters_are_patches(geometry, p):
    options = {"init": "patches", "radius": 3.0, "lebesgue_p": p, "padding_mode": "zeros"}
    layer = SoftHebbConv2d(3, 20, 3, **geometry, **options)
    x = images(dtype=torch.float32)
    initialise_from(layer, x, seeded())
    found = places(layer.weight, rows(x, 3, **geometry), p)
    assert len(found.unique()) == 20
    assert layer.norms().tolist() == pytest.approx([3.0] * 20)
    assert layer(x).isfinite().all()


def test_what_is_drawn_follows_the_generator():
    x, weights = images(dtype=torch.float32), []
    for name in ("patches", "kmeans"):
        for seed in (0, 0, 1):
            layer = SoftHebbConv2d(3, 20, 3, init=name)
            initialise_from(layer, x, seeded(seed))
            weights.append(layer.weight.detach().clone())
    first, second, third, *clusters = weights
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(clusters[0], clusters[1])
    assert not torch.equal(clusters[0], clusters[2])


def test_linear_layers_and_sequences():
    x = torch.randn(40, 12, generator=seeded())
    layer = SoftHebbLinear(12, 8, init="patches", radius=2.0)
    initialise_from(layer, x, seeded())
    assert len(places(layer.weight, x).unique()) == 8
    line = SoftHebbConv1d(3, 8, 4, init="patches", padding=1, padding_mode="zeros")
    x = torch.randn(5, 3, 30, generator=seeded())
    initialise_from(line, x, seeded())
    padded = nn.functional.pad(x, (1, 1)).unsqueeze(2)
    assert len(places(line.weight, rows(padded, (1, 4))).unique()) == 8
    line(x)


def test_a_block_starts_from_what_its_layer_sees():
    x = images(dtype=torch.float32) * 3 + 1
    whitening = PatchWhitening(3, 3, padding=1, contrast=0.01).fit(x)
    block = Block(SoftHebbConv2d(27, 20, 1, init="patches"), norm=whitening)
    initialise_from(block, x, seeded())
    places(block.layer.weight, rows(whitening(x), 1))

    norm = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.Dropout(0.5))
    layer = SoftHebbConv2d(3, 20, 3, init="patches")
    block = Block(layer, norm=norm, activation=Triangle())
    before = copy.deepcopy(norm.state_dict())
    initialise_from(block, x, seeded())
    places(layer.weight, rows(nn.functional.batch_norm(x, None, None, training=True), 3))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    assert norm[0].training


def test_patches_are_different_and_not_zero():
    patches = torch.tensor([[0.0, 0], [1, 0], [1, 0], [0, 2], [0, 0], [-1, 0]]).repeat(50, 1)
    weight = init.patches_(torch.empty(3, 2), patches, radius=2.0, generator=seeded())
    assert sorted(weight.tolist()) == [[-2, 0], [0, 2], [2, 0]]
    message = r"4 different ones that are not zero, one a filter; got 3 among 300"
    for start in (init.patches_, init.kmeans_):
        with pytest.raises(ValueError, match=message):
            start(torch.empty(4, 2), patches)


def test_means_of_clusters_are_found():
    centres = 5 * torch.eye(6)[:4] + torch.tensor([0.0, 0, 0, 0, 1, 0])
    noise = torch.randn(2500, 4, 6, generator=seeded()) / 10
    weight = torch.empty(4, 6)
    # A start with two patches of one cluster keeps them: of some seeds one has all four.
    apart = min(
        float(torch.cdist(unit(weight), unit(centres)).min(dim=0).values.max())
        for seed in range(40)
        if init.kmeans_(weight, (centres + noise).flatten(0, 1), 2.0, generator=seeded(seed))
        is weight
    )
    assert apart < 0.01
    assert torch.linalg.vector_norm(weight, dim=1).tolist() == pytest.approx([2.0] * 4)


def test_passes_are_those_of_mini_batch_kmeans():
    """Against the rule itself, one patch after the other, on batches of one order."""
    x = torch.randn(300, 4, generator=seeded(), dtype=torch.float32)
    weight = init.kmeans_(torch.empty(3, 4), x, 1.0, generator=seeded(1), passes=2)
    generator = seeded(1)
    patches = x.unique(dim=0)
    patches = patches[torch.randperm(300, generator=generator)].double()
    means, counts = patches[:3].clone(), [0] * 3
    for _ in range(2):
        batch = patches[torch.randperm(300, generator=generator)]
        nearest = torch.cdist(batch, means).argmin(dim=1)
        for patch, k in zip(batch, nearest.tolist(), strict=True):
            counts[k] += 1
            means[k] += (patch - means[k]) / counts[k]
    assert_close(weight.double(), unit(means), TOLERANCES["float32_u"])


def test_breakers_and_settings():
    x = images(dtype=torch.float32)
    plain = SoftHebbConv2d(3, 20, 3, init={"name": "patches", "radius": 3})
    noisy = SoftHebbConv2d(3, 20, 3, init="patches:radius=3,noise=0.1")
    for layer in (plain, noisy):
        initialise_from(layer, x, seeded())
    assert plain.norms().tolist() == pytest.approx([3.0] * 20)
    share = (noisy.weight - plain.weight).flatten(1).norm(dim=1) / 3
    assert 0.05 < share.min() < share.max() < 0.2
    few = SoftHebbConv2d(3, 2, 3, init="kmeans:sample=3,passes=1")
    initialise_from(few, x, seeded())
    with pytest.raises(ValueError, match=r"2 different ones .*; got 1 among 1"):
        initialise_from(SoftHebbConv2d(3, 2, 3, init="kmeans:sample=1"), x, seeded())


def test_a_layer_that_waits_is_not_used():
    x = images(dtype=torch.float32)
    layer = SoftHebbConv2d(3, 20, 3, init="patches", lr=0.1, update="in_place", bias=True)
    block = Block(layer, norm=nn.BatchNorm2d(3, affine=False), activation=Triangle())
    assert not layer.weight.any()
    assert layer.bias.unique().numel() == 1
    for use in (layer, layer.step_, block, block.step_, layer.eval(), block.eval()):
        with pytest.raises(RuntimeError, match="init='patches' starts from images, and has not"):
            use(x)
    layer.train()
    initialise_from(layer, x, seeded())
    loaded = SoftHebbConv2d(3, 20, 3, init="patches", bias=True)
    loaded.load_state_dict(layer.state_dict())
    assert torch.equal(loaded.eval()(x), copy.deepcopy(layer).eval()(x))
    layer.reset_parameters()
    with pytest.raises(RuntimeError, match="has not yet"):
        layer(x)


def test_norms_of_one_are_warned_of():
    x = images(dtype=torch.float32)
    still = SoftHebbConv2d(3, 20, 3, init="patches", radius=1.0, lr=0.1, update="in_place")
    with pytest.warns(UserWarning, match="norms of radius=1 do not learn"):
        initialise_from(still, x, seeded())
    before = still.weight.detach().clone()
    for _ in range(20):
        still(x)
    assert_close(still.weight, before, 1e-3)  # the warning is true
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({"radius": 3.0}, {"radius": 1.0, "lr_power": 0.0}):
            initialise_from(SoftHebbConv2d(3, 20, 3, init="patches", **options), x, seeded())


def test_bad_starts():
    x = images(dtype=torch.float32)
    with pytest.raises(TypeError, match="module must be a SoftHebb layer or a block of one"):
        initialise_from(nn.Conv2d(3, 8, 3), x)
    with pytest.raises(ValueError, match=r"init must be made of data.*got 'normal'"):
        initialise_from(SoftHebbConv2d(3, 20, 3), x)
    with pytest.raises(ValueError, match=r"groups must be 1 .*got 3"):
        initialise_from(SoftHebbConv2d(3, 21, 3, groups=3, init="patches"), x)
    layer = SoftHebbConv2d(3, 20, 3, init="patches")
    with pytest.raises(ValueError, match="x must be a batch of 3 channels"):
        initialise_from(layer, x[:, :2])
    with pytest.raises(ValueError, match="patches must be finite"):
        initialise_from(layer, torch.full_like(x, float("nan")))
    assert layer.waits_for_data
    assert not layer.weight.any()
    with pytest.raises(
        ValueError, match="takes radius, lebesgue_p, generator, sample, passes, and"
    ):
        SoftHebbConv2d(3, 20, 3, init="kmeans:sampel=3")
    with pytest.raises(ValueError, match=r"call nn\.initialise_from\(layer, images\)"):
        init.apply(nn.Conv2d(3, 8, 3), "patches")
    with pytest.raises(ValueError, match=r"patches must be \[P, 27\]; got \(4, 9\)"):
        init.patches_(torch.empty(20, 3, 3, 3), torch.rand(4, 9))
    for options in ({"radius": 0}, {"lebesgue_p": float("inf")}, {"passes": 0}, {"sample": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            init.kmeans_(torch.empty(2, 3), torch.rand(40, 3), **options)


def test_a_mean_of_zero_gives_way_to_the_patch_that_it_began_from():
    x = torch.tensor([[1.0, 0], [-1.0, 0], [50, 50], [60, 50], [50, 60]])
    for seed in range(8):
        layer = SoftHebbLinear(2, 2, init="kmeans", radius=3.0)
        initialise_from(layer, x, seeded(seed))
        assert torch.allclose(layer.weight.norm(dim=1), torch.tensor(3.0))


@pytest.mark.parametrize(("scale", "p"), [(1e-3, 150.0), (1e30, 20.0), (1e-30, 2.0)])
def test_norms_are_reached_where_powers_vanish_or_overflow(scale, p):
    patches = scale * torch.rand(10, 4, generator=seeded())
    found = init.patches_(torch.empty(3, 4), patches, 25.0, p).double()
    norms = torch.linalg.vector_norm(found / 25, p, dim=1)
    assert_close(norms, torch.ones(3), TOLERANCES["float32_u"])


def test_a_start_in_float64_keeps_the_patches_digits():
    x = torch.randn(20, 6, generator=seeded(), dtype=torch.float64)
    layer = SoftHebbLinear(6, 2, init="patches", radius=3.0, dtype=torch.float64)
    initialise_from(layer, x)
    apart = torch.cdist(unit(layer.weight), unit(x), p=float("inf")).min(dim=1).values
    assert apart.max() < TOLERANCES["float64"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patches:sample=abc", "sample must be an int"),
        ("patches:sample=1.5", "sample must be an int"),
        ("kmeans:sample=0", "sample must be at least 1"),
        ("kmeans:passes=0", "passes must be at least 1"),
    ],
)
def test_settings_of_a_start_from_data_are_checked_at_once(text, message):
    with pytest.raises((TypeError, ValueError), match=message):
        SoftHebbLinear(6, 2, init=text)


def test_padding_that_an_image_is_too_small_for_is_named():
    layer = SoftHebbConv2d(1, 2, 3, padding=5, padding_mode="reflect", init="patches", radius=3.0)
    with pytest.raises(ValueError, match="padding must be smaller than the image"):
        initialise_from(layer, torch.rand(100, 1, 4, 4))


def test_a_state_of_a_layer_that_waits_leaves_another_waiting():
    waiting, other = (SoftHebbLinear(6, 2, init="patches", radius=3.0) for _ in "ab")
    started = copy.deepcopy(waiting)
    initialise_from(started, torch.randn(20, 6))
    other.load_state_dict(waiting.state_dict())
    with pytest.raises(RuntimeError, match="initialise_from"):
        other(torch.randn(3, 6))
    other.load_state_dict(started.state_dict())
    other(torch.randn(3, 6))
    other.load_state_dict(waiting.state_dict())
    assert other.waits_for_data
