#include <algorithm>

#include "kernels.h"
#include "multiversion.h"

namespace softhebb {
namespace {

template <typename T>
SOFTHEBB_INLINE void offset_strip_body(const MapStrip<T>& a) {
  for (int64_t k = 0; k < a.neurons; ++k) {
    const T* u = a.u + k * a.line;
    T* y = a.y + k * a.y_line;
    const T by = a.by[k];
#pragma omp simd
    for (int64_t j = 0; j < a.positions; ++j) y[j] = u[j] - by;
  }
}

template <typename T>
SOFTHEBB_INLINE void threshold_strip_body(const MapStrip<T>& a) {
  for (int64_t k = 0; k < a.neurons; ++k) {
    const T* u = a.u + k * a.line;
    T* y = a.y + k * a.y_line;
    const T by = a.by[k];
#pragma omp simd
    for (int64_t j = 0; j < a.positions; ++j) y[j] = u[j] * (u[j] - by);
  }
}

template <typename T>
SOFTHEBB_INLINE void scale_strip_body(const MapStrip<T>& a) {
  for (int64_t k = 0; k < a.neurons; ++k) {
    const T* u = a.u + k * a.line;
    T* y = a.y + k * a.y_line;
#pragma omp simd
    for (int64_t j = 0; j < a.positions; ++j) y[j] = a.by[j] * u[j];
  }
}

template <typename T>
SOFTHEBB_INLINE void settle_strip_body(const SettleStrip<T>& a) {
  for (int64_t k = 0; k < a.neurons; ++k) {
    const T *u = a.u + k * a.line, *both = a.both + k * a.both_line;
    T* y = a.y + k * a.y_line;
#pragma omp simd
    for (int64_t j = 0; j < a.positions; ++j) {
      const T v = y[j] + a.pace * (u[j] - both[j]);
      y[j] = v < T(0) ? T(0) : v;
    }
  }
}

template <typename T>
SOFTHEBB_INLINE void target_strip_body(const TargetStrip<T>& a) {
  constexpr int64_t kBlock = 16;
  for (int64_t k = 0; k < a.neurons; k += kBlock) {
    const int64_t end = std::min(k + kBlock, a.neurons);
    if (a.position == 0) {
      for (int64_t i = k; i < end; ++i) {
        const T one = a.target[i * a.neuron];
        T* y = a.y + i * a.line;
#pragma omp simd
        for (int64_t j = 0; j < a.positions; ++j) y[j] = a.subtract ? one - y[j] : one;
      }
    } else if (a.position == 1) {
      for (int64_t i = k; i < end; ++i) {
        const T* from = a.target + i * a.neuron;
        T* y = a.y + i * a.line;
#pragma omp simd
        for (int64_t j = 0; j < a.positions; ++j) y[j] = a.subtract ? from[j] - y[j] : from[j];
      }
    } else {
      for (int64_t j = 0; j < a.positions; ++j) {
        const T* from = a.target + j * a.position;
        for (int64_t i = k; i < end; ++i) {
          T& y = a.y[i * a.line + j];
          y = a.subtract ? from[i * a.neuron] - y : from[i * a.neuron];
        }
      }
    }
  }
}

template <typename T>
SOFTHEBB_INLINE void finite_strip_body(const FiniteStrip<T>& a) {
  T spoilt = 0;
  for (int64_t k = 0; k < a.neurons; ++k) {
    const T* y = a.y + k * a.line;
#pragma omp simd reduction(+ : spoilt)
    for (int64_t j = 0; j < a.positions; ++j) spoilt += y[j] * T(0);
  }
  *a.spoilt += spoilt;
}

}  // namespace

SOFTHEBB_KERNEL(offset_strip, MapStrip)
SOFTHEBB_KERNEL(threshold_strip, MapStrip)
SOFTHEBB_KERNEL(scale_strip, MapStrip)
SOFTHEBB_KERNEL(settle_strip, SettleStrip)
SOFTHEBB_KERNEL(target_strip, TargetStrip)
SOFTHEBB_KERNEL(finite_strip, FiniteStrip)

}  // namespace softhebb
