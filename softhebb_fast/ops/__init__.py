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

from softhebb_fast.extension import MISSING, call
from softhebb_fast.ops import autograd, fake, flops  # noqa: F401  # they register themselves
from softhebb_fast.options import Competition, Convolution, Epilogue, Rate
from softhebb_fast.reference import SoftHebbOutput

TRITON_MISSING = None if find_spec("triton") else "the package triton is not installed"


def why_not(
    name: str, device_type: str, dtype: torch.dtype | None = None, tie_rule: str = "first"
) -> str | None:
    """The reason why ``"cpp"`` or ``"triton"`` cannot run there, or by that rule, or None."""
    if name == "cpp":
        return MISSING if device_type == "cpu" else "its kernels are for CPU tensors"
    if device_type != "cuda":
        return "its kernels are for CUDA and ROCm tensors"
    if dtype == torch.float64:
        return "its kernels are for float32, float16 and bfloat16"
    if tie_rule != "first":
        return f"its kernels know tie_rule='first' only, not {tie_rule!r}"
    return TRITON_MISSING or _too_old()


def _too_old() -> str | None:
    """Of the current CUDA device, if it is one of NVIDIA's."""
    if torch.version.hip is not None:
        return None
    if not (torch.cuda.is_initialized() or torch.cuda.is_available()):
        return None
    gpu = torch.cuda.get_device_properties()  # which torch.compile takes as a constant
    if gpu.major >= 8:
        return None
    return f"Triton needs compute capability 8.0, this GPU has {gpu.major}.{gpu.minor}"


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
) -> SoftHebbOutput:
    """Convolution, competition and update of one batch ``x [B, C, H, W]``."""
    out = call.conv_update(x, weight, bias, *convolution, *competition)
    return _output(*out, bias, competition)


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, competition: Competition
) -> SoftHebbOutput:
    """Matrix product, competition and update of one batch ``x [B, N]``."""
    return _output(*call.linear_update(x, weight, bias, *competition), bias, competition)


@torch.no_grad()
def conv2d_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    convolution: Convolution,
    competition: Competition,
) -> tuple[Tensor, Tensor | None]:
    """``conv2d`` and ``reference.hebbian_step_`` in one: u and delta_b; changes ``weight``.

    The rates come from the norms before the step.
    """
    u, b = call.conv_step_(x, weight, bias, *rate, *convolution, *competition)
    return u, _delta_b(b, bias, competition)


@torch.no_grad()
def linear_step_(
    x: Tensor, weight: Tensor, bias: Tensor | None, rate: Rate, competition: Competition
) -> tuple[Tensor, Tensor | None]:
    """``linear`` and ``reference.hebbian_step_`` in one, as ``conv2d_step_``."""
    u, b = call.linear_step_(x, weight, bias, *rate, *competition)
    return u, _delta_b(b, bias, competition)


@torch.no_grad()
def block_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
) -> Tensor:
    """The pooled activation ``[B, K, PH, PW]`` of a block that does not learn.

    What concerns competition alone has no effect.
    """
    return call.block_forward(x, weight, bias, *convolution, *competition, *epilogue)


@torch.no_grad()
def block_update(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """``conv2d`` with the pooled activation instead of u: that, delta_w and delta_b."""
    options = (*convolution, *competition, *epilogue)
    out, delta_w, b = call.block_update(x, weight, bias, *options)
    return out, delta_w, _delta_b(b, bias, competition)


@torch.no_grad()
def block_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
) -> tuple[Tensor, Tensor | None]:
    """``conv2d_step_`` with the pooled activation instead of u: that and delta_b."""
    options = (*rate, *convolution, *competition, *epilogue)
    out, b = call.block_step_(x, weight, bias, *options)
    return out, _delta_b(b, bias, competition)


def _output(
    u: Tensor, delta_w: Tensor, delta_b: Tensor, bias: Tensor | None, competition: Competition
) -> SoftHebbOutput:
    return SoftHebbOutput(u, delta_w.detach(), _delta_b(delta_b.detach(), bias, competition))


def _delta_b(delta_b: Tensor, bias: Tensor | None, competition: Competition) -> Tensor | None:
    return None if bias is None or not competition.soft else delta_b
