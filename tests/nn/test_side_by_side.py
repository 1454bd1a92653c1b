"""Blocks and networks side by side learn what each learns alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from softhebb_fast import (
    HebbianConv2d,
    RePU,
    SoftHebbConv2d,
    SoftHebbLinear,
    SplitTriangle,
    TopShare,
    Triangle,
)
from softhebb_fast.models import SideBySide, build
from softhebb_fast.nn import Block, PatchWhitening, side_by_side, take_apart_
from softhebb_fast.optim import LinearDecay
from softhebb_fast.presets import get_preset
from tests.tolerances import TOLERANCES, assert_close

STEPS = 4
SINGLE = {torch.float64: "float64_steps", torch.float32: "float32_run", torch.bfloat16: "bfloat16"}
POOLS = {"max": nn.MaxPool2d(4, 2, 1), "avg": nn.AvgPool2d((2, 3), (2, 1)), "none": None}
LAYERS = {
    "plain": {},
    "hard": {"wta": "hard"},
    "hard_anti": {"wta": "hard_anti", "rank": 2},
    "groups": {"groups": 2},
    "strided": {"stride": (2, 1), "dilation": (1, 2)},
    "lebesgue": {"lebesgue_p": 3.0},
    "unit": {"rule": "oja", "normalise": "mean", "unit_norm": True},
    "kmeans": {"rule": "kmeans"},
    "similarity": {"rule": "similarity", "lr": 0.01},
}


def block(seed, backend, pool=POOLS["max"], activation=None, **options):
    """Of 2 channels and 6 neurons. Norms, and with them rates, depend on the seed."""
    torch.manual_seed(seed)
    kind = HebbianConv2d if "rule" in options else SoftHebbConv2d
    given = {"lr": 0.1, "t_invert": 1.0, "padding": 1, "update": "in_place", **options}
    layer = kind(2, 6, 3, radius=1.5 + seed, backend=backend, **given)
    activation = Triangle(0.7) if activation is None else activation
    return Block(layer, norm=nn.BatchNorm2d(2, affine=False), activation=activation, pool=pool)


def batches(count, *shape, dtype=torch.float32, seed=7):
    generator = torch.Generator().manual_seed(seed)
    scales = torch.arange(1, count + 1)  # one network sees larger numbers than another
    return [(s * torch.randn(shape, generator=generator)).to(dtype) for s in scales]


def learn(blocks, joint, dtype=torch.float32, tol=None):
    """Some steps of each alone, and of all together; compares outputs, weights and statistics."""
    alone = copy.deepcopy(blocks)
    tol = TOLERANCES[SINGLE[dtype]] if tol is None else tol
    for step in range(STEPS):
        xs = batches(len(blocks), 3, 2, 9, 7, dtype=dtype, seed=step)
        outs = joint(torch.cat(xs, dim=1)).chunk(len(blocks), dim=1)
        for out, block, x in zip(outs, alone, xs, strict=True):
            assert_close(out, block(x), tol)
    take_apart_(joint, blocks)
    for block, own in zip(blocks, alone, strict=True):
        for name, value in own.state_dict().items():
            assert_close(block.state_dict()[name], value, tol)
    return alone


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("name", LAYERS)
def test_blocks_learn_what_they_learn_alone(name, pool, backend):
    blocks = [block(seed, backend, POOLS[pool], **LAYERS[name]) for seed in range(3)]
    learn(blocks, side_by_side(blocks))


def test_float64_leaves_nothing_but_the_order_of_sums():
    blocks = [block(seed, "auto").double() for seed in range(3)]
    learn(blocks, side_by_side(blocks), torch.float64)


@pytest.mark.filterwarnings("ignore:a weight of torch.bfloat16 learns")
def test_16_bits(backend):
    """Every step is rounded to 8 bits."""
    blocks = [block(seed, backend, lr=0.5).bfloat16() for seed in range(2)]
    learn(blocks, side_by_side(blocks), torch.bfloat16, tol=2 * TOLERANCES["bfloat16"])


def test_rates_of_their_own(backend):
    blocks = [block(seed, backend, lr=lr) for seed, lr in enumerate((0.3, 0.01, 0.1))]
    joint = side_by_side(blocks)
    assert (joint.layer.lr, joint.layer.neuron_rates.unique().numel()) == (1.0, 3)
    learn(blocks, joint)


@pytest.mark.parametrize("inverse", [(1.0, 1.0), (2.0, 0.7)])
@pytest.mark.parametrize("contrast", [None, 1e-3])
def test_whitenings_of_their_own(contrast, inverse, backend):
    blocks = []
    for seed, t in enumerate(inverse):
        own = block(seed, backend, activation=SplitTriangle(0.7), t_invert=t)
        own.norm = PatchWhitening(2, 3, padding=1, contrast=contrast)
        layer = SoftHebbConv2d(18, 6, 1, lr=0.1, t_invert=t, update="in_place", backend=backend)
        own.layer = layer
        own.norm.fit((1 + seed) * torch.randn(4, 2, 9, 7))
        blocks.append(own)
    learn(blocks, side_by_side(blocks))


def test_norms_of_other_kinds_are_refused():
    own = block(0, "auto")
    own.norm = nn.InstanceNorm2d(2)
    with pytest.raises(TypeError, match=r"norm must be an nn\.BatchNorm2d, a PatchW"):
        side_by_side([own, own])


TEMPERATURES = {
    "plain": {},
    "soft": {"wta": "soft"},
    "no norm": {"norm": None},
    "no activation": {"activation": nn.Identity()},
    "not homogeneous": {"activation": nn.Tanh()},
    "lebesgue": {"lebesgue_p": 3.0},
    "a rule": {"rule": "softhebb"},
}


@pytest.mark.parametrize("name", TEMPERATURES)
@pytest.mark.parametrize("inverse", [(1.0, 4.0, 0.5), (12.0, 0.7, 3.3)])
def test_temperatures_of_their_own(name, inverse, backend):
    options = dict(TEMPERATURES[name])
    has_norm = options.pop("norm", True)
    blocks = [block(seed, backend, **options, t_invert=t) for seed, t in enumerate(inverse)]
    for own in blocks:
        own.norm = own.norm if has_norm else None
    joint = side_by_side(blocks)
    assert joint.layer.t_invert == max(inverse)
    learn(blocks, joint)


@pytest.mark.parametrize("options", [{}, {"rule": "softhebb", "unit_norm": True}])
def test_temperatures_and_rates_of_their_own_in_float64(options):
    each = enumerate(((1.0, 0.3), (8.0, 0.01), (0.3, 0.1)))
    blocks = [block(seed, "auto", t_invert=t, lr=lr, **options).double() for seed, (t, lr) in each]
    learn(blocks, side_by_side(blocks), torch.float64)


def test_updates_of_their_own_temperatures_by_gradient(backend):
    blocks = [block(seed, backend, update="grad", t_invert=1.0 + 2 * seed) for seed in range(2)]
    alone, xs = copy.deepcopy(blocks), batches(2, 3, 2, 9, 7)
    joint = side_by_side(blocks)
    joint(torch.cat(xs, dim=1))
    for own, x, found in zip(alone, xs, joint.layer.weight.grad.chunk(2), strict=True):
        own(x)
        assert_close(found, own.layer.weight.grad, TOLERANCES["float32_run"])


def test_temperatures_do_not_matter_where_no_softmax_is():
    for options in ({"wta": "hard"}, {"rule": "oja"}):
        blocks = [block(seed, "auto", t_invert=1.0 + seed, **options) for seed in range(2)]
        joint = side_by_side(blocks)
        assert type(joint.norm) is nn.BatchNorm2d
        learn(blocks, joint)


SCALED = (
    {"rule": "instar"},
    {"rule": "softhebb", "normalise": "mean"},
    {"rule": "softhebb", "decay": 0.1},
)


@pytest.mark.parametrize("options", SCALED)
def test_temperatures_of_rules_that_have_a_scale_must_agree(options):
    blocks = [block(seed, "auto", t_invert=1.0 + seed, **options) for seed in range(2)]
    with pytest.raises(ValueError, match=r"must agree in layer\.t_invert .* got \[1\.0, 2\.0\]"):
        side_by_side(blocks)


@pytest.mark.parametrize(("dtype", "inverse"), [("float16", 200.0), ("float32", 1e20)])
def test_temperatures_that_leave_no_room_are_refused(dtype, inverse):
    blocks = [block(0, "auto"), block(1, "auto", t_invert=inverse)]
    with pytest.raises(ValueError, match=rf"times another block's in torch\.{dtype} .* got \[1\.0"):
        side_by_side([own.to(getattr(torch, dtype)) for own in blocks])


def test_temperatures_of_layers_with_a_bias_must_agree():
    blocks = [block(seed, "auto", t_invert=1.0 + seed, bias=True) for seed in range(2)]
    for own in blocks:
        own.layer.bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"layer\.bias must be None in blocks that differ"):
        side_by_side(blocks)


def test_exact_ties_go_to_the_first_neuron_of_each_block(backend):
    blocks = [block(seed, backend) for seed in range(2)]
    with torch.no_grad():
        for own in blocks:
            own.layer.weight[3:] = own.layer.weight[:3]
    alone = learn(blocks, side_by_side(blocks))
    for own in (*alone, *blocks):  # a tie is won by the first alone
        assert not torch.equal(own.layer.weight[0], own.layer.weight[3])


def test_what_is_not_finite_stays_in_its_block(backend):
    blocks = [block(seed, backend) for seed in range(2)]
    joint, (x, other) = side_by_side(blocks), batches(2, 3, 2, 9, 7)
    other[0, 0, 4, 3] = float("nan")
    joint(torch.cat([x, other], dim=1))
    before = copy.deepcopy(blocks[0])
    before(x)
    take_apart_(joint, blocks)
    assert_close(blocks[0].layer.weight, before.layer.weight, TOLERANCES["float32_run"])
    assert blocks[1].layer.weight.isnan().any()


def test_nothing_is_drawn_and_the_blocks_are_left_alone():
    blocks = [block(seed, "auto", lr=0.1 + seed) for seed in range(2)]
    state, drawn = copy.deepcopy([b.state_dict() for b in blocks]), torch.get_rng_state()
    joint = side_by_side(blocks)
    joint(torch.cat(batches(2, 3, 2, 9, 7), dim=1))
    assert torch.equal(torch.get_rng_state(), drawn)
    for own, before in zip(blocks, state, strict=True):
        for name, value in own.state_dict().items():
            assert torch.equal(value, before[name])


def test_modes_and_frozen_weights_are_taken_along():
    blocks = [block(seed, "auto").eval() for seed in range(2)]
    for own in blocks:
        own.layer.weight.requires_grad_(False)
    joint = side_by_side(blocks)
    assert not joint.training
    assert not joint.layer.weight.requires_grad
    outs = joint(torch.cat(xs := batches(2, 3, 2, 9, 7), dim=1)).chunk(2, dim=1)
    for out, own, x in zip(outs, blocks, xs, strict=True):
        assert_close(out, own(x), TOLERANCES["float32_u"])


DIFFERENT = {
    "wta": ({"wta": "soft"}, "wta"),
    "pool": ({"pool": None}, "kind of pool"),
    "power": ({"activation": Triangle(1.4)}, "activation"),
    "activation": ({"activation": RePU(0.7)}, "kind of activation"),
    "lr": ({"lr": None, "update": "grad"}, "update"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_blocks_that_differ_are_refused(name):
    options, named = DIFFERENT[name]
    with pytest.raises(ValueError, match=f"blocks must agree in .*{named}"):
        side_by_side([block(0, "auto"), block(1, "auto", **options)])


MIXED = {
    "bias": ({"bias": True}, ValueError, "layer.bias must be frozen"),
    "pre_triangle": ({"pre_triangle": True}, ValueError, "layer.pre_triangle must be False"),
    "rounding": ({"rounding": "stochastic"}, ValueError, "layer.rounding must be 'nearest'"),
    "labels": ({"rule": "teacher"}, ValueError, "told no labels"),
    "activation": ({"activation": TopShare()}, TypeError, "activation must be one of Triangle"),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_would_mix_blocks_is_refused(name):
    options, error, named = MIXED[name]
    with pytest.raises(error, match=named):
        side_by_side([block(seed, "auto", **options) for seed in range(2)])


def test_parts_of_other_kinds_are_refused():
    linear = Block(SoftHebbLinear(4, 3))
    with pytest.raises(TypeError, match="layer must be a SoftHebbConv2d or HebbianConv2d"):
        side_by_side([linear, linear])
    with pytest.raises(TypeError, match="blocks must hold Blocks; got Linear"):
        side_by_side([nn.Linear(3, 3)])
    with pytest.raises(ValueError, match="blocks must hold one at least"):
        side_by_side([])
    whole = block(0, "auto")
    whole.norm = nn.BatchNorm2d(2)
    with pytest.raises(ValueError, match=r"norm.affine must be False"):
        side_by_side([whole, whole])


def network(seed):
    torch.manual_seed(seed)
    return build(get_preset("4SoftHebbCnnCIFAR", neuron_factor=0.1), (3, 16, 16), 10)


def test_networks_learn_what_they_learn_alone():
    """All blocks in the same pass: what one gives is the next one's input."""
    nets = [network(seed) for seed in range(3)]
    alone = copy.deepcopy(nets)
    joint = SideBySide(nets)
    for step in range(2):
        xs = batches(3, 4, 3, 16, 16, seed=step)
        outs = joint(torch.cat(xs, dim=1)).chunk(3, dim=1)
        for out, net, x in zip(outs, alone, xs, strict=True):
            for own in net.blocks:
                x = own(x)
            assert_close(out, x, TOLERANCES["float32_run"])
    for net, own in zip(joint.apart(), alone, strict=True):
        for name, value in own.state_dict().items():
            assert_close(net.state_dict()[name], value, TOLERANCES["float32_run"])


def test_networks_that_do_not_fit_are_refused():
    net = network(0)
    with pytest.raises(ValueError, match="first and last must be blocks of the 3 there are"):
        SideBySide([net, net], first=1, last=3)
    with pytest.raises(TypeError, match="nets must hold SoftHebbNets; got Sequential"):
        SideBySide([nn.Sequential()])
    with pytest.raises(ValueError, match="nets must hold one at least"):
        SideBySide([])
    with pytest.raises(ValueError, match="nets must have equally many blocks"):
        SideBySide([net, build("2SoftHebbCnnCIFAR", (3, 12, 12), 10)])


def any_rule(seed, rates=None, **options):
    own = block(seed, "auto", rule="softhebb", **options)
    if rates is not None:
        own.layer.neuron_rates = torch.tensor(rates)
    return own


MASKS = {
    "second alone": (None, [1.0, 0, 1, 0, 1, 0]),
    "first alone": ([0.0, 0, 1, 0, 1, 2], None),
    "both": ([0.0, 0, 1, 0, 1, 2], [1.0, 0, 1, 0, 1, 0]),
}


@pytest.mark.parametrize("lrs", [(0.1, 0.1), (0.1, 0.3)])
@pytest.mark.parametrize("name", MASKS)
def test_rates_of_neurons_are_taken_along(name, lrs):
    blocks = [any_rule(i, MASKS[name][i], lr=lrs[i]) for i in range(2)]
    learn(blocks, side_by_side(blocks))


def test_rates_do_not_enter_what_an_optimizer_is_handed():
    blocks = [block(i, "auto", lr=lr, update="grad") for i, lr in enumerate((0.1, 0.3))]
    joint, xs = side_by_side(blocks), batches(2, 3, 2, 9, 7)
    joint(torch.cat(xs, dim=1))
    for own, x, found in zip(blocks, xs, joint.layer.weight.grad.chunk(2), strict=True):
        own(x)
        assert_close(found, own.layer.weight.grad, TOLERANCES["float32_run"])


def test_a_schedule_is_taken_along_whatever_its_first_rate_is_written_as():
    schedule = LinearDecay(0.3, 4)
    blocks = [block(i, "auto", lr=lr, schedule=schedule) for i, lr in enumerate((0.3, 0.1 * 3))]
    assert blocks[0].layer.lr != blocks[1].layer.lr
    learn(blocks, side_by_side(blocks))


def test_what_a_part_of_a_block_is_asked_to_do_is_kept():
    blocks = [block(i, "auto", lr=lr) for i, lr in enumerate((0.1, 0.3))]
    for own in blocks:
        own.norm.eval()
    joint = side_by_side(blocks)
    assert (joint.training, joint.norm.training, joint.layer.training) == (True, False, True)
    learn(blocks, joint)
    for own in blocks:
        own.layer.eval()
    frozen = side_by_side(blocks)
    before = frozen.layer.weight.clone()
    frozen(torch.cat(batches(2, 3, 2, 9, 7), dim=1))
    assert torch.equal(frozen.layer.weight, before)


def eval_mode(own):
    own.eval()


def norm_in_eval_mode(own):
    own.norm.eval()


def norm_of_float64(own):
    own.norm.double()


def hooked(own):
    own.layer.register_forward_hook(lambda *_: None)


def hooked_norm(own):
    own.norm.register_forward_pre_hook(lambda *_: None)


def forward_of_its_own(own):
    own.layer.forward = own.layer.forward


def pruned(own):
    prune.random_unstructured(own.layer, "weight", 0.5)


def negative_rate(own):
    own.layer.lr = -0.1


def rate_that_is_no_number(own):
    own.layer.lr = float("nan")


def ceiled(own):
    own.pool.ceil_mode = True


def padding_not_counted(own):
    own.pool.count_include_pad = False


REFUSED = {
    eval_mode: "must agree in training",
    norm_in_eval_mode: r"must agree in norm\.training",
    norm_of_float64: r"running_mean\.dtype",
    hooked: r"block\.layer must have no hooks",
    hooked_norm: r"block\.norm must have no hooks",
    forward_of_its_own: r"block\.layer must have the forward of its class",
    pruned: r"block\.layer must have no hooks",
    negative_rate: "lr must",
    rate_that_is_no_number: "lr must",
    ceiled: r"must agree in pool\.ceil_mode",
    padding_not_counted: r"must agree in pool\.count_include_pad",
}


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_blocks_that_would_do_something_else_alone_are_refused(change, place):
    blocks = [block(seed, "auto", POOLS["avg"]) for seed in range(2)]
    blocks = [copy.deepcopy(own) for own in blocks]
    change(blocks[place])
    with pytest.raises(ValueError, match=REFUSED[change]):
        side_by_side(blocks)


def test_blocks_are_taken_apart_into_those_they_were_made_of():
    blocks = [block(seed, "auto") for seed in range(3)]
    joint = side_by_side(blocks)
    with pytest.raises(ValueError, match="blocks must be those that joint"):
        take_apart_(joint, blocks[:2])
