"""The scale at which x fits float16: the power of two that its largest value asks for."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def store_absmax(
    x,
    x_absmax,
    i,
    SIZE,
    G: tl.constexpr,
    DENSE: tl.constexpr,
    ABSMAX_PROGRAMS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``x_absmax[i]``: the bits of the largest finite |x| of one of ABSMAX_PROGRAMS parts of x.

    x has SIZE values; where it is DENSE they are all of its memory, in whatever order.
    """
    RANGE = tl.cdiv(tl.cdiv(SIZE, BLOCK), ABSMAX_PROGRAMS) * BLOCK
    b_max = tl.zeros((BLOCK,), tl.float32)
    for i_x in range(i * RANGE, tl.minimum((i + 1) * RANGE, SIZE), BLOCK):
        o = i_x + tl.arange(0, BLOCK)
        m = o < SIZE
        if not DENSE:
            # No remainders, as in ``pixels``.
            o_y = o // G.W
            o_c = o_y // G.H
            o_b = o_c // (G.GROUPS * G.C)
            o_x = o - o_y * G.W
            o_y -= o_c * G.H
            o_c -= o_b * (G.GROUPS * G.C)
            if G.WIDE:
                o_b = o_b.to(tl.int64)
            o = o_b * G.XB + o_c * G.XC + o_y * G.XY + o_x * G.XX
        b_x = tl.abs(tl.load(x + o, mask=m, other=0.0))
        b_max = tl.maximum(b_max, tl.where(b_x < float("inf"), b_x, 0.0))
    tl.store(x_absmax + i, tl.max(b_max).to(tl.int32, bitcast=True))


@triton.jit
def x_factor(prep, scalars, ABSMAX_PROGRAMS: tl.constexpr):
    """The power of two that scales x, from its bound or its largest values; and its inverse."""
    if prep.x_absmax is None:
        b_scale, b_inverse = scalars.x_scale, scalars.x_inverse
    else:
        o = tl.arange(0, triton.next_power_of_2(ABSMAX_PROGRAMS))
        bits = tl.max(tl.load(prep.x_absmax + o, mask=o < ABSMAX_PROGRAMS, other=0))
        b_scale, b_inverse = power_of_two_below(bits)
    return b_scale, b_inverse


@triton.jit
def power_of_two_below(bits):
    """The power that brings the number of these bits to at least 2^14 and below 2^15; its inverse.

    Both are normal numbers, wherever the number lies.
    """
    b_power = tl.minimum(268 - (bits >> 23), 240)
    b_scale = (b_power << 23).to(tl.float32, bitcast=True)
    return b_scale, ((254 - b_power) << 23).to(tl.float32, bitcast=True)


@triton.jit
def store_factors(x, prep, scale, first, BLOCKS, SIZE, BLOCK: tl.constexpr):
    """BLOCKS times BLOCK values from the block ``first`` on of x, scaled, in one term or two."""
    for j in range(first, first + BLOCKS):
        o = tl.full((1,), BLOCK, tl.int64) * j + tl.arange(0, BLOCK)
        b_x = tl.load(x + o, mask=o < SIZE, other=0.0)
        store_terms(prep.x0, prep.x1, o, o < SIZE, b_x * scale)


@triton.jit
def store_terms(t, t1, o, m, b):
    """``b`` in the dtype of ``t``, and what that left over in ``t1``, if it is given."""
    b_t = b.to(t.dtype.element_ty)
    tl.store(t + o, b_t, mask=m)
    if t1 is not None:
        tl.store(t1 + o, rest_of(b, b_t), mask=m)


@triton.jit
def rest_of(b, b_t):
    """What ``b_t`` leaves over of ``b``, in its dtype; of infinity it is nothing."""
    b = tl.where(tl.abs(b) < float("inf"), b - b_t.to(tl.float32), 0.0)
    return b.to(b_t.dtype)
