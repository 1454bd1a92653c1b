"""Checks of the public functions' tensors: every error names the argument and what came."""

from __future__ import annotations

import torch
from torch import Tensor

from softhebb_fast.kinds import POOLS
from softhebb_fast.options import Convolution, Epilogue, check_int, check_lebesgue_p, pair

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def output_size(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    """Rows and columns of the convolution's output; not positive where there is none."""
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


def conv2d_size(x: Tensor, weight: Tensor, c: Convolution) -> tuple[int, int]:
    """Rows and columns of u."""
    size, kernel = tuple(x.shape[2:]), tuple(weight.shape[2:])
    return output_size(size, kernel, c.stride, c.padding, c.dilation)


def check_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, c: Convolution) -> None:
    """Tensors that fit each other and the checked ``c``."""
    check_are_tensors(x=x, weight=weight, bias=bias)
    if x.dim() != 4:
        raise ValueError(f"x must be [B, C, H, W]; got {tuple(x.shape)}")
    if weight.dim() != 4:
        raise ValueError(f"weight must be [K, C / groups, R, S]; got {tuple(weight.shape)}")
    _check_groups(c.groups, weight.shape[0])
    if x.shape[1] != weight.shape[1] * c.groups:
        raise ValueError(
            f"x must have {weight.shape[1] * c.groups} channels for weight {tuple(weight.shape)} "
            f"and groups={c.groups}; got {tuple(x.shape)}"
        )
    _check_tensors(x, weight, bias)
    _check_padding(c.padding, c.padding_mode, tuple(x.shape[2:]))
    size = conv2d_size(x, weight, c)
    if min(size) < 1:
        raise ValueError(
            f"the output would be empty, {size[0]}x{size[1]}: x is {tuple(x.shape)}, the kernel "
            f"{tuple(weight.shape[2:])}, padding={c.padding}, dilation={c.dilation}; use a larger "
            "image or padding"
        )


def check_epilogue(epilogue: Epilogue, size: tuple[int, int]) -> None:
    """An activation and a pooling that fit a map of ``size``."""
    if epilogue.pool not in POOLS:
        raise ValueError(f"epilogue.pool must be 'max' or 'avg'; got {epilogue.pool!r}")
    if not epilogue.power > 0:
        raise ValueError(f"epilogue.power must be positive; got {epilogue.power!r}")
    kernel, stride = pair(epilogue.kernel, "kernel"), pair(epilogue.stride, "stride")
    padding = pair(epilogue.padding, "padding", least=0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(
            f"epilogue.padding must be at most half the kernel {kernel}; got {padding}"
        )
    if min(output_size(size, kernel, stride, padding)) < 1:
        raise ValueError(
            f"the pooled map would be empty: the map is {size[0]}x{size[1]}, "
            f"epilogue.kernel {kernel}, epilogue.padding {padding}"
        )


def check_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    check_are_tensors(x=x, weight=weight, bias=bias)
    if weight.dim() != 2:
        raise ValueError(f"weight must be [K, N]; got {tuple(weight.shape)}")
    if x.dim() < 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x must be [..., {weight.shape[1]}]; got {tuple(x.shape)}")
    _check_tensors(x, weight, bias)


def check_update(x: Tensor, y: Tensor, u: Tensor, weight: Tensor, c: Convolution) -> None:
    check_are_tensors(x=x, y=y, u=u, weight=weight)
    if weight.dim() == 4:
        check_conv2d(x, weight, None, c)
        expected = (x.shape[0], weight.shape[0], *conv2d_size(x, weight, c))
    else:
        check_linear(x, weight, None)
        expected = (*x.shape[:-1], weight.shape[0])
        if x.dim() != 2:
            raise ValueError(f"x must be [B, {weight.shape[1]}]; got {tuple(x.shape)}")
    for name, tensor in (("y", y), ("u", u)):
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{name} must be {expected}; got {tuple(tensor.shape)}")
        _check_same(tensor, name, weight)


def check_pre_activations(u: Tensor, groups: int) -> None:
    check_are_tensors(u=u)
    if u.dim() < 2:
        raise ValueError(f"u must be [B, K, ...]; got {tuple(u.shape)}")
    if not u.is_floating_point():
        raise TypeError(f"u must be a floating point tensor; got {u.dtype}")
    _check_groups(groups, u.shape[1])


def check_step(weight: Tensor, delta_w: Tensor | None, lebesgue_p: float) -> None:
    check_are_tensors(weight=weight, delta_w=delta_w)
    if weight.dim() < 2:
        raise ValueError(f"weight must have neurons in dimension 0; got {tuple(weight.shape)}")
    if delta_w is not None and delta_w.shape != weight.shape:
        raise ValueError(f"delta_w must be {tuple(weight.shape)}; got {tuple(delta_w.shape)}")
    check_lebesgue_p(lebesgue_p)


def check_writable(weight: Tensor) -> None:
    """A weight that a step in place may write: every number has a place of its own."""
    shared = (step == 0 and n > 1 for step, n in zip(weight.stride(), weight.shape, strict=True))
    if not weight.is_contiguous() and any(shared):
        raise ValueError(
            "weight must not be expanded to be stepped in place; got strides "
            f"{weight.stride()} for {tuple(weight.shape)}. Use weight.clone()"
        )


def check_are_tensors(**tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor; got {type(tensor).__name__}")


def _check_groups(groups: int, filters: int) -> None:
    check_int("groups", groups)
    if groups < 1 or filters % groups:
        raise ValueError(
            f"groups must be a positive divisor of the {filters} filters; got {groups}"
        )


def _check_padding(padding: tuple[int, int], mode: str, size: tuple[int, int]) -> None:
    limit = {"reflect": -1, "circular": 0}.get(mode)
    if limit is not None and any(p > n + limit for p, n in zip(padding, size, strict=True)):
        least = "smaller than" if mode == "reflect" else "at most"
        raise ValueError(
            f"padding must be {least} the image for padding_mode={mode!r}; got {padding} "
            f"for an image of {size[0]}x{size[1]}"
        )


def _check_tensors(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if x.dtype not in DTYPES:
        raise TypeError(f"x must be float64, float32, float16 or bfloat16; got {x.dtype}")
    for name, tensor in (("x", x), ("weight", weight)):
        if 0 in tensor.shape[1:]:
            raise ValueError(f"{name} must not be empty; got {tuple(tensor.shape)}")
    _check_same(x, "x", weight)
    if bias is not None:
        if tuple(bias.shape) != (weight.shape[0],):
            raise ValueError(f"bias must be [{weight.shape[0]}]; got {tuple(bias.shape)}")
        _check_same(bias, "bias", weight)


def _check_same(tensor: Tensor, name: str, weight: Tensor) -> None:
    for what in ("dtype", "device"):
        came, expected = getattr(tensor, what), getattr(weight, what)
        if came != expected:
            raise TypeError(
                f"{name} must have the {what} of weight, {expected}; got {came}. "
                f"Convert it with {name}.to(...) or move the layer"
            )
