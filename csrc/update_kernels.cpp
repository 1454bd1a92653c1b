#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels.h"
#include "ordered_sums.h"
#include "multiversion.h"

namespace softhebb {
namespace {

template <typename T>
SOFTHEBB_INLINE void dot_row_body(const DotRow<T>& a) {
  *a.dot = ordered_dot(a.wt, a.yx, a.size);
  *a.square = ordered_dot(a.w, a.w, a.size);
}

// Element i of D. What is not lost does not spread where it is not finite.
template <bool kLoses, typename T>
SOFTHEBB_INLINE T left_of(T yx, T yu, T w) {
  return kLoses ? yx - yu * w : yx;
}

// Magnitudes are compared as the integers of their bits, which rank alike, NaN above infinity.
template <bool kLoses, typename T>
SOFTHEBB_INLINE void largest_row_of(const LargestRow<T>& a) {
  using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  constexpr Bits kMagnitude = std::numeric_limits<Bits>::max();
  const T *w = a.w, *yx = a.yx, yu = a.yu;
  Bits largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < a.size; ++i) {
    const T left = left_of<kLoses>(yx[i], yu, w[i]);
    const Bits bits = __builtin_bit_cast(Bits, left) & kMagnitude;
    largest = largest < bits ? bits : largest;
  }
  *a.largest = __builtin_bit_cast(T, largest);
}

template <typename T>
SOFTHEBB_INLINE void largest_row_body(const LargestRow<T>& a) {
  a.loses ? largest_row_of<true>(a) : largest_row_of<false>(a);
}

template <typename T>
SOFTHEBB_INLINE bool is_normal(T x) {
  const T size = x < T(0) ? -x : x;
  return size >= std::numeric_limits<T>::min() && size <= std::numeric_limits<T>::max();
}

template <bool kLoses, typename T>
SOFTHEBB_INLINE void delta_row_of(const DeltaRow<T>& a) {
  const T scale = a.rate / a.largest;
  if (a.step && is_normal(scale)) {
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) {
      a.out[i] = a.w[i] + scale * left_of<kLoses>(a.yx[i], a.yu, a.w[i]);
    }
  } else if (a.step) {  // a quotient out of range, of two factors that are not
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) {
      a.out[i] = a.w[i] + a.rate * (left_of<kLoses>(a.yx[i], a.yu, a.w[i]) / a.largest);
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < a.size; ++i) {
      a.out[i] = left_of<kLoses>(a.yx[i], a.yu, a.w[i]) / a.largest;
    }
  }
}

template <typename T>
SOFTHEBB_INLINE void delta_row_body(const DeltaRow<T>& a) {
  a.loses ? delta_row_of<true>(a) : delta_row_of<false>(a);
}

template <typename T>
SOFTHEBB_INLINE void divide_row_body(const DivideRow<T>& a) {
#pragma omp simd
  for (int64_t i = 0; i < a.size; ++i) a.w[i] /= a.by;
}

}  // namespace

SOFTHEBB_KERNEL(dot_row, DotRow)
SOFTHEBB_KERNEL(largest_row, LargestRow)
SOFTHEBB_KERNEL(delta_row, DeltaRow)
SOFTHEBB_KERNEL(divide_row, DivideRow)

}  // namespace softhebb
