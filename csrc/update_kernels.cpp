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
  *a.dot = lane_dot(a.wt, a.yx, a.size);
  *a.square = lane_dot(a.w, a.w, a.size);
}

// Magnitudes are compared as the integers of their bits, which rank alike, NaN above infinity.
template <typename T>
SOFTHEBB_INLINE void largest_row_body(const LargestRow<T>& a) {
  using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  constexpr Bits kMagnitude = std::numeric_limits<Bits>::max();
  const T *w = a.w, *yx = a.yx, yu = a.yu;
  Bits largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < a.size; ++i) {
    const Bits bits = __builtin_bit_cast(Bits, yx[i] - yu * w[i]) & kMagnitude;
    largest = largest < bits ? bits : largest;
  }
  *a.largest = __builtin_bit_cast(T, largest);
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

// N is the width of the output if it is a common one, 0 if not.
template <typename T, int64_t N>
SOFTHEBB_INLINE void spread_rows(const SpreadChannel<T>& a, const T* from, T* to) {
  const int64_t width = N ? N : a.out_width, step = N ? 1 : a.window.stride[1];
  for (int64_t oy = 0; oy < a.out_rows; ++oy, to += width) {
    const T* row = from + oy * a.window.stride[0] * a.width;
#pragma omp simd
    for (int64_t ox = 0; ox < width; ++ox) to[ox] = row[ox * step];
  }
}

template <typename T>
SOFTHEBB_INLINE void spread_channel_body(const SpreadChannel<T>& a) {
  const int64_t width = a.window.stride[1] == 1 ? a.out_width : 0;
  T* to = a.to;
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t s = 0; s < a.columns; ++s, to += a.line) {
      const T* from = a.from + r * a.window.dilation[0] * a.width + s * a.window.dilation[1];
      switch (width) {
        case 8:
          spread_rows<T, 8>(a, from, to);
          break;
        case 16:
          spread_rows<T, 16>(a, from, to);
          break;
        case 32:
          spread_rows<T, 32>(a, from, to);
          break;
        default:
          spread_rows<T, 0>(a, from, to);
      }
    }
  }
}

}  // namespace

SOFTHEBB_KERNEL(spread_channel, SpreadChannel)
SOFTHEBB_KERNEL(dot_row, DotRow)
SOFTHEBB_KERNEL(largest_row, LargestRow)
SOFTHEBB_KERNEL(delta_row, DeltaRow)

}  // namespace softhebb
