// Sums whose order depends on the length alone, never on alignment or vector width: equal rows
// give equal bits.
#pragma once

#include <cstdint>

#include "multiversion.h"

namespace softhebb {

constexpr int64_t kLanes = 32;

template <typename T>
SOFTHEBB_INLINE T fold_lanes(T* lanes) {
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

template <typename T>
SOFTHEBB_INLINE T ordered_dot(const T* a, const T* b, int64_t size) {
  T lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
#pragma omp simd
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += a[i + l] * b[i + l];
  }
  for (int64_t l = 0; i + l < size; ++l) lanes[l] += a[i + l] * b[i + l];
  return fold_lanes(lanes);
}

template <typename T>
SOFTHEBB_INLINE T ordered_sum(const T* a, int64_t size) {
  T lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
#pragma omp simd
    for (int64_t l = 0; l < kLanes; ++l) lanes[l] += a[i + l];
  }
  for (int64_t l = 0; i + l < size; ++l) lanes[l] += a[i + l];
  return fold_lanes(lanes);
}

}  // namespace softhebb
