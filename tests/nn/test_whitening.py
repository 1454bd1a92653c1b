"""Whitening of patches against plain NumPy in float64 on unfolded patches."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from softhebb_fast import SoftHebbConv2d
from softhebb_fast.nn import Block, PatchWhitening, Triangle, folding
from softhebb_fast.reference import lebesgue_weight
from tests.tolerances import TOLERANCES, assert_close

GEOMETRIES = {
    "plain": {"kernel_size": 3},
    "even": {"kernel_size": 4, "padding": 1},
    "rectangle": {"kernel_size": (2, 5), "stride": (2, 1), "padding": (0, 2)},
    "strided": {"kernel_size": 3, "stride": 3, "padding": 3, "padding_mode": "zeros"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
    "replicate": {"kernel_size": 1, "padding": 2, "padding_mode": "replicate"},
}
CONTRASTS = (None, 0.01)


def images(count=7, channels=3, height=11, width=8, dtype=torch.float64, seed=0):
    """Images in [0, 1] whose neighbouring pixels are alike."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, channels, height, width, generator=generator, dtype=torch.float64)
    x = (x + x.roll(1, -1) + x.roll(1, -2) + x.mean(dim=1, keepdim=True)) / 4
    return x.to(dtype)


def unfolded(whitening, x):
    """Patches ``[B, OH, OW, N]`` of ``x`` in NumPy, contrast-normalised, one by one."""
    modes = {"zeros": "constant", "replicate": "edge", "circular": "wrap", "reflect": "reflect"}
    (top, left), (rows, columns) = whitening.padding, whitening.kernel_size
    sides = ((0, 0), (0, 0), (top, top), (left, left))
    x = np.pad(x.double().numpy(), sides, modes[whitening.padding_mode])
    down, right = whitening.stride
    found = [
        [
            x[:, :, i : i + rows, j : j + columns].reshape(len(x), -1)
            for j in range(0, x.shape[3] - columns + 1, right)
        ]
        for i in range(0, x.shape[2] - rows + 1, down)
    ]
    patches = np.stack([np.stack(row, axis=1) for row in found], axis=1)
    if whitening.contrast is not None:
        patches = patches - patches.mean(axis=-1, keepdims=True)
        variance = (patches**2).mean(axis=-1, keepdims=True)
        patches = patches / np.sqrt(variance + whitening.contrast)
    return patches


def oracle(whitening, seen, x):
    """The whitened patches ``[B, M, OH, OW]`` of ``x`` by the statistics of images ``seen``."""
    patches = unfolded(whitening, seen)
    patches = patches.reshape(-1, patches.shape[-1])
    mean = patches.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(patches.T, bias=True).reshape(len(mean), -1))
    kept = vectors[:, ::-1][:, : whitening.out_channels]
    scales = 1 / np.sqrt(values[::-1][: whitening.out_channels].clip(0) + whitening.epsilon)
    if whitening.method == "zca":
        matrix = (kept * scales) @ kept.T
    else:
        rows = np.arange(kept.shape[1])
        kept = kept * np.sign(kept[np.abs(kept).argmax(axis=0), rows])
        matrix = (kept * scales).T
    z = (unfolded(whitening, x) - mean) @ matrix.T
    return torch.from_numpy(np.moveaxis(z, -1, 1).copy())


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_whitened_patches(geometry, contrast):
    options = {**GEOMETRIES[geometry], "contrast": contrast, "epsilon": 0.01}
    if geometry == "replicate" and contrast:
        options["contrast"] = 0.5
    whitening = PatchWhitening(3, **options, dtype=torch.float64).fit(images())
    x = images(seed=1)
    assert_close(whitening(x), oracle(whitening, images(), x), TOLERANCES["float64_steps"])
    assert_close(whitening(x[0]), whitening(x[:1])[0], TOLERANCES["float64"])
    short = PatchWhitening(3, **options).fit(images(dtype=torch.float32))
    expected = oracle(short, images(dtype=torch.float32), x)
    assert_close(short(x.float()).double(), expected, TOLERANCES["float32_whitened"])


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("components", [None, 5, 27])
def test_principal_components(components, contrast):
    options = {"method": "pca", "components": components, "contrast": contrast}
    whitening = PatchWhitening(3, 3, epsilon=0.02, **options, dtype=torch.float64)
    whitening.fit(images(40))
    z = whitening(images(40))
    assert z.shape == (40, components or 27, 9, 6)
    kept = 26 if contrast and components != 5 else whitening.out_channels  # one is the mean's
    expected = oracle(whitening, images(40), images(40))
    assert_close(z[:, :kept], expected[:, :kept], TOLERANCES["float64_steps"])


def test_whitened_patches_are_white():
    whitening = PatchWhitening(3, 3, epsilon=1e-9, dtype=torch.float64).fit(images(60))
    z = whitening(images(60)).movedim(1, -1).flatten(0, -2)
    assert_close(z.mean(dim=0), torch.zeros(27).double(), TOLERANCES["float64_steps"])
    covariance = torch.cov(z.T, correction=0)
    assert_close(covariance, torch.eye(27).double(), TOLERANCES["float64_epsilon"])


def test_how_images_are_divided_is_rounding(monkeypatch):
    options = {"kernel_size": 3, "contrast": 0.01, "dtype": torch.float64}
    x = images(30) + 100  # a large mean costs nothing
    whole = PatchWhitening(3, **options).fit(x)
    again = PatchWhitening(3, **options).fit(x)
    assert torch.equal(whole.weight, again.weight)
    assert torch.equal(whole.bias, again.bias)
    for sizes in ([30], [1] * 30, [7, 0, 22, 1]):
        parts = PatchWhitening(3, **options).fit(iter(x.split(sizes)))
        assert parts.patches == whole.patches == 30 * 9 * 6
        assert_close(parts.weight, whole.weight, TOLERANCES["float64_steps"])
        assert_close(parts.bias, whole.bias, TOLERANCES["float64_steps"])
    monkeypatch.setattr("softhebb_fast.nn.whitening.CHUNK", 1)
    small = PatchWhitening(3, **options).fit(x)
    assert_close(small.weight, whole.weight, TOLERANCES["float64_steps"])


def test_a_flat_patch_is_the_mean_of_none():
    whitening = PatchWhitening(3, 3, contrast=1e-4).fit(images(dtype=torch.float32))
    z = whitening(torch.full((1, 3, 3, 3), 0.7))
    assert_close(z.flatten(), whitening.bias, TOLERANCES["float32_whitened"])


def layer_behind(whitening, filters=40, **options):
    torch.manual_seed(0)
    dtype = whitening.weight.dtype
    layer = SoftHebbConv2d(whitening.out_channels, filters, 1, radius=3.0, dtype=dtype, **options)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize("epilogue", ["fused", "product", "apart", "none"])
@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("options", [{}, {"bias": True, "lebesgue_p": 3.0, "pre_triangle": True}])
def test_folding_is_rounding(geometry, contrast, epilogue, options, monkeypatch):
    dtype = torch.float32
    if epilogue == "product":
        monkeypatch.setattr(folding, "PASSES", 0)
    whitening = PatchWhitening(3, **GEOMETRIES[geometry], contrast=contrast, dtype=dtype)
    whitening.fit(images(dtype=dtype))
    layer = layer_behind(whitening, **options)
    activation = {"apart": nn.Tanh(), "none": None}.get(epilogue, Triangle(0.7))
    pool = None if epilogue == "none" else nn.AvgPool2d(2, 2)
    block = Block(layer, norm=whitening, activation=activation, pool=pool).eval()
    x = images(dtype=dtype, seed=1)
    expected = layer.double()(whitening.double()(x.double()))
    for part in (activation, pool):
        expected = expected if part is None else part(expected)
    layer.float(), whitening.float()
    assert folding.folds(whitening, layer, x)
    with torch.no_grad():
        assert_close(block(x).double(), expected, TOLERANCES["float32_whitened"])
    assert_close(block(x).double(), expected, TOLERANCES["float32_whitened"])


def test_folded_filters_are_those_of_one_convolution():
    whitening = PatchWhitening(3, 4, padding=2, dtype=torch.float64).fit(images())
    layer = layer_behind(whitening, bias=True).eval()
    single = SoftHebbConv2d(3, 40, 4, padding=2, bias=True, dtype=torch.float64).eval()
    weight, bias = whitening.folded(layer.weight, layer.bias)
    single.load_state_dict({"weight": weight, "bias": bias})
    x = images(seed=1)
    assert_close(single(x), layer(whitening(x)), TOLERANCES["float64_steps"])


def test_a_block_is_folded_where_that_is_cheaper(monkeypatch):
    x, calls = images(dtype=torch.float32), []
    few = PatchWhitening(3, 3, method="pca", components=4).fit(x)
    every = PatchWhitening(3, 3).fit(x)
    monkeypatch.setattr(
        folding, "folded", lambda *parts: calls.append(parts) or norm_folded(*parts)
    )

    def norm_folded(norm, layer):
        return norm.folded(lebesgue_weight(layer.weight, layer.lebesgue_p), layer.bias)

    for norm, filters, folds in ((few, 40, False), (every, 40, True), (every, 5, True)):
        block = Block(layer_behind(norm, filters), norm=norm, activation=Triangle())
        block.eval()(x)
        assert bool(calls) == folds
        calls.clear()
        block.train()(x)
        assert not calls


@torch.no_grad()
@pytest.mark.parametrize("contrast", [None, 0.01])
def test_filters_that_are_folded_once(contrast, monkeypatch):
    x = images(dtype=torch.float32)
    monkeypatch.setattr(folding, "PASSES", 0)
    folded, calls = PatchWhitening.folded, []
    monkeypatch.setattr(
        PatchWhitening, "folded", lambda norm, *given: calls.append(norm) or folded(norm, *given)
    )
    norm = PatchWhitening(3, 3, contrast=contrast).fit(x)
    blocks = [
        Block(layer_behind(norm, filters), norm=norm, activation=Triangle()).eval()
        for filters in (40, 41)
    ]
    apart = [block(x) for block in blocks]
    assert len(calls) == 2
    with folding.folded_once(), folding.folded_once():
        for _ in range(3):
            for block, expected in zip(blocks, apart, strict=True):
                assert torch.equal(block(x), expected)
    assert len(calls) == 4
    blocks[0].layer.weight.mul_(2)
    assert not torch.equal(blocks[0](x), apart[0])


def test_where_normalised_contrast_leaves_the_whitening_apart():
    small, large = PatchWhitening(3, 5, contrast=0.01), PatchWhitening(128, 3, contrast=0.01)
    assert not folding.pays(small, layer_behind(small, 128))
    assert folding.pays(large, layer_behind(large, 1024))


@pytest.mark.parametrize("passes", [0, 1 << 20])
def test_parts_of_a_large_batch(passes, monkeypatch):
    monkeypatch.setattr(folding, "PASSES", passes)
    x = images(9, dtype=torch.float32)
    whitening = PatchWhitening(3, 3, contrast=0.01).fit(x)
    block = Block(layer_behind(whitening), norm=whitening, activation=Triangle()).eval()
    with torch.no_grad():
        whole = block(x)
        monkeypatch.setattr(folding, "NUMBERS", 40 * 11 * 8 * 2)
        assert [len(p) for p in folding.portions(whitening, block.layer, x)] == [2, 2, 2, 2, 1]
        assert_close(block(x), whole, TOLERANCES["float32_u"])
        assert block(x[:0]).shape == (0, *whole.shape[1:])


def test_a_block_learns_from_whitened_patches():
    x = images(dtype=torch.float64)
    whitening = PatchWhitening(3, 3, contrast=0.01, dtype=torch.float64).fit(x)
    layer = layer_behind(whitening, lr=0.1, update="in_place")
    alone = copy.deepcopy(layer)
    alone(oracle(whitening, x, x))
    Block(layer, norm=whitening, activation=Triangle())(x)
    assert_close(layer.weight, alone.weight, TOLERANCES["float64_steps"])


def test_gradients_pass():
    x = images(2, height=4, width=4).requires_grad_()
    whitening = PatchWhitening(3, 3, contrast=0.01, dtype=torch.float64).fit(images())
    assert torch.autograd.gradcheck(whitening, (x,))


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_state_takes_the_statistics_along(contrast):
    whitening = PatchWhitening(3, 3, contrast=contrast).fit(images(dtype=torch.float32))
    x = images(dtype=torch.float32, seed=1)
    other = PatchWhitening(3, 3, contrast=contrast)
    other.load_state_dict(whitening.state_dict())
    assert torch.equal(other(x), whitening(x))
    assert torch.equal(copy.deepcopy(whitening)(x), whitening(x))
    other.load_state_dict(PatchWhitening(3, 3).state_dict())
    with pytest.raises(RuntimeError, match="must be fitted"):
        other(x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
@pytest.mark.parametrize("contrast", CONTRASTS)
def test_traced_exported_and_compiled(contrast):
    x = images(dtype=torch.float32)
    whitening = PatchWhitening(3, 3, padding=1, contrast=contrast).fit(x)
    block = Block(layer_behind(whitening), norm=whitening, activation=Triangle()).eval()
    expected = block(x)
    for made in (
        torch.export.export(block, (x,)).module(),
        torch.fx.symbolic_trace(block),
        torch.jit.trace(block, (x,), check_trace=False),
        torch.compile(block, fullgraph=True, backend="eager"),
    ):
        assert_close(made(x), expected, TOLERANCES["float32_whitened"])


def test_autocast_does_not_lower_the_precision():
    x = images(dtype=torch.float32)
    whitening = PatchWhitening(3, 3, contrast=0.01).fit(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(whitening(x.bfloat16().float()), whitening(x.bfloat16()))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epsilon": 0}, ValueError, "epsilon must be positive"),
        ({"contrast": -1.0}, ValueError, "contrast must be positive"),
        ({"method": "ica"}, ValueError, "method must be one of zca, pca"),
        ({"components": 3}, ValueError, "components must be .* method='pca'; got 3 for 'zca'"),
        ({"components": 28, "method": "pca"}, ValueError, "at most the 27 elements"),
        ({"components": 0, "method": "pca"}, ValueError, "components must be at least 1"),
        ({"padding": -1}, ValueError, "padding must be at least 0"),
        ({"padding_mode": "same"}, ValueError, "padding_mode must be one of"),
        ({"stride": 1.5}, TypeError, "stride must be an int"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        PatchWhitening(3, 3, **options)


def test_bad_inputs():
    whitening = PatchWhitening(3, 3)
    x = images(dtype=torch.float32)
    with pytest.raises(RuntimeError, match="must be fitted before it is used"):
        whitening(x)
    with pytest.raises(RuntimeError, match="must be fitted before it is used"):
        Block(layer_behind(whitening), norm=whitening).eval()(x)
    with pytest.raises(ValueError, match=r"images must be \[B, 3, H, W\]; got \(3, 11, 8\)"):
        whitening.fit(x[0])
    with pytest.raises(ValueError, match=r"x must have 3 channels .*; got \(1, 1, 11, 8\)"):
        whitening.fit(x[:, :1])
    with pytest.raises(ValueError, match="the output would be empty, 9x0"):
        whitening.fit(x[..., :2])
    with pytest.raises(ValueError, match="two vectors at least; got 1"):
        whitening.fit(x[:1, :, :3, :3])
    with pytest.raises(ValueError, match="must be finite"):
        whitening.fit(torch.full_like(x, float("nan")))
    assert not whitening.patches
    whitening.fit(x)
    block = Block(layer_behind(whitening), norm=whitening).eval()
    for use in (whitening, block):
        with pytest.raises(ValueError, match=r"x must have 3 channels"):
            use(x[:, :2])
        with pytest.raises(ValueError, match="the output would be empty, 0x6"):
            use(x[:, :, :2])
        with pytest.raises(TypeError, match="x must have the dtype of weight"):
            use(x.double())
    with pytest.raises(ValueError, match="padding must be smaller than the image"):
        PatchWhitening(3, 3, padding=8).fit(x)
    with pytest.raises(TypeError, match="x must have the dtype of weight"):
        whitening(x.double())
    with pytest.raises(TypeError, match=r"x must be a torch\.Tensor"):
        whitening(None)


@pytest.mark.parametrize("images", [3.0, None])
def test_fit_refuses_what_holds_no_images(images):
    with pytest.raises(TypeError, match="images"):
        PatchWhitening(3, 2).fit(images)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_images_of_one_channel_give_the_same_in_all_layouts(contrast):
    x = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    whitening = PatchWhitening(1, (1, 3), stride=(1, 2), contrast=contrast).fit(x)
    want = copy.deepcopy(whitening).double()(x.double())
    assert want.shape[3] == 1  # which torch's convolution takes from other memory
    for last in (x, x.to(memory_format=torch.channels_last)):
        assert_close(whitening(last), want, TOLERANCES["float32_whitened"])


@pytest.mark.parametrize(("dtype", "epsilon"), [(torch.float32, 1e-80), (torch.float16, 1e-10)])
def test_an_epsilon_whose_filters_are_infinite_is_refused(dtype, epsilon):
    whitening = PatchWhitening(3, 3, epsilon=epsilon, dtype=dtype)
    before = copy.deepcopy(whitening.state_dict())
    with pytest.raises(ValueError, match="epsilon must be larger"):
        whitening.fit(torch.zeros(2, 3, 9, 9))
    for name, value in whitening.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_images_and_dtypes_that_are_not_real_are_refused():
    for dtype in (torch.complex64, torch.uint8):
        with pytest.raises(TypeError, match="images must be floating point; got"):
            PatchWhitening(3, 3).fit(torch.zeros(2, 3, 9, 9, dtype=dtype))
    with pytest.raises(TypeError, match="dtype must be a floating point one"):
        PatchWhitening(3, 3, dtype=torch.int32)


def test_a_state_without_its_count_of_patches_is_not_whole():
    state = PatchWhitening(3, 3).fit(images()).state_dict()
    del state["patches"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*patches"):
        PatchWhitening(3, 3).load_state_dict(state)
    assert PatchWhitening(3, 3).load_state_dict(state, strict=False).missing_keys == ["patches"]
