from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from softhebb_fast import init
from softhebb_fast.naming import parse_init

TOL = 1e-5  # relative; the literals below carry six digits

MNIST_LAYERS = ((96, 1, 5, 5), (384, 96, 3, 3), (1536, 384, 3, 3))

RANDOM = ("normal", "positive", "negative", "random_binary")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(value):
    return pytest.approx(value, rel=TOL)


# Random draws


def test_normal_repeats_the_published_first_values():
    torch.manual_seed(0)
    weight = init.normal_(torch.empty(96, 3, 5, 5))
    torch.manual_seed(0)
    assert torch.equal(weight, 25 / math.sqrt(75) * torch.randn(96, 3, 5, 5))
    first = weight.flatten()[:3].tolist()
    assert first == close([-3.2500198, -3.3265774, -0.7233581])


@pytest.mark.parametrize("fan_in", [9, 25, 75, 784, 864, 1536, 3456, 13824, 27648])
def test_the_general_formulas_give_the_published_bits_at_p_2(fan_in):
    radius = 25.0
    expected = radius / math.sqrt(fan_in) * torch.randn(3, fan_in, generator=generator(1))
    weight = init.normal_(torch.empty(3, fan_in), radius, generator=generator(1))
    assert torch.equal(weight, expected)
    width = math.sqrt(3 * radius**2 / fan_in)
    expected = width * torch.rand(3, fan_in, generator=generator(1))
    weight = init.positive_(torch.empty(3, fan_in), radius, generator=generator(1))
    assert torch.equal(weight, expected)


@pytest.mark.parametrize(
    ("p", "moment"),
    [(1, 0.797885), (2, 1), (3, 1.595769), (4, 3), (5, 6.383076), (6, 15), (2.5, 1.233268)],
)
def test_normal_divides_by_the_absolute_moment_of_order_p(p, moment):
    draws = torch.randn(4, 50, generator=generator(0))
    weight = init.normal_(torch.empty(4, 50), 10.0, p, generator(0))
    deviation = (10.0**p / (50 * moment)) ** (1 / p)
    torch.testing.assert_close(weight, draws * deviation, rtol=TOL, atol=0)


@pytest.mark.parametrize("fill", [init.normal_, init.positive_, init.negative_])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_filters_have_the_asked_p_norm_on_average(fill, p):
    weight = fill(torch.empty(200, 8, 10, 5), 7.0, p, generator(3))
    norms = weight.flatten(1).norm(p=p, dim=1)
    assert norms.mean().item() == pytest.approx(7.0, rel=0.02)


def test_positive_and_negative_are_mirror_images_with_a_literal_width():
    positive = init.positive_(torch.empty(50, 4, 5, 5), 10.0, generator=generator(0))
    negative = init.negative_(torch.empty(50, 4, 5, 5), 10.0, generator=generator(0))
    assert torch.equal(positive, -negative)
    assert positive.min() >= 0
    assert 1.73 < positive.max() < 1.7320509  # sqrt(3 · 10² / 100)


@pytest.mark.parametrize(
    ("seed", "ones"),
    [
        (0, [1224, 166292, 2653295]),
        (1, [1173, 165835, 2653260]),
        (2, [1216, 165784, 2653880]),
        (3, [1158, 165990, 2653988]),
    ],
)
def test_random_binary_repeats_the_published_counts(seed, ones):
    torch.manual_seed(seed)
    weights = [init.random_binary_(torch.empty(shape)) for shape in MNIST_LAYERS]
    assert [int(weight.sum()) for weight in weights] == ones
    assert all(weight.unique().tolist() == [0, 1] for weight in weights)


def test_random_binary_probabilities():
    weight = torch.empty(100, 100)
    assert init.random_binary_(weight, 0.0).sum() == 0
    assert init.random_binary_(weight, 1.0).sum() == 10_000
    assert init.random_binary_(weight, 0.1, generator(0)).mean().item() == pytest.approx(0.1, 0.1)


@pytest.mark.parametrize("name", RANDOM)
def test_a_generator_repeats_itself_and_leaves_the_global_one_alone(name):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second, other = torch.empty(3, 6, 4, 3, 3)
    init.initialise(first, init=name, generator=generator(7))
    init.initialise(second, init=name, generator=generator(7))
    init.initialise(other, init=name, generator=generator(8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_draws_are_the_same_in_every_dtype_and_layout(name, dtype):
    reference, weight = torch.empty(8, 4, 3, 3), torch.empty(8, 4, 3, 3, dtype=dtype)
    weight = weight.to(memory_format=torch.channels_last)
    init.initialise(reference, init=name, generator=generator(0))
    init.initialise(weight, init=name, generator=generator(0))
    assert torch.equal(weight, reference.to(dtype))


@pytest.mark.parametrize("name", list(init.INITS))
def test_meta_tensors_cost_no_random_numbers(name):
    state = torch.get_rng_state()
    weight = torch.empty(4, 4, 3, 3, device="meta")
    init.initialise(weight, torch.empty(4, device="meta"), name)
    init.zerO_(torch.empty(96, 3, device="meta"))
    assert weight.is_meta
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", list(init.INITS))
def test_parameters_are_filled_in_place_and_returned(name):
    shape = (4, 64) if name == "residue_binary" else (4, 4)  # which has few ones
    weight, bias = nn.Parameter(torch.full(shape, 9.0)), nn.Parameter(torch.full((4,), 9.0))
    arguments = (weight, bias) if name == "random_bias" else (weight,)
    assert init.INITS[name](*arguments) is weight
    assert weight.is_leaf
    assert weight.requires_grad
    assert not (weight == 9).any()


# ZerO

ZERO_TABLE = [  # shape, non-zeros, fork's |value|, negatives, norms (fork, alg. 2, orth.), distinct
    ((96, 1, 5, 5), 96, 0.0110485, 0, (0.0110485, 0.125, 0.0883883), 1),
    ((96, 3, 5, 5), 288, 0.0110485, 96, (0.0191366, 0.216506, 0.153093), 4),
    ((384, 96, 3, 3), 36864, 0.00276214, 18240, (0.0270633, 0.612372, 0.433013), 128),
    ((384, 96, 4, 4), 36864, 0.00276214, 18240, (0.0270633, 0.612372, 0.433013), 128),
    ((1536, 384, 3, 3), 589824, 0.000690534, 294144, (0.0135316, 0.612372, 0.433013), 512),
    ((1536, 384, 1, 1), 589824, 0.000690534, 294144, (0.0135316, 0.612372, 0.433013), 512),
    ((96, 96, 4, 4), 96, 1.0, 0, (1.0, 1.0, 1.0), 96),
]


@pytest.mark.parametrize(
    ("shape", "nonzeros", "value", "negatives", "norms", "distinct"),
    ZERO_TABLE,
    ids=["x".join(map(str, row[0])) for row in ZERO_TABLE],
)
def test_zero_repeats_the_published_table(shape, nonzeros, value, negatives, norms, distinct):
    for scale, norm in zip(("fork", "algorithm2", "orthonormal"), norms, strict=True):
        weight = init.zerO_(torch.full(shape, 9.0), scale)
        assert weight.count_nonzero() == nonzeros
        assert (weight < 0).sum() == negatives
        assert weight.flatten(1).norm(dim=1).tolist() == close([norm] * shape[0])
        assert weight[:, :, shape[2] // 2, shape[3] // 2].count_nonzero() == nonzeros
        magnitudes = weight[weight != 0].abs().unique()
        assert magnitudes.numel() == 1
        if scale == "fork":
            assert magnitudes.item() == close(value)
    assert init.distinct_filters(weight) == distinct


def test_zero_repeats_the_three_published_counts_for_mnist():
    weights = [init.zerO_(torch.empty(shape)) for shape in MNIST_LAYERS]
    assert [int(weight.count_nonzero()) for weight in weights] == [96, 36864, 589824]


def test_zero_signs_are_those_of_sylvesters_recursion():
    block = matrix = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    for _ in range(4):
        matrix = torch.kron(block, matrix)
    assert torch.equal(init.zerO_(torch.empty(32, 31)).sign(), matrix[:, :31])
    assert torch.equal(init.zerO_(torch.empty(27, 6, 3, 3))[:, :, 1, 1].sign(), matrix[:27, :6])


def test_zero_on_a_small_linear_weight():
    weight = init.zerO_(torch.empty(3, 2))  # m = 2, c = 2^(-1/2)
    c = 2**-0.5
    assert torch.equal(weight, torch.tensor([[c, c], [c, -c], [c, c]]))
    half = torch.tensor([[0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])
    assert torch.equal(init.zerO_(torch.empty(3, 2), "orthonormal"), half)
    assert torch.equal(init.zerO_(torch.empty(3, 2), "fork"), half)


def test_zero_is_the_partial_identity_where_there_are_enough_columns():
    for scale in init.ZERO_SCALES:
        assert torch.equal(init.zerO_(torch.empty(3, 5), scale), torch.eye(3, 5))
        weight = init.zerO_(torch.empty(2, 4, 3, 3), scale)
        assert torch.equal(weight[:, :, 1, 1], torch.eye(2, 4))
        assert weight.sum() == 2


@pytest.mark.parametrize("shape", [(96, 3, 5, 5), (4, 9, 3, 3), (6, 6), (100, 7)])
def test_zero_radius_is_every_filters_norm_and_keeps_the_pattern(shape):
    weight = init.zerO_(torch.empty(shape), radius=25.0)
    assert weight.flatten(1).norm(dim=1).tolist() == close([25.0] * shape[0])
    assert torch.equal(weight.sign(), init.zerO_(torch.empty(shape)).sign())


# Every filter its own: whole patches, other taps

DISTINCT = (
    "hadamard_patches",
    "hadamard_patches:signs=rudin_shapiro",
    "hadamard_taps",
    "identity_taps",
    "walsh_binary",
    "walsh_binary:signs=rudin_shapiro",
)
SHAPES = (
    *MNIST_LAYERS,
    (96, 3, 5, 5),
    (128, 1, 3, 3),
    (64, 1, 7, 7),
    (384, 96, 4, 4),
    (100, 7, 3, 2),
    (5, 3, 1, 2),
    (64, 8, 2, 2),
)


def opposite_filters(weight: torch.Tensor) -> int:
    """How many filters are minus another one."""
    known = {tuple(row) for row in weight.flatten(1).tolist()}
    return sum(tuple(-x for x in row) in known for row in known)


@pytest.mark.parametrize("start", DISTINCT)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_every_filter_differs_in_zeros_and_one_magnitude(start, shape):
    state, name = torch.get_rng_state(), start.split(":")[0]
    weight = torch.full(shape, 9.0)
    init.initialise(weight, init=parse_init(start), radius=25.0)
    assert init.distinct_filters(weight) == shape[0]
    if shape[0] < 1000:
        assert opposite_filters(weight) == 0
    assert weight[weight != 0].abs().unique().numel() == 1
    if name in ("identity_taps", "walsh_binary"):
        assert weight.min() == 0
    norms = weight.flatten(1).norm(dim=1)
    if name == "walsh_binary":
        assert norms.mean().item() == pytest.approx(25.0, rel=0.1)
    else:
        assert norms.square().mean().sqrt().item() == close(25.0)
    if name == "hadamard_patches" or (name == "hadamard_taps" and shape[1] > 8):
        assert norms.tolist() == close([25.0] * shape[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_hadamard_patches_are_rows_of_the_matrix_without_the_constant_one():
    matrix = torch.ones(1, 1)
    for _ in range(7):
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    weight = init.hadamard_patches_(torch.empty(96, 3, 5, 5), radius=75**0.5)
    assert torch.equal(weight.flatten(1), matrix[1:97, :75])
    binary = init.walsh_binary_(torch.empty(96, 3, 5, 5), radius=37.5**0.5)
    assert torch.equal(binary.flatten(1), (matrix[1:97, :75] + 1) / 2)


def test_hadamard_patches_with_more_filters_than_columns():
    weight = init.hadamard_patches_(torch.empty(9, 6))  # columns 0, 1, 2, 4, 8, 9
    assert weight[[0, 5, 8]].sign().tolist() == [
        [1, -1, 1, 1, 1, -1],
        [1, 1, -1, -1, 1, 1],
        [1, -1, 1, 1, -1, 1],
    ]


def test_rudin_shapiro_signs_stand_before_the_rows():
    shapiro = [1, 1, 1, -1, 1, 1, -1, 1, 1, 1, 1, -1, -1, -1, 1, -1]
    walsh = init.hadamard_patches_(torch.empty(12, 16))
    weight = init.hadamard_patches_(torch.empty(12, 16), signs="rudin_shapiro")
    assert torch.equal(weight, walsh * torch.tensor(shapiro))
    binary = init.walsh_binary_(torch.empty(12, 16), radius=8**0.5, signs="rudin_shapiro")
    assert torch.equal(binary, (weight > 0).float())


@pytest.mark.parametrize(("shape", "every"), [((4, 5), 2), ((7, 3, 2, 2), 3), ((9, 40), 8)])
def test_residue_binary_has_its_ones_where_numbers_are_powers(shape, every):
    weight = init.residue_binary_(torch.empty(shape), radius=2.0, every=every)
    elements = weight[0].numel()
    prime = weight.numel() + 1
    while prime % every != 1 or any(prime % d == 0 for d in range(2, prime)):
        prime += 1
    powers = {pow(x, every, prime) for x in range(1, prime)}
    assert len(powers) == (prime - 1) // every
    expected = [float(x in powers) for x in range(1, weight.numel() + 1)]
    entries = weight.flatten() / (2.0 / (elements / every) ** 0.5)
    assert entries.tolist() == close(expected)


@pytest.mark.parametrize("every", [2, 4, 16, 64])
def test_residue_binary_scatters_its_ones(every):
    weight = init.residue_binary_(torch.empty(384, 96, 3, 3), every=every)
    ones = (weight.flatten(1) > 0).float()
    assert init.distinct_filters(weight) == 384
    assert float(ones.mean()) == pytest.approx(1 / every, rel=0.01)
    assert float(weight.flatten(1).norm(dim=1).mean()) == pytest.approx(25, rel=0.02)
    expected = 864 / every**2  # ones that two filters share, were they drawn
    shared = (ones @ ones.t()).fill_diagonal_(0).sum() / (384 * 383)
    assert float(shared) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("shape", "every", "message"),
    [
        ((96, 25), 8, "every must be smaller for 96 filters of 25 elements: .* got 8"),
        ((4, 5), 1, "every must be at least 2; got 1"),
        ((1 << 16, 1 << 15), 16, r"fewer than 2\^31 entries; got \(65536, 32768\)"),
    ],
)
def test_residues_that_cannot_be_are_named(shape, every, message):
    with pytest.raises(ValueError, match=message):
        init.residue_binary_(torch.empty(shape, device="meta"), every=every)


def test_with_rudin_shapiro_signs_no_row_is_confined_to_a_band_of_frequencies():
    def peaks(signs):
        rows = init.hadamard_patches_(torch.empty(511, 512), radius=512**0.5, signs=signs)
        return torch.fft.rfft(rows, n=4096).abs().square().amax(1) / 512

    assert peaks("rudin_shapiro").max() <= 2 + 1e-4  # as proved for Golay pairs
    assert peaks("walsh").min() > 40


def test_hadamard_taps_begin_with_zero_and_move_its_twins_outwards():
    weight = init.hadamard_taps_(torch.empty(96, 3, 5, 5), radius=25.0)
    zero = init.zerO_(torch.empty(96, 3, 5, 5), radius=25.0)
    assert torch.equal(weight[:4], zero[:4])
    taps = [(2, 2), (1, 2), (2, 1), (2, 3), (3, 2), (1, 1)]
    for number, (row, column) in enumerate(taps):
        block = weight[4 * number : 4 * number + 4]
        assert torch.equal(block[:, :, row, column], zero[:4, :, 2, 2])
        assert block.count_nonzero() == 12
    pairs = init.hadamard_taps_(torch.empty(15, 1, 2, 2), radius=(32 / 15) ** 0.5).flatten(1)
    singles = torch.tensor([[0.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]])
    torch.testing.assert_close(pairs[:4], singles)
    assert pairs[4].tolist() == close([0, 1, 0, 1])
    assert pairs[14].tolist() == close([1, 1, 1, 1])


def test_identity_taps_begin_with_the_identity():
    weight = init.identity_taps_(torch.empty(8, 3, 1, 3), radius=3.0)
    assert torch.equal(weight[:3, :, 0, 1], 3 * torch.eye(3))
    assert torch.equal(weight[3:6, :, 0, 0], 3 * torch.eye(3))
    assert torch.equal(weight[6:, :, 0, 2], 3 * torch.eye(3)[:2])
    assert weight.count_nonzero() == 8
    pair = init.identity_taps_(torch.empty(3, 2), radius=(4 / 3) ** 0.5)
    torch.testing.assert_close(pair, torch.tensor([[1.0, 0], [0, 1], [1, 1]]))


@pytest.mark.parametrize("start", DISTINCT)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_deterministic_filters_are_the_same_in_every_dtype_and_layout(start, dtype):
    expected, weight = torch.empty(8, 4, 3, 3), torch.empty(8, 4, 3, 3, dtype=dtype)
    weight = weight.to(memory_format=torch.channels_last)
    for one in (expected, weight):
        init.initialise(one, init=parse_init(start), radius=4.5)
    torch.testing.assert_close(weight, expected.to(dtype))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("hadamard_patches", (2, 1, 1, 1), r"fewer than 2\^0 filters .* got 2"),
        ("walsh_binary", (8, 4), r"fewer than 2\^3 filters .* got 8"),
        ("hadamard_taps", (2, 1, 1, 1), r"at most 1 x \(2\^1 - 1\) filters .* got 2"),
        ("hadamard_taps", (9, 5), r"at most 8 x \(2\^1 - 1\) filters .* got 9"),
        ("identity_taps", (3, 1, 1, 1), r"fewer than 2\^1 filters .* got 3"),
    ],
)
def test_too_many_filters_to_differ_are_refused(name, shape, message):
    with pytest.raises(ValueError, match=message):
        init.initialise(torch.empty(shape), init=name)


# Breakers on top of any start


def test_noise_is_relative_to_each_filter_and_repeats():
    weight = init.zerO_(torch.empty(96, 1, 5, 5), radius=25.0)
    weight[1] = 0
    start = weight.clone()
    assert init.noise_(weight, 0.01, generator(3)) is weight
    disturbance = (weight - start).flatten(1).norm(dim=1)
    assert disturbance[1] == 0
    assert disturbance[2:].mean().item() == pytest.approx(0.25, rel=0.05)
    assert init.distinct_filters(weight) == 96
    again = torch.empty(96, 1, 5, 5)
    init.initialise(again, init={"name": "zerO", "radius": 25.0, "noise": 0.01})
    init.initialise(
        again, init={"name": "zerO", "radius": 25.0, "noise": 0.01}, generator=generator(3)
    )
    assert torch.equal(again[2:], weight[2:])


def test_random_biases_go_on_top_of_any_start():
    weight, bias = torch.empty(6, 2, 3, 3), torch.zeros(6)
    start = {"name": "zerO", "random_bias": 0.5}
    init.initialise(weight, bias, start, generator=generator(4))
    assert torch.equal(weight, init.zerO_(torch.empty(6, 2, 3, 3)))
    assert torch.equal(bias, 0.5 * torch.randn(6, generator=generator(4)))
    assert init.needs_bias(start)
    assert init.needs_bias("Random_Bias")
    assert not init.needs_bias({"name": "zerO"})
    assert not init.needs_bias(None)


# Identity, constant, biases


@pytest.mark.parametrize(
    ("kernel", "tap"),
    [
        ((1, 1), (0, 0)),
        ((2, 2), (1, 1)),
        ((3, 3), (1, 1)),
        ((4, 4), (2, 2)),
        ((5, 5), (2, 2)),
        ((3, 4), (1, 2)),
        ((1, 5), (0, 2)),
    ],
)
def test_identities_sit_on_the_centre_tap(kernel, tap):
    expected = torch.zeros(2, 2, *kernel)
    expected[0, 0, tap[0], tap[1]] = expected[1, 1, tap[0], tap[1]] = 1
    assert torch.equal(init.identity_(torch.empty(2, 2, *kernel)), expected)
    assert torch.equal(init.zerO_(torch.empty(2, 2, *kernel)), expected)
    assert torch.equal(init.partial_identity_(torch.empty(3, 2, *kernel))[:2], expected)


def test_an_odd_identity_convolution_returns_its_input():
    image = torch.randn(2, 3, 6, 6, generator=generator(0))
    weight = init.identity_(torch.empty(3, 3, 3, 3))
    assert torch.equal(nn.functional.conv2d(image, weight, padding=1), image)


def test_partial_identity_takes_any_shape():
    assert torch.equal(init.partial_identity_(torch.empty(2, 3)), torch.eye(2, 3))
    assert torch.equal(init.partial_identity_(torch.empty(4, 3)), torch.eye(4, 3))
    assert torch.equal(init.identity_(torch.empty(3, 3)), torch.eye(3))


def test_constant_filters_are_identical_and_have_the_radius():
    assert init.constant_(torch.empty(2, 4, 5, 5)).unique().tolist() == [2.5]
    assert init.constant_(torch.empty(2, 4), radius=1.0).unique().tolist() == [0.5]
    assert init.constant_(torch.empty(2, 4), value=-3.0).unique().tolist() == [-3.0]


@pytest.mark.parametrize(
    ("distribution", "draw"), [("normal", torch.randn), ("uniform", torch.rand)]
)
def test_random_bias_zeroes_the_weight_and_draws_the_bias(distribution, draw):
    weight, bias = torch.ones(6, 2, 3, 3), torch.zeros(6)
    init.random_bias_(weight, bias, distribution, 0.5, generator(4))
    assert weight.count_nonzero() == 0
    assert torch.equal(bias, 0.5 * draw(6, generator=generator(4)))


# Names and layers


def test_initialise_passes_the_layers_values_to_those_that_take_them():
    weight, direct = torch.empty(2, 8, 4, 3, 3)
    init.initialise(weight, init="Positive", radius=3.0, lebesgue_p=1.0, generator=generator(2))
    assert torch.equal(weight, init.positive_(direct, 3.0, 1.0, generator(2)))
    init.initialise(weight, init={"name": "positive", "radius": 9.0}, generator=generator(2))
    assert torch.equal(weight, init.positive_(direct, 9.0, generator=generator(2)))
    init.initialise(weight, init="constant", radius=6.0)
    assert weight.unique().tolist() == [1.0]
    init.initialise(weight, init={"name": "constant", "value": 4.0}, radius=6.0)
    assert weight.unique().tolist() == [4.0]
    init.initialise(weight, generator=generator(2))
    assert torch.equal(weight, init.normal_(direct, generator=generator(2)))


def test_initialise_gives_zero_a_radius_only_when_its_dict_does():
    weight, direct = torch.empty(2, 8, 4, 3, 3)
    init.initialise(weight, init="zero", radius=25.0)
    assert torch.equal(weight, init.zerO_(direct))
    init.initialise(weight, init={"name": "ZERO", "scale": "fork"}, radius=25.0)
    assert torch.equal(weight, init.zerO_(direct, "fork"))
    init.initialise(weight, init={"name": "zerO", "radius": 2.0}, radius=25.0)
    assert torch.equal(weight, init.zerO_(direct, radius=2.0))
    init.initialise(weight, init=init.zerO_, radius=25.0)
    assert torch.equal(weight, init.zerO_(direct))


def test_initialise_touches_the_bias_for_random_bias_only():
    weight, bias = torch.ones(4, 3), torch.full((4,), 9.0)
    init.initialise(weight, bias, "normal")
    assert bias.tolist() == [9.0] * 4
    init.initialise(weight, bias, {"name": "random_bias", "distribution": "uniform"})
    assert weight.count_nonzero() == 0
    assert (bias < 1).all()


def test_initialise_calls_a_callable_without_autograd():
    weight = nn.Parameter(torch.empty(4, 3))
    init.initialise(weight, init=lambda filters: filters.fill_(2.0).add_(1.0))
    assert weight.unique().tolist() == [3.0]


def test_per_layer_forms():
    fork = {"name": "zerO", "scale": "fork"}
    assert init.per_layer("zerO", 3) == ["zerO"] * 3
    assert init.per_layer(fork, 2) == [fork, fork]
    assert init.per_layer(torch.zero_, 2) == [torch.zero_, torch.zero_]
    assert init.per_layer(["zerO", fork], 2) == ["zerO", fork]
    assert init.per_layer(("normal", "zerO"), 2) == ["normal", "zerO"]
    assert init.per_layer({0: "zerO", 2: fork}, 3) == ["zerO", "normal", fork]
    assert init.per_layer({}, 2) == ["normal", "normal"]


# Errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: init.normal_(w, radius=0.0), "radius must be a positive"),
        (lambda w: init.normal_(w, radius=math.nan), "radius must be a positive"),
        (lambda w: init.normal_(w, radius="25"), "radius must be a positive"),
        (lambda w: init.normal_(w, lebesgue_p=0), "lebesgue_p must be a positive"),
        (lambda w: init.positive_(w, lebesgue_p=math.inf), "lebesgue_p must be a positive"),
        (lambda w: init.negative_(w, radius=-1.0), "radius must be a positive"),
        (lambda w: init.zerO_(w, "fork2"), "scale must be one of algorithm2, orthonormal, fork"),
        (lambda w: init.zerO_(w, radius=0), "radius must be a positive"),
        (lambda w: init.random_binary_(w, 1.5), "probability must be between 0 and 1"),
        (lambda w: init.identity_(w), r"got \(4, 2, 3, 3\)"),
        (lambda w: init.constant_(w, math.inf), "value must be finite"),
        (lambda w: init.constant_(w, radius=-2.0), "radius must be a positive"),
        (lambda w: init.hadamard_patches_(w, signs="shapiro"), "signs must be one of walsh, rudin"),
        (lambda w: init.random_bias_(w, None), "bias must be a tensor"),
        (lambda w: init.random_bias_(w, torch.empty(3)), r"one entry per filter, 4; got \(3,\)"),
        (lambda w: init.random_bias_(w, torch.empty(4), "cauchy"), "distribution must be"),
        (lambda w: init.random_bias_(w, torch.empty(4), scale=0.0), "scale must be a positive"),
        (lambda w: init.initialise(w, init="random_bias"), "bias must be a tensor"),
        (lambda w: init.initialise(w, init="xavier"), "init must be one of normal, positive"),
        (lambda w: init.initialise(w, init={"name": "zerO", "q": 1}), "unknown key 'q'"),
        (lambda w: init.initialise(w, init={"name": "identity", "radius": 1}), "no arguments"),
        (lambda w: init.initialise(w, init={"name": "zerO", "noise": 0}), "noise must be a pos"),
        (lambda w: init.initialise(w, init={"name": "zerO", "random_bias": 1}), "bias must be a"),
        (lambda w: init.initialise(w, init={"name": "random_bias", "bias": 1}), "key 'bias'"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(4, 2, 3, 3))


@pytest.mark.parametrize("name", RANDOM)
def test_draws_need_a_cpu_generator(name):
    elsewhere = SimpleNamespace(device=torch.device("cuda"))
    with pytest.raises(ValueError, match="generator must live on the CPU"):
        init.initialise(torch.empty(4, 2), init=name, generator=elsewhere)


@pytest.mark.parametrize("name", list(init.INITS))
def test_weights_of_the_wrong_kind_are_refused(name):
    with pytest.raises(ValueError, match=r"\[K, N\] or \[K, C/g, R, S\]; got \(2, 2, 2\)"):
        init.initialise(torch.empty(2, 2, 2), torch.empty(2), name)
    with pytest.raises(TypeError, match=r"floating-point tensor; got torch\.int64"):
        init.initialise(torch.ones(2, 2, dtype=torch.int64), torch.empty(2), name)
    with pytest.raises(TypeError, match="floating-point tensor; got list"):
        init.initialise([[1.0]], torch.empty(1), name)


@pytest.mark.parametrize("wrong", [None, 3, {"scale": "fork"}, ["zerO"]])
def test_what_is_no_init_is_refused(wrong):
    with pytest.raises(TypeError, match="init must be a name, a dict with a 'name' or a callable"):
        init.initialise(torch.empty(4, 2), init=wrong)


def test_per_layer_errors():
    with pytest.raises(ValueError, match="one entry per layer, 3; got 2"):
        init.per_layer(["zerO", "normal"], 3)
    with pytest.raises(ValueError, match=r"indices from 0 to 2 as keys; got \[3, -1\]"):
        init.per_layer({0: "zerO", 3: "zerO", -1: "zerO"}, 3)
    with pytest.raises(ValueError, match=r"got \['scale'\]"):
        init.per_layer({"scale": "fork"}, 3)
    with pytest.raises(ValueError, match="got 'zer0'"):
        init.per_layer({1: "zer0"}, 3)
    with pytest.raises(TypeError, match="got None"):
        init.per_layer(["zerO", None], 2)


# The table of the documentation

TABLE_STARTS = ("zerO:radius=25", *DISTINCT, "residue_binary:every=4")


def table_row(start: str, shape: tuple[int, ...]) -> str:
    weight = torch.empty(shape)
    init.initialise(weight, init=parse_init(start), radius=25.0)
    norms = weight.flatten(1).norm(dim=1)
    magnitudes = sorted(f"{value:.3g}" for value in weight[weight > 0].unique().tolist())
    cells = (
        f"`{start}`",
        "x".join(map(str, shape)),
        str(init.distinct_filters(weight)),
        f"{100 * weight.count_nonzero() / weight.numel():.1f} %",
        ", ".join(dict.fromkeys(magnitudes)),
        f"{norms.min():.1f} to {norms.max():.1f}",
        f"{weight.mean() + 0.0:.3f}",
    )
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("start", TABLE_STARTS)
def test_the_documented_table_is_true(start):
    page = (Path(__file__).parents[2] / "docs" / "initialisation.md").read_text()
    for shape in (MNIST_LAYERS[0], (96, 3, 5, 5), *MNIST_LAYERS[1:]):
        assert table_row(start, shape) in page.splitlines()
