"""The backends "cpp" and "triton": the layer as fused operators.

On CPU tensors the dispatcher takes the C++ kernels of ``csrc``, on CUDA tensors the Triton kernels
of ``softhebb_fast.kernels``. The functions are those of ``softhebb_fast.reference``: the layer, the
steps, which update the weight in place, and the blocks, where activation and pooling follow u.
Arguments are taken as valid: ``softhebb_fast.functional`` checks them.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from softhebb_fast.epilogue import Epilogue
from softhebb_fast.ops import schema
from softhebb_fast.reference import SoftHebbOutput

TRITON_MISSING = None if find_spec("triton") else "the package triton is not installed"


def why_not(
    name: str, device_type: str, dtype: torch.dtype | None = None, tie_rule: str = "first"
) -> str | None:
    """The reason why ``"cpp"`` or ``"triton"`` cannot run there, or by that rule, or None."""
    if name == "cpp":
        return schema.MISSING if device_type == "cpu" else "its kernels are for CPU tensors"
    if device_type != "cuda":
        return "its kernels are for CUDA and ROCm tensors"
    if dtype == torch.float64:
        return "its kernels are for float32, float16 and bfloat16"
    if tie_rule != "first":
        return f"its kernels know tie_rule='first' only, not {tie_rule!r}"
    return TRITON_MISSING


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, **options) -> SoftHebbOutput:
    """Convolution, competition and update of one batch ``x [B, C, H, W]``.

    ``options`` are the keyword arguments of ``reference.conv2d``, all of them.
    """
    return _output(schema.call.conv_update(x, weight, bias, **options), bias, options["wta"])


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, **options) -> SoftHebbOutput:
    """Matrix product, competition and update of one batch ``x [B, N]``.

    ``options`` are the keyword arguments of ``reference.linear``, all of them.
    """
    return _output(schema.call.linear_update(x, weight, bias, **options), bias, options["wta"])


@torch.no_grad()
def conv2d_step_(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, lr: float, lr_power: float, **options
) -> tuple[Tensor, Tensor | None]:
    """``conv2d`` and ``reference.hebbian_step_`` in one: u and delta_b; changes ``weight``.

    The rates come from the norms before the step. ``options`` are those of ``conv2d``.
    """
    u, b = schema.call.conv_step_(x, weight, bias, lr, lr_power, **options)
    return u, _delta_b(b, bias, options["wta"])


@torch.no_grad()
def linear_step_(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, lr: float, lr_power: float, **options
) -> tuple[Tensor, Tensor | None]:
    """``linear`` and ``reference.hebbian_step_`` in one, as ``conv2d_step_``."""
    u, b = schema.call.linear_step_(x, weight, bias, lr, lr_power, **options)
    return u, _delta_b(b, bias, options["wta"])


@torch.no_grad()
def block_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, epilogue: Epilogue, **options
) -> Tensor:
    """The pooled activation ``[B, K, PH, PW]`` of a block that does not learn.

    ``options`` are those of ``conv2d``; what concerns competition has no effect.
    """
    return schema.call.block_forward(x, weight, bias, **options, **_pooling(epilogue))


@torch.no_grad()
def block_update(
    x: Tensor, weight: Tensor, bias: Tensor | None, epilogue: Epilogue, **options
) -> tuple[Tensor, Tensor, Tensor | None]:
    """``conv2d`` with the pooled activation instead of u: that, delta_w and delta_b."""
    out, delta_w, b = schema.call.block_update(x, weight, bias, **options, **_pooling(epilogue))
    return out, delta_w, _delta_b(b, bias, options["wta"])


@torch.no_grad()
def block_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    epilogue: Epilogue,
    *,
    lr: float,
    lr_power: float,
    **options,
) -> tuple[Tensor, Tensor | None]:
    """``conv2d_step_`` with the pooled activation instead of u: that and delta_b."""
    out, b = schema.call.block_step_(x, weight, bias, lr, lr_power, **options, **_pooling(epilogue))
    return out, _delta_b(b, bias, options["wta"])


def _pooling(e: Epilogue) -> dict:
    return {
        "centre": e.centre,
        "power": e.power,
        "pool": e.pool,
        "pool_kernel": e.kernel,
        "pool_stride": e.stride,
        "pool_padding": e.padding,
    }


def _output(out: tuple[Tensor, ...], bias: Tensor | None, wta: str) -> SoftHebbOutput:
    u, delta_w, delta_b = out
    return SoftHebbOutput(u, delta_w.detach(), _delta_b(delta_b.detach(), bias, wta))


def _delta_b(delta_b: Tensor, bias: Tensor | None, wta: str) -> Tensor | None:
    return None if bias is None or not wta.startswith("soft") else delta_b
