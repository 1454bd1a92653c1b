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
from softhebb_fast.options import RULE, Competition, Convolution, Epilogue, Rate, Rule
from softhebb_fast.reference import HebbianOutput

TRITON_MISSING = None if find_spec("triton") else "the package triton is not installed"


def why_not(
    name: str, device_type: str, dtype: torch.dtype | None = None, tie_rule: str = "first"
) -> str | None:
    """The reason why ``"cpp"`` or ``"triton"`` cannot run there, or by that tie rule, or None."""
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
    rule: Rule = RULE,
) -> HebbianOutput:
    """Convolution, activity and update of one batch ``x [B, C, H, W]``."""
    out = call.conv_update(x, weight, bias, *convolution, *competition, *_given(rule))
    return _output(*out, bias, competition, rule)


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    competition: Competition,
    rule: Rule = RULE,
) -> HebbianOutput:
    """Matrix product, activity and update of one batch ``x [B, N]``."""
    out = call.linear_update(x, weight, bias, *competition, *_given(rule))
    return _output(*out, bias, competition, rule)


@torch.no_grad()
def conv2d_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    convolution: Convolution,
    competition: Competition,
    rule: Rule = RULE,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``conv2d`` and ``reference.step_`` in one: u, delta_b and the statistic; changes ``weight``.

    The rates come from the norms before the step.
    """
    options = (*rate, *convolution, *competition, *_given(rule))
    return _stepped(*call.conv_step_(x, weight, bias, *options), bias, competition, rule)


@torch.no_grad()
def linear_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    competition: Competition,
    rule: Rule = RULE,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``linear`` and ``reference.step_`` in one, as ``conv2d_step_``."""
    out = call.linear_step_(x, weight, bias, *rate, *competition, *_given(rule))
    return _stepped(*out, bias, competition, rule)


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
    rule: Rule = RULE,
) -> HebbianOutput:
    """``conv2d`` with the pooled activation in the place of u."""
    options = (*convolution, *competition, *epilogue, *_given(rule))
    return _output(*call.block_update(x, weight, bias, *options), bias, competition, rule)


@torch.no_grad()
def block_step_(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rate: Rate,
    convolution: Convolution,
    competition: Competition,
    epilogue: Epilogue,
    rule: Rule = RULE,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """``conv2d_step_`` with the pooled activation in the place of u."""
    options = (*rate, *convolution, *competition, *epilogue, *_given(rule))
    return _stepped(*call.block_step_(x, weight, bias, *options), bias, competition, rule)


def _given(rule: Rule) -> tuple:
    """The arguments of a rule; none for SoftHebb, whose calls stay as short as they were."""
    return () if rule is RULE else rule


def _output(
    u: Tensor,
    delta_w: Tensor,
    delta_b: Tensor,
    statistic: Tensor,
    bias: Tensor | None,
    competition: Competition,
    rule: Rule,
) -> HebbianOutput:
    rest = _stepped(u, delta_b.detach(), statistic.detach(), bias, competition, rule)
    return HebbianOutput(u, delta_w.detach(), *rest[1:])


def _stepped(
    u: Tensor,
    delta_b: Tensor,
    statistic: Tensor,
    bias: Tensor | None,
    competition: Competition,
    rule: Rule,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    learns = bias is not None and competition.soft and rule.learns_bias
    return u, delta_b if learns else None, None if rule.statistic is None else statistic
