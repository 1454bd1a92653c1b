#include <cmath>
#include <limits>

#include "kernels.h"
#include "lanes.h"
#include "target.h"
#include "vector_math.h"

namespace softhebb {
namespace {

template <typename T>
SOFTHEBB_INLINE void dot_row_body(const DotRow<T>& a) {
  *a.dot = lane_dot(a.wt, a.yx, a.size);
  *a.square = lane_dot(a.w, a.w, a.size);
}

template <typename T>
SOFTHEBB_INLINE void largest_row_body(const LargestRow<T>& a) {
  T largest = 0;
  int32_t nan = 0;
#pragma omp simd reduction(max : largest) reduction(| : nan)
  for (int64_t i = 0; i < a.size; ++i) {
    const T d = std::abs(a.yx[i] - a.yu * a.w[i]);
    nan |= d != d;
    largest = largest < d ? d : largest;
  }
  *a.largest = nan ? std::numeric_limits<T>::quiet_NaN() : largest;
}

template <typename T>
SOFTHEBB_INLINE void delta_row_body(const DeltaRow<T>& a) {
  if (a.step) {
    const T scale = a.rate / a.largest;
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) a.out[i] = a.w[i] + scale * (a.yx[i] - a.yu * a.w[i]);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) a.out[i] = (a.yx[i] - a.yu * a.w[i]) / a.largest;
  }
}

template <typename T>
SOFTHEBB_INLINE T centred(const ActivateRow<T>& a, int64_t i) {
  return a.mean ? a.u[i] - a.mean[i] : a.u[i];
}

template <typename T>
SOFTHEBB_INLINE void activate_row_body(const ActivateRow<T>& a) {
  if (a.power == T(1)) {
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) {
      const T v = centred(a, i);
      a.out[i] = v < T(0) ? T(0) : v;
    }
  } else if (a.power == T(2)) {
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) {
      const T v = centred(a, i);
      a.out[i] = v < T(0) ? T(0) : v * v;
    }
  } else if (a.power == T(0.5)) {
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) {
      const T v = centred(a, i);
      a.out[i] = std::sqrt(v < T(0) ? T(0) : v);
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) a.out[i] = rectified_power(centred(a, i), a.power);
  }
}

template <typename T>
SOFTHEBB_INLINE void fold(const FoldRow<T>& a, int64_t step) {
  if (a.largest) {
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) {
      const T v = a.from[i * step];
      a.to[i] = (v <= a.to[i]) | (a.to[i] != a.to[i]) ? a.to[i] : v;
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) a.to[i] += a.from[i * step];
  }
}

template <typename T>
SOFTHEBB_INLINE void fold_row_body(const FoldRow<T>& a) {
  if (a.from_step == 1) return fold(a, 1);
  if (a.from_step == 2) return fold(a, 2);
  fold(a, a.from_step);
}

}  // namespace

SOFTHEBB_KERNEL(dot_row, DotRow)
SOFTHEBB_KERNEL(largest_row, LargestRow)
SOFTHEBB_KERNEL(delta_row, DeltaRow)
SOFTHEBB_KERNEL(activate_row, ActivateRow)
SOFTHEBB_KERNEL(fold_row, FoldRow)

}  // namespace softhebb
