// Products of float32 matrices as three products of bfloat16 matrices: every number is the sum of
// a high and a low one, high * high + high * low + low * high are summed in float32. Relative to
// the factors about 2^-17 of a product is lost, where TF32 loses 2^-11.
#pragma once

#include "gemm.h"

namespace softhebb {

// Why this machine has none, or null: they need Intel's AMX tiles.
const char* bf16x3_missing();

// c [m, n] = a [m, k] b [k, n], or c += a b. Rows of a and of either b or its transpose are
// contiguous. False if an operand holds what is not finite or is beyond 2^50; c is then undefined.
// An element of c depends on its row of a and its column of b alone, not on where they lie.
bool multiply_bf16x3(View<float> c, View<const float> a, View<const float> b, int64_t m, int64_t n,
                    int64_t k, bool add);

}  // namespace softhebb
