"""Checks of the public functions' tensors: every error names the argument and what came."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from softhebb_fast.kinds import POOLS
from softhebb_fast.options import Convolution, Epilogue, check_lebesgue_p, padded_sides, pair
from softhebb_fast.scalars import number, whole

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


def checked_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, c: Convolution
) -> tuple[Tensor, Convolution]:
    """x as a batch and the checked ``c``, if they fit each other and the other tensors.

    ``c.padding`` may be ``"same"`` or ``"valid"``; what no pair can say is put around x here.
    """
    return fitted_conv2d(x, weight, bias, c if isinstance(c.padding, str) else c.checked())


def fitted_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, c: Convolution
) -> tuple[Tensor, Convolution]:
    """The same for a ``c`` that is checked, but for a ``c.padding`` in words."""
    check_are_tensors(x=x, weight=weight, bias=bias)
    x = x.unsqueeze(0) if x.dim() == 3 else x
    if isinstance(c.padding, str):
        before, after = _sides(x, weight, c)
        c = c._replace(padding=after if before == after else (0, 0)).checked()
        if before != after:
            check_conv2d(x, weight, bias, c._replace(padding=after))
            x = put_around(x, before, after, c.padding_mode)
    check_conv2d(x, weight, bias, c)
    return x, c


def put_around(x: Tensor, before: tuple[int, int], after: tuple[int, int], mode: str) -> Tensor:
    """x with ``before`` and ``after`` (rows, columns) around it, as ``mode`` fills them."""
    sides = (before[1], after[1], before[0], after[0])
    return F.pad(x, sides, "constant" if mode == "zeros" else mode)


def _sides(x: Tensor, weight: Tensor, c: Convolution) -> tuple[tuple[int, int], tuple[int, int]]:
    if weight.dim() != 4:
        raise ValueError(f"weight must be [K, C / groups, R, S]; got {tuple(weight.shape)}")
    stride, dilation = pair(c.stride, "stride"), pair(c.dilation, "dilation")
    return padded_sides(c.padding, tuple(weight.shape[2:]), stride, dilation)


def check_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, c: Convolution) -> None:
    """Tensors that fit each other and the checked ``c``."""
    if x.dim() != 4:
        raise ValueError(f"x must be [B, C, H, W] or [C, H, W]; got {tuple(x.shape)}")
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


def checked_epilogue(epilogue: Epilogue, size: tuple[int, int], groups: int) -> Epilogue:
    """The same with a pair for every int, if it fits a map of ``size`` of so many groups."""
    if not isinstance(epilogue, Epilogue):
        raise TypeError(f"epilogue must be an Epilogue; got {epilogue!r}")
    if epilogue.pool not in POOLS:
        raise ValueError(f"epilogue.pool must be 'max' or 'avg'; got {epilogue.pool!r}")
    power = number("epilogue.power", epilogue.power)
    if not power > 0:
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
    means = whole("epilogue.groups", epilogue.groups, least=1)
    if groups % means:
        raise ValueError(
            f"epilogue.groups must divide the groups of the convolution, {groups}; got {means}"
        )
    return Epilogue(epilogue.centre, power, epilogue.pool, kernel, stride, padding, means)


def check_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    check_are_tensors(x=x, weight=weight, bias=bias)
    if weight.dim() != 2:
        raise ValueError(f"weight must be [K, N]; got {tuple(weight.shape)}")
    if x.dim() < 1 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x must be [..., {weight.shape[1]}]; got {tuple(x.shape)}")
    _check_tensors(x, weight, bias)


def checked_update(
    x: Tensor, y: Tensor, u: Tensor, weight: Tensor, c: Convolution
) -> tuple[Tensor, Tensor, Tensor, Convolution]:
    """x, y and u as batches and the checked ``c``, if all fit each other."""
    check_are_tensors(x=x, y=y, u=u, weight=weight)
    if x.dim() == weight.dim() - 1:
        x, y, u = x.unsqueeze(0), y.unsqueeze(0), u.unsqueeze(0)
    if weight.dim() == 4:
        x, c = checked_conv2d(x, weight, None, c)
        expected = (x.shape[0], weight.shape[0], *conv2d_size(x, weight, c))
    else:
        c = c.checked()
        check_linear(x, weight, None)
        expected = (*x.shape[:-1], weight.shape[0])
        if x.dim() != 2:
            raise ValueError(f"x must be [B, {weight.shape[1]}]; got {tuple(x.shape)}")
    for name, tensor in (("y", y), ("u", u)):
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{name} must be {expected}; got {tuple(tensor.shape)}")
        _check_same(tensor, name, weight)
    return x, y, u, c


def checked_groups(u: Tensor, groups: int) -> int:
    """``groups`` as an int, if pre-activations u can be split so."""
    check_are_tensors(u=u)
    if u.dim() < 2:
        raise ValueError(f"u must be [B, K, ...]; got {tuple(u.shape)}")
    _check_real("u", u)
    return _check_groups(groups, u.shape[1])


def checked_step(weight: Tensor, lebesgue_p: float) -> float:
    """``lebesgue_p`` as a float, if the rows of ``weight`` can have such norms."""
    check_are_tensors(weight=weight)
    if weight.dim() < 2:
        raise ValueError(f"weight must have neurons in dimension 0; got {tuple(weight.shape)}")
    _check_real("weight", weight)
    return check_lebesgue_p(lebesgue_p)


def check_direction(weight: Tensor, delta_w: Tensor) -> None:
    check_are_tensors(weight=weight, delta_w=delta_w)
    if delta_w.shape != weight.shape:
        raise ValueError(f"delta_w must be {tuple(weight.shape)}; got {tuple(delta_w.shape)}")
    _check_real("delta_w", delta_w)


def check_writable(weight: Tensor) -> None:
    """A weight that a step in place may write: every number has a place of its own."""
    if not torch.compiler.is_compiling() and weight.is_neg():
        raise ValueError(
            "weight must not be a negated view to be stepped in place. Use weight.resolve_neg()"
        )
    if not weight.is_contiguous() and _shares_places(weight):
        raise ValueError(
            "weight must not be expanded or overlap itself to be stepped in place; got strides "
            f"{weight.stride()} for {tuple(weight.shape)}. Use weight.clone()"
        )


def _shares_places(tensor: Tensor) -> bool:
    """Whether a dimension's step may be within what the dimensions of smaller steps span."""
    span = 0
    for step, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if step <= span:
                return True
            span += step * (size - 1)
    return False


def check_are_tensors(**tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if tensor is None and name == "bias":
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor; got {type(tensor).__name__}")
        if tensor.layout != torch.strided or tensor.is_nested:
            kind = "a nested" if tensor.is_nested else f"a {tensor.layout}".replace("torch.", "")
            raise TypeError(f"{name} must be a dense tensor; got {kind} one")


def _check_real(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating point tensor; got {tensor.dtype}")


def _check_groups(groups: int, filters: int) -> int:
    groups = whole("groups", groups)
    if groups < 1 or filters % groups:
        raise ValueError(
            f"groups must be a positive divisor of the {filters} filters; got {groups}"
        )
    return groups


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
