// How products of float32 matrices are taken.
#pragma once

namespace softhebb {

// Whether as three products of bfloat16 matrices: SOFTHEBB_FAST_PRECISION says bf16x3, or leaves it
// to torch, which allows less than float32 in matrix products on the CPU, and this machine can.
// Raises for a precision that was named and is not to be had.
bool takes_bf16x3();

}  // namespace softhebb
