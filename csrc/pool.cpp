#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels.h"
#include "multiversion.h"
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

// Activations are not negative: their bits, with the sign of NaN cleared, rank as integers do, and
// NaN ranks highest.
template <typename T>
struct Largest {
  using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  SOFTHEBB_INLINE static T fold(T old, T v) {
    const Bits a = __builtin_bit_cast(Bits, old) & std::numeric_limits<Bits>::max();
    const Bits b = __builtin_bit_cast(Bits, v) & std::numeric_limits<Bits>::max();
    return __builtin_bit_cast(T, a < b ? b : a);
  }
};
template <typename T>
struct Sum {
  SOFTHEBB_INLINE static T fold(T old, T v) { return old + v; }
};

// Folds `count` rows, `step` apart, into one. Whole vectors only: `to` has room for them, and what
// `from` holds behind the end of a row is not used.
template <typename T, typename Fold>
SOFTHEBB_INLINE void fold_rows(const T* from, int64_t step, int64_t count, T* to, int64_t size) {
  for (int64_t i = 0; i < size; i += kWide) {
    T folded[kWide] = {};
    for (int64_t row = 0; row < count; ++row) {
#pragma omp simd
      for (int64_t l = 0; l < kWide; ++l)
        folded[l] = Fold::fold(folded[l], from[row * step + i + l]);
    }
#pragma omp simd
    for (int64_t l = 0; l < kWide; ++l) to[i + l] = folded[l];
  }
}

// Rows first, over the whole width; then what is left of them, shifted by every tap. 0 is neutral
// for sums and, activations not being negative, for the largest.
template <typename T, typename Fold>
SOFTHEBB_INLINE void pool_rows(const PoolMap<T>& a, const T* map) {
  const int64_t size = pool_row(a.width, a.padding[1], a.kernel[1]);
  const int64_t used = (a.out_width - 1) * a.stride[1] + 1, inside = a.padding[1] + a.width;
  for (int64_t oy = 0; oy < a.out_height; ++oy) {
    const int64_t top = oy * a.stride[0] - a.padding[0];
    const int64_t begin = std::max<int64_t>(top, 0), end = std::min(top + a.kernel[0], a.height);
    T* row = a.scratch + oy * size;
    for (int64_t x = 0; x < a.padding[1]; ++x) row[x] = T(0);
    fold_rows<T, Fold>(map + begin * a.width, a.width, end - begin, row + a.padding[1], a.width);
    for (int64_t x = inside; x < inside + kWide; ++x) row[x] = T(0);
  }
  for (int64_t oy = 0; oy < a.out_height; ++oy) {
    T* row = a.scratch + oy * size;
    fold_rows<T, Fold>(row, 1, a.kernel[1], row, used);
    T* line = a.out + oy * a.out_width;
    for (int64_t x = 0; x < a.out_width; ++x) line[x] = row[x * a.stride[1]];
  }
}

// Powers rise, so the largest of a window is found before its power is taken: fewer powers.
template <typename T>
SOFTHEBB_INLINE void pool_map_body(const PoolMap<T>& a) {
  const int64_t size = a.out_height * a.out_width;
  T* map = a.scratch + a.out_height * pool_row(a.width, a.padding[1], a.kernel[1]);
  if (a.largest) {
    activate(a.u, a.mean, map, a.height * a.width, T(1));
    pool_rows<T, Largest<T>>(a, map);
    if (a.power != T(1)) activate<T>(a.out, nullptr, a.out, size, a.power);
  } else {
    activate(a.u, a.mean, map, a.height * a.width, a.power);
    pool_rows<T, Sum<T>>(a, map);
    const T area = static_cast<T>(a.kernel[0] * a.kernel[1]);
    for (int64_t i = 0; i < size; ++i) a.out[i] /= area;
  }
}

}  // namespace

SOFTHEBB_KERNEL(pool_map, PoolMap)

}  // namespace softhebb
