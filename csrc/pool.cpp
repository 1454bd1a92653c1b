#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels.h"
#include "target.h"
#include "vector_math.h"

namespace softhebb {
namespace {

template <typename T>
struct Rectified {
  SOFTHEBB_INLINE static T apply(T v, T) { return v < T(0) ? T(0) : v; }
};
template <typename T>
struct Square {
  SOFTHEBB_INLINE static T apply(T v, T) { return v < T(0) ? T(0) : v * v; }
};
template <typename T>
struct Root {
  SOFTHEBB_INLINE static T apply(T v, T) { return std::sqrt(v < T(0) ? T(0) : v); }
};
template <typename T>
struct Power {
  SOFTHEBB_INLINE static T apply(T v, T power) { return rectified_power(v, power); }
};

template <typename T, typename Function>
SOFTHEBB_INLINE void apply(const T* u, const T* mean, T* out, int64_t size, T power) {
  if (mean) {
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) out[i] = Function::apply(u[i] - mean[i], power);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) out[i] = Function::apply(u[i], power);
  }
}

template <typename T>
SOFTHEBB_INLINE void activate(const T* u, const T* mean, T* out, int64_t size, T power) {
  if (power == T(1)) return apply<T, Rectified<T>>(u, mean, out, size, power);
  if (power == T(2)) return apply<T, Square<T>>(u, mean, out, size, power);
  if (power == T(0.5)) return apply<T, Root<T>>(u, mean, out, size, power);
  apply<T, Power<T>>(u, mean, out, size, power);
}

template <typename T>
struct Largest {
  static constexpr T kStart = -std::numeric_limits<T>::infinity();
  SOFTHEBB_INLINE static T fold(T old, T v) {
    const T larger = v <= old ? old : v;
    return old != old ? old : larger;
  }
};
template <typename T>
struct Sum {
  static constexpr T kStart = T(0);
  SOFTHEBB_INLINE static T fold(T old, T v) { return old + v; }
};

// Whole vectors only: `to` has room for them, and what `from` holds behind its end is not used.
template <typename T, typename Fold>
SOFTHEBB_INLINE void fold_row(const T* from, T* to, int64_t size) {
  for (int64_t i = 0; i < size; i += kWide) {
#pragma omp simd
    for (int64_t l = 0; l < kWide; ++l) to[i + l] = Fold::fold(to[i + l], from[i + l]);
  }
}

// Rows first, over the whole width, into one padded row; then that row, shifted by every tap.
template <typename T, typename Fold>
SOFTHEBB_INLINE void pool_rows(const PoolMap<T>& a) {
  const int64_t size = pool_row(a.width, a.padding[1], a.kernel[1]);
  T* row = a.scratch;
  T* taps = row + size;
  const T* map = taps + size;
  const int64_t used = (a.out_width - 1) * a.stride[1] + 1;
  for (int64_t oy = 0; oy < a.out_height; ++oy) {
    const int64_t top = oy * a.stride[0] - a.padding[0];
    const int64_t begin = std::max<int64_t>(top, 0), end = std::min(top + a.kernel[0], a.height);
    for (int64_t x = 0; x < 2 * size; ++x) row[x] = Fold::kStart;
    for (int64_t y = begin; y < end; ++y) {
      fold_row<T, Fold>(map + y * a.width, row + a.padding[1], a.width);
    }
    for (int64_t x = a.padding[1] + a.width; x < size; ++x) row[x] = Fold::kStart;
    for (int64_t tap = 0; tap < a.kernel[1]; ++tap) fold_row<T, Fold>(row + tap, taps, used);
    T* line = a.out + oy * a.out_width;
    for (int64_t x = 0; x < a.out_width; ++x) line[x] = taps[x * a.stride[1]];
  }
}

// Powers rise, so the largest of a window is found before its power is taken: fewer powers.
template <typename T>
SOFTHEBB_INLINE void pool_map_body(const PoolMap<T>& a) {
  const int64_t size = a.out_height * a.out_width;
  T* map = a.scratch + 2 * pool_row(a.width, a.padding[1], a.kernel[1]);
  if (a.largest) {
    activate(a.u, a.mean, map, a.height * a.width, T(1));
    pool_rows<T, Largest<T>>(a);
    if (a.power != T(1)) activate<T>(a.out, nullptr, a.out, size, a.power);
  } else {
    activate(a.u, a.mean, map, a.height * a.width, a.power);
    pool_rows<T, Sum<T>>(a);
    const T area = static_cast<T>(a.kernel[0] * a.kernel[1]);
    for (int64_t i = 0; i < size; ++i) a.out[i] /= area;
  }
}

}  // namespace

SOFTHEBB_KERNEL(pool_map, PoolMap)

}  // namespace softhebb
