"""Mend Triton's interpreter where it is wrong without a word; import after TRITON_INTERPRET=1.

It keeps bfloat16 as 16-bit integers and multiplies those, truncates float32 to bfloat16 where GPUs
round to nearest even, and takes tf32 products in float32. Here products of bfloat16 are exact,
other bfloat16 arithmetic raises, conversion rounds, and tf32 operands are rounded to 10 bits.
Products are summed in float64: on some CPUs a sum of BLAS depends on its column, and equal filters
would have other bits.
"""

from __future__ import annotations

import numpy as np
import triton.language as tl
from triton._C.libtriton import ir
from triton.runtime import interpreter

Builder = interpreter.InterpreterBuilder
_dot, _binary = Builder.create_dot, Builder.binary_op
_convert = interpreter._convert_float


def _widened(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _tf32(x: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x)


def create_dot(self, a, b, d, input_precision, max_num_imprecise_acc):
    factors = a.data, b.data
    if a.dtype.scalar == tl.bfloat16:
        factors = map(_widened, factors)
    elif a.dtype.scalar == tl.float32 and input_precision == ir.INPUT_PRECISION.TF32:
        factors = map(_tf32, factors)
    elif a.dtype.scalar not in (tl.float32, tl.float16):
        return _dot(self, a, b, d, input_precision, max_num_imprecise_acc)
    product = np.matmul(*(f.astype(np.float64) for f in factors)).astype(d.data.dtype)
    return interpreter.TensorHandle(product + d.data, d.dtype.scalar)


def binary_op(self, lhs, rhs, op):
    if getattr(lhs.dtype, "scalar", lhs.dtype) == tl.bfloat16:
        raise TypeError(f"the interpreter cannot do {op.__name__} in bfloat16")
    return _binary(self, lhs, rhs, op)


def convert_float(data, source, target, rounding_mode):
    if (source, target) != (tl.float32, tl.bfloat16):
        return _convert(data, source, target, rounding_mode)
    bits = np.ascontiguousarray(data, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(data), 0x7FFF, rounded).astype(np.uint16)


interpreter._convert_float = convert_float
Builder.create_dot, Builder.binary_op = create_dot, binary_op
