// Dropout in one pass. Whether an element is kept is a function of a seed and the element's place
// alone: 16 bits of the counter-based generator Threefry-2x32 with 20 rounds (Salmon et al. 2011,
// "Parallel random numbers: as easy as 1, 2, 3"). Threads share the work, no mask is ever stored.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "multiversion.h"
#include "regions.h"

namespace softhebb {
namespace {

constexpr int kLanes = 16;
constexpr int64_t kBlock = 4 * kLanes;  // elements whose bits are drawn together, 16 for each
constexpr int64_t kGrain = 64;          // blocks a thread takes at least
constexpr double kLevels = 65536;

template <typename T>
struct DropoutArguments {
  const T* x;
  T* y;
  int64_t begin, end;  // elements, begin a multiple of kBlock
  uint64_t seed;
  uint32_t dropped;  // of kLevels
  T scale;
};

template <int kRotation>
SOFTHEBB_INLINE void mix(uint32_t* a, uint32_t* b) {
#pragma omp simd
  for (int l = 0; l < kLanes; ++l) {
    a[l] += b[l];
    b[l] = ((b[l] << kRotation) | (b[l] >> (32 - kRotation))) ^ a[l];
  }
}

SOFTHEBB_INLINE void add(uint32_t* a, uint32_t* b, uint32_t to_a, uint32_t to_b) {
#pragma omp simd
  for (int l = 0; l < kLanes; ++l) a[l] += to_a, b[l] += to_b;
}

// Words [2][kLanes] of block `block`: lane l has the counter block * kLanes + l.
SOFTHEBB_INLINE void threefry(uint64_t block, uint64_t seed, uint32_t words[2][kLanes]) {
  const uint32_t key[3] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                           static_cast<uint32_t>(seed) ^ static_cast<uint32_t>(seed >> 32) ^
                               0x1BD11BDA};
  uint32_t *a = words[0], *b = words[1];
  for (int l = 0; l < kLanes; ++l) {
    const uint64_t counter = block * kLanes + l;
    a[l] = static_cast<uint32_t>(counter) + key[0];
    b[l] = static_cast<uint32_t>(counter >> 32) + key[1];
  }
  for (uint32_t four = 1; four <= 5; ++four) {
    four % 2 ? (mix<13>(a, b), mix<15>(a, b), mix<26>(a, b), mix<6>(a, b))
             : (mix<17>(a, b), mix<29>(a, b), mix<16>(a, b), mix<24>(a, b));
    add(a, b, key[four % 3], key[(four + 1) % 3] + four);
  }
}

template <typename T>
SOFTHEBB_INLINE void dropout_range_body(const DropoutArguments<T>& a) {
  const T scale = a.scale;
  const uint32_t dropped = a.dropped;
  for (int64_t begin = a.begin; begin < a.end; begin += kBlock) {
    alignas(64) uint32_t words[2][kLanes];
    alignas(64) uint16_t bits[kBlock];
    threefry(static_cast<uint64_t>(begin / kBlock), a.seed, words);
    std::memcpy(bits, words, sizeof(bits));
    const int64_t count = std::min(kBlock, a.end - begin);
    const T* x = a.x + begin;
    T* y = a.y + begin;
    alignas(64) T kept[kBlock];
#pragma omp simd
    for (int i = 0; i < kBlock; ++i) kept[i] = scale * static_cast<T>(bits[i] >= dropped);
    if (count == kBlock) {
#pragma omp simd
      for (int i = 0; i < kBlock; ++i) y[i] = x[i] * kept[i];
    } else {
      for (int64_t i = 0; i < count; ++i) y[i] = x[i] * kept[i];
    }
  }
}

SOFTHEBB_KERNEL(dropout_range, DropoutArguments)

template <typename T>
void run(const at::Tensor& x, at::Tensor& y, uint32_t dropped, uint64_t seed) {
  const T scale = static_cast<T>(kLevels / (kLevels - dropped));
  const T* from = x.const_data_ptr<T>();
  T* to = y.mutable_data_ptr<T>();
  const int64_t size = x.numel();
  in_parallel(0, (size + kBlock - 1) / kBlock, kGrain, [&](int64_t begin, int64_t end) {
    dropout_range<T>(
        {from, to, begin * kBlock, std::min(end * kBlock, size), seed, dropped, scale});
  });
}

at::Tensor dropout(const at::Tensor& x, double p, int64_t seed) {
  TORCH_CHECK(p >= 0 && p <= 1, "p must lie in [0, 1]; got ", p);
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble,
              "x must be float32 or float64; got ", x.scalar_type());
  const auto dropped = static_cast<uint32_t>(std::lround(p * kLevels));
  const at::Tensor source = x.contiguous();
  at::Tensor y = at::empty_like(source);
  if (dropped == static_cast<uint32_t>(kLevels)) return y.zero_();
  const auto bits = static_cast<uint64_t>(seed);
  x.scalar_type() == at::kFloat ? run<float>(source, y, dropped, bits)
                                : run<double>(source, y, dropped, bits);
  return y;
}

}  // namespace
}  // namespace softhebb

TORCH_LIBRARY_IMPL(softhebb_fast, CPU, m) { m.impl("dropout", softhebb::dropout); }
