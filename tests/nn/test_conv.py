"""Geometry and shapes of the convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from softhebb_fast import SoftHebbConv1d, SoftHebbConv2d
from softhebb_fast.kinds import PADDING_MODES
from tests.tolerances import TOLERANCES, assert_close, tolerance


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize(
    ("kernel", "geometry"),
    [
        (3, {"padding": 1}),
        (5, {"padding": 2, "stride": 2}),
        ((3, 5), {"padding": (1, 2), "stride": (2, 1)}),
        (4, {"padding": 2, "dilation": (1, 2), "groups": 2}),
        (1, {}),
    ],
)
def test_evaluation_is_the_torch_layer(kernel, geometry, mode):
    layer = SoftHebbConv2d(4, 6, kernel, padding_mode=mode, bias=True, **geometry).eval()
    plain = nn.Conv2d(4, 6, kernel, padding_mode=mode, **geometry)
    plain.load_state_dict(layer.state_dict())
    x = images(2, 4, 11, 9)
    assert torch.equal(layer(x), plain(x))
    assert_close(layer.train()(x), plain(x), TOLERANCES["float32_u"])


def test_reflection_by_hand():
    layer = SoftHebbConv2d(1, 1, 3, padding=1, init={"name": "constant", "value": 1.0}).eval()
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    # rows 3 1 3 1 and columns 2 1 2 1 around the corner
    assert layer(x)[0, 0, 0, 0].item() == (4 + 3 + 4) + (2 + 1 + 2) + (4 + 3 + 4)


def test_pre_triangle_and_the_lebesgue_product_hold_in_both_modes():
    layer = SoftHebbConv2d(3, 5, 3, pre_triangle=True, lebesgue_p=3.0, radius=2.0)
    x = images(2, 3, 6, 6)
    weight = layer.weight.detach().clone()
    u = F.conv2d(x, weight.sign() * weight.square())
    expected = F.relu(u - u.mean(dim=1, keepdim=True))
    assert_close(layer(x), expected, TOLERANCES["float32_u"])
    assert_close(layer.eval()(x), expected, TOLERANCES["float32_u"])


def test_one_dimension_is_an_image_of_one_row():
    line = SoftHebbConv1d(4, 6, 3, 2, 1, 2, 2, 0.5, wta="soft", bias=True)
    assert line.weight.shape == (6, 2, 1, 3)
    plane = SoftHebbConv2d(4, 6, (1, 3), (1, 2), (0, 1), (1, 2), 2, 0.5, wta="soft", bias=True)
    plane.load_state_dict(line.state_dict())
    x = images(2, 4, 13)
    u = line(x)
    assert u.shape == (2, 6, 6)
    assert torch.equal(u.unsqueeze(2), plane(x.unsqueeze(2)))
    assert torch.equal(line.weight.grad, plane.weight.grad)
    assert torch.equal(line.bias.grad, plane.bias.grad)


def test_a_batch_of_nothing_and_of_one_position():
    layer = SoftHebbConv2d(2, 3, 4, update="in_place", lr=0.1)
    start = layer.weight.detach().clone()
    assert layer(images(0, 2, 5, 5)).shape == (0, 3, 2, 2)
    assert torch.equal(layer.weight, start)
    assert layer(images(1, 2, 4, 4)).shape == (1, 3, 1, 1)
    assert not torch.equal(layer.weight, start)


@pytest.mark.filterwarnings("ignore:a weight of torch.bfloat16 learns")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("groups", [1, 3])
def test_one_channel_a_group_gives_the_same_in_all_layouts(groups, training, backend, dtype):
    """Outputs that are one wide, too, which torch's convolution takes from other memory."""
    for kernel, stride, width in (((1, 3), (1, 2), 4), ((3, 5), (1, 3), 7), ((2, 2), (1, 2), 3)):
        geometry = {"kernel_size": kernel, "stride": stride, "groups": groups, "dtype": dtype}
        layer = SoftHebbConv2d(groups, 5 * groups, backend=backend, **geometry).train(training)
        x = images(2, groups, 6, width).to(dtype)
        exact = layer.weight.detach().double()
        want = F.conv2d(x.double(), exact, None, stride, groups=groups)
        assert want.shape[3] == 1
        for last in (x, x.to(memory_format=torch.channels_last)):
            assert_close(layer(last), want, tolerance(dtype, "u"))
            layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last)
        assert_close(layer(x), want, tolerance(dtype, "u"))


def test_the_bias_learns_by_hand():
    layer = SoftHebbConv2d(1, 2, 1, t_invert=2.0, bias=True)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    layer(images(2, 1, 3, 3))
    # y = (1/2, -1/2) less e^0: (-1/2, -3/2), (-1/3, -1) after normalisation, times 0.1 / t
    assert layer.bias.grad.tolist() == pytest.approx([-1 / 60, -1 / 20])


def test_the_representation_names_what_is_not_default():
    assert repr(SoftHebbConv2d(3, 96, 5)) == (
        "SoftHebbConv2d(3, 96, kernel_size=(5, 5), t_invert=12.0, wta='soft_anti', update='grad')"
    )
    layer = SoftHebbConv2d(
        4, 8, (3, 1), 2, 1, 2, 2, 0.5, wta="hard_anti", bias=True, pre_triangle=True,
        update="in_place", lr=0.1, lebesgue_p=3.0, backend="reference",
    )  # fmt: skip
    assert layer.extra_repr() == (
        "4, 8, kernel_size=(3, 1), stride=(2, 2), padding=(1, 1), dilation=(2, 2), groups=2, "
        "padding_mode='reflect', pre_triangle=True, t_invert=0.5, wta='hard_anti', "
        "delta=2.0, rank=3, lebesgue_p=3.0, bias=True, update='in_place', lr=0.1, lr_power=0.5, "
        "backend='reference'"
    )


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 4, 3), {}, "in_channels must be at least 1; got 0"),
        ((4, 0, 3), {}, "out_channels must be at least 1; got 0"),
        ((4, 4, 0), {}, "kernel_size must be at least 1"),
        ((4, 4, 3, 0), {}, "stride must be at least 1"),
        ((4, 4, 3, 1, -1), {}, "padding must be at least 0"),
        ((4, 4, 3), {"groups": 3}, "groups must divide in_channels and out_channels; got groups=3"),
        ((4, 6, 3), {"groups": 2, "wta": "hard_anti", "rank": 4}, r"rank must lie in 1\.\.3"),
        ((4, 4, 3), {"padding_mode": "same"}, "padding_mode must be one of reflect"),
        ((4, 4, 3, 1, "full"), {}, "padding must be numbers, 'same' or 'valid'; got 'full'"),
        ((4, 4, 3, 2, "same"), {}, r"padding='same' needs stride 1; got stride=\(2, 2\)"),
    ],
)
def test_bad_values_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        SoftHebbConv2d(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4.0, 4, 3), "in_channels must be an int"),
        ((4, True, 3), "out_channels must be an int"),
        ((4, 4, (3, 3, 3)), "kernel_size must be an int or a pair"),
        ((4, 4, 3, 1.5), "stride must be an int or a pair"),
        ((4, 4, 3, 1, None), "padding must be an int or a pair"),
    ],
)
def test_bad_types_are_named(arguments, message):
    with pytest.raises(TypeError, match=message):
        SoftHebbConv2d(*arguments)


@pytest.mark.parametrize("training", [True, False])
def test_input_that_does_not_fit_is_refused_in_both_modes(training):
    layer = SoftHebbConv2d(3, 4, 3, padding=2).train(training)
    for shape, message in (
        ((8, 8), r"x must be \[B, C, H, W\] or \[C, H, W\]; got \(8, 8\)"),
        ((2, 1, 8, 8), r"x must have 3 channels.*got \(2, 1, 8, 8\)"),
        ((2, 3, 2, 8), "padding must be smaller than the image"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(images(*shape))
    with pytest.raises(ValueError, match=r"x must be \[B, C, L\] or \[C, L\]; got \(2, 3, 8, 8\)"):
        SoftHebbConv1d(3, 4, 3).train(training)(images(2, 3, 8, 8))
    with pytest.raises(ValueError, match="the output would be empty"):
        SoftHebbConv2d(3, 4, 9).train(training)(images(2, 3, 8, 8))
