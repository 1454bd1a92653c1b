"""Every operator on the device against the definition in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast import extension, functional
from softhebb_fast.kinds import WTA
from softhebb_fast.ops import schema
from softhebb_fast.options import Competition
from tests.by_keyword import reference
from tests.gpu import DEVICE, MARKS, PRECISIONS, needs_cuda, on_device
from tests.kernels.cases import CASES, CONV, LINEAR, Case
from tests.tolerances import (
    NORM_OF_DELTA,
    TOLERANCES,
    assert_close,
    clear_of_band,
    norm_of_u,
    tolerance,
)

pytestmark = MARKS

BLOCK = {
    "epilogue_centre": True,
    "epilogue_power": 1.4,
    "epilogue_pool": "max",
    "epilogue_kernel": (2, 3),
    "epilogue_stride": (2, 1),
    "epilogue_padding": (1, 1),
    "epilogue_groups": 1,
}
STEP = {"lr": 0.3, "lr_power": 0.5, "lr_tensor": None, "neuron_rates": None, "unit_norm": False}
LAYERS = {  # the layers of the published CIFAR-10 net at batch 10: x, weight, t_invert
    "cifar-1": ((10, 3, 32, 32), (96, 3, 5, 5), 1.0),
    "cifar-2": ((10, 96, 16, 16), (384, 96, 3, 3), 0.65),
    "cifar-3": ((10, 384, 8, 8), (1536, 384, 3, 3), 0.25),
}


# every case is a kernel to compile: these precisions where there are many cores or much time
WIDE = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("bf16x6", "tf32x3", "float16") else name
    for name in PRECISIONS
]


@pytest.fixture(params=WIDE)
def precision(request, monkeypatch) -> str:
    monkeypatch.setenv("SOFTHEBB_FAST_PRECISION", PRECISIONS[request.param][1])
    return request.param


def tensors(case: Case, precision: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs whose products are exact in the precision, so that no winner depends on rounding.

    But for a weight to a power, which tf32 rounds again: see ``the_same_u``.
    """
    if precision != "tf32":
        return case.tensors(PRECISIONS[precision][0])
    return tuple(None if t is None else t.float() for t in case.tensors(torch.bfloat16))


def tolerances(precision: str) -> tuple[float, float]:
    """Of u and of delta_w: 16-bit types and tf32 round y, an operand of the second product."""
    if precision == "tf32":
        return TOLERANCES["float32_u"], 2 * TOLERANCES["float16"]
    dtype = PRECISIONS[precision][0]
    return tolerance(dtype, "u"), tolerance(dtype, "delta_w") * (1 if dtype == torch.float32 else 2)


def both(name: str, given: tuple, options: dict) -> tuple[list[Tensor], list[Tensor]]:
    """What the operator gives on the device and in float64 on the CPU, changed weights too."""
    found, exact = [], [None if t is None else t.double() for t in given]
    for function, inputs in (
        (getattr(extension.call, name), on_device(given)),
        (_exact(name), exact),
    ):
        out = function(*inputs, **options)
        found.append([*((out,) if isinstance(out, Tensor) else out), inputs[1]])
    return found


def _exact(name: str):
    after = [a.name for a in getattr(extension.call, name).default._schema.arguments[3:]]
    return lambda *inputs, **options: schema.on("softhebb_fast.reference", name)(
        *inputs, *(options[name] for name in after if name in options)
    )


@contextmanager
def the_same_u(given: tuple, options: dict) -> Iterator[None]:
    """The definition goes on from the u of the device, which is compared by itself."""
    own, want = (u for u, *_ in both("conv_update", given, {k: options[k] for k in CONV}))
    assert_close(own, want, TOLERANCES["tf32"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "conv2d", lambda *_: own.double().cpu())
        yield


def compare(name: str, given: tuple, options: dict, precision: str) -> None:
    rounded = precision == "tf32" and options["lebesgue_p"] != 2
    with the_same_u(given, options) if rounded else nullcontext():
        found, exact = both(name, given, options)
    of_u, of_delta_w = tolerances(precision)
    if name.startswith("block") and given[0].dtype != torch.float32:
        of_u *= 3  # u may be rounded, then raised to a power, then rounded again
    for i, (own, want) in enumerate(zip(found, exact, strict=True)):
        assert own.device.type == DEVICE.type
        assert own.dtype == given[0].dtype or not own.numel()
        assert_close(own, want, of_u if i == 0 else of_delta_w)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("path", ["apart", "one pass"])
def test_convolutions(precision, name, path, monkeypatch):
    if path == "apart":
        pytest.importorskip("triton")
        from softhebb_fast.kernels import configs

        monkeypatch.setattr(configs, "one_pass", lambda *_: None)
    elif not CASES[name].fits_one_pass:
        pytest.skip("takes two kernels in any case")
    compare("conv_update", tensors(CASES[name], precision), CASES[name].conv, precision)


@pytest.mark.parametrize(
    ("name", "wta", "shape"),
    [
        *product(("conv_step_", "block_step_"), WTA, ("colour", "channels_last")),
        *product(("block_forward", "block_update"), ["soft_anti"], ("colour", "channels_last")),
        *product(["block_step_"], ["soft_anti", "hard"], ("groups", "tiles", "lebesgue")),
    ],
)
def test_steps_and_blocks(precision, name, wta, shape):
    case = CASES[shape]
    options = case.conv | {"wta": wta} | (BLOCK if name.startswith("block") else {})
    options |= STEP if name.endswith("_step_") else {}
    compare(name, tensors(case, precision), options, precision)


@pytest.mark.parametrize("name", ["linear_update", "linear_step_"])
@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("shape", [(37, 45, 19), (1, 17, 33), (32, 784, 300)])
def test_linear_layers(precision, name, wta, shape):
    batch, n, k = shape
    generator = torch.Generator().manual_seed(3)
    x, w = (torch.randn(rows, n, generator=generator) for rows in (batch, k))
    dtype = torch.bfloat16 if precision == "tf32" else PRECISIONS[precision][0]
    x, w = (t.to(dtype).to(PRECISIONS[precision][0]) for t in (x, w / n**0.5))
    options = LINEAR | {"wta": wta} | (STEP if name.endswith("_step_") else {})
    compare(name, (x, w, None), options, precision)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("wta", ["soft_anti", "hard"])
def test_layers_of_the_published_net(precision, layer, layout, wta):
    """u against float64, and delta_w against what float64 makes of the very same u.

    In 16 bits u is rounded after the competition, whose u is the exact one but for float32 sums.
    """
    _, filters, t = LAYERS[layer]
    x, w, exact = drawn(layer, PRECISIONS[precision][0])
    x, w = (a.to(memory_format=layout) for a in (x, w))
    padding = filters[2] // 2
    options = {"t_invert": t, "wta": wta}
    u, delta_w, _ = functional.softhebb_conv2d(x, w, padding=padding, **options)
    assert error(u, exact) < norm_of_u(precision, w[0].numel())
    competing = u.double() if u.dtype == torch.float32 else exact
    y = functional.soft_wta(competing, **options)
    want = functional.hebbian_update(x.double(), y, competing, w.double(), padding=padding)
    assert error(delta_w, want) < NORM_OF_DELTA[precision]


def drawn(layer: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Images on which no winner depends on the rounding of float32, filters, and the exact u."""
    (batch, *shape), filters, _ = LAYERS[layer]
    generator = torch.Generator(DEVICE).manual_seed(5)
    x = torch.rand(2 * batch, *shape, generator=generator, device=DEVICE).to(dtype)
    w = torch.randn(filters, generator=generator, device=DEVICE) * 5 / filters[1] ** 0.5
    w = w.to(dtype)
    padded = reference.pad(x.double(), (filters[2] // 2,) * 2, "reflect")
    u = F.conv2d(padded, w.double())
    x, u = (clear_of_band(a, u)[:batch] for a in (x, u))
    assert len(x) == batch
    return x, w, u


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("wta", WTA)
@pytest.mark.parametrize("filters", [40, 96, 384])
def test_exact_ties_go_to_the_first_of_identical_filters(precision, wta, filters):
    dtype = PRECISIONS[precision][0]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 8, 9, 9, generator=generator).to(DEVICE, dtype)
    w = torch.randn(1, 8, 3, 3, generator=generator).to(DEVICE, dtype).repeat(filters, 1, 1, 1)
    u, delta_w, _ = functional.softhebb_conv2d(x, w, padding=1, wta=wta, t_invert=1.0, rank=3)
    assert torch.equal(u, u[:, :1].expand_as(u))
    y = reference.soft_wta(torch.zeros(1, filters), Competition(wta=wta, rank=3))[0]
    apart = (y != y[-1]).nonzero().flatten().tolist()
    rest = torch.tensor([i for i in range(filters) if i not in apart], device=DEVICE)
    assert torch.equal(delta_w[rest], delta_w[rest[:1]].expand(len(rest), *delta_w.shape[1:]))
    for i in apart:
        assert not torch.equal(delta_w[i], delta_w[1])


@pytest.mark.parametrize("layer", LAYERS)
def test_the_same_work_gives_the_same_bits(precision, layer):
    shape, filters, t = LAYERS[layer]
    generator = torch.Generator(DEVICE).manual_seed(5)
    x = torch.rand(shape, generator=generator, device=DEVICE).to(PRECISIONS[precision][0])
    w = torch.randn(filters, generator=generator, device=DEVICE).to(x.dtype) / filters[1] ** 0.5
    results = []
    for _ in range(3):
        weight = w.clone()
        options = {"padding": filters[2] // 2, "t_invert": t, "lr": 0.1}
        results.append((functional.softhebb_conv2d_step_(x, weight, **options).u, weight))
    for u, weight in results[1:]:
        assert torch.equal(u, results[0][0])
        assert torch.equal(weight, results[0][1])


@needs_cuda
@pytest.mark.parametrize("layer", ["cifar-2", "cifar-3"])
def test_programs_that_wait_for_others_are_more_than_run_at_a_time(precision, layer):
    """And leave what a kernel of its own for y does, each time the same bits."""
    from softhebb_fast.kernels import configs

    (_, *image), filters, t = LAYERS[layer]
    generator = torch.Generator(DEVICE).manual_seed(6)
    dtype = PRECISIONS[precision][0]
    x = torch.rand(200, *image, generator=generator, device=DEVICE, dtype=dtype)
    w = torch.randn(filters, generator=generator, device=DEVICE).to(dtype) / filters[1] ** 0.5
    x, w = (a.to(memory_format=torch.channels_last) for a in (x, w))
    options = {"padding": 1, "t_invert": t, "backend": "triton"}
    found = [functional.softhebb_conv2d(x, w, **options) for _ in range(3)]
    with configs.chosen({"activity": configs.Config(32, 128, 0, 8, 1)}):
        later = functional.softhebb_conv2d(x, w, **options)
    assert torch.equal(found[0].u, later.u)
    assert_close(found[0].delta_w, later.delta_w, tolerance(dtype, "delta_w"))
    assert all(torch.equal(again.delta_w, found[0].delta_w) for again in found[1:])


@needs_cuda
@pytest.mark.parametrize("name", schema.OPERATORS)
@pytest.mark.parametrize("shape", ["bias", "channels_last"])
def test_opcheck(name, shape):
    if name.startswith("linear"):
        given, options = (torch.randn(5, 21), torch.randn(7, 21), None), LINEAR
    else:
        given, options = CASES[shape].tensors(torch.float32), CASES[shape].conv
    options = (STEP if name.endswith("_step_") else {}) | options
    options |= BLOCK if name.startswith("block") else {}
    x, weight, bias = on_device(given)
    if name in ("conv_update", "linear_update"):
        x.requires_grad_()
        weight.requires_grad_()
    torch.library.opcheck(getattr(extension.call, name).default, (x, weight, bias), options)


@needs_cuda
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_step_is_the_step(backend):
    x, weight, _ = on_device(CASES["channels_last"].tensors(torch.float32))

    def step(x, weight):
        out, *_ = extension.call.block_step_(x.relu(), weight, None, **STEP, **CONV, **BLOCK)
        return out * 2

    other = weight.clone(memory_format=torch.preserve_format)
    expected = step(x, weight)
    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend=backend)
    assert torch.equal(compiled(x, other), expected)
    assert torch.equal(other, weight)
