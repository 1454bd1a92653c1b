#include "gemm.h"

#include <ATen/native/CPUBlas.h>

#include <algorithm>

namespace softhebb {
namespace {

#ifdef CPUBLAS_BRGEMM_F32F32F32

void micro_kernel(View<float> c, View<const float> a, View<const float> b, int64_t m, int64_t n,
                  int64_t k, bool add) {
  at::native::cpublas::brgemm(m, n, k, a.line, b.line, c.line, add, a.data, b.data, c.data, false);
}

// There is no query for it: a first small product tells.
bool has_micro_kernels() {
  static const bool found = [] {
    float c = 0;
    const float one = 1;
    try {
      micro_kernel({&c, 1, 1}, {&one, 1, 1}, {&one, 1, 1}, 1, 1, 1, false);
    } catch (const c10::Error&) {
      return false;
    }
    return c == 1;
  }();
  return found;
}

#else

void micro_kernel(View<float>, View<const float>, View<const float>, int64_t, int64_t, int64_t,
                  bool) {}
bool has_micro_kernels() { return false; }

#endif

// The length of the parts of `size` that are equal but for the last, each at most `most`.
int64_t part_of(int64_t size, int64_t most) {
  const int64_t parts = (size + most - 1) / most;
  return (size + parts - 1) / parts;
}

}  // namespace

void multiply_in_cache(View<float> c, View<const float> a, View<const float> b, int64_t m,
                       int64_t n, int64_t k, bool add) {
  if (b.step != 1 || !has_micro_kernels()) return multiply<float>(c, a, b, m, n, k, add);
  const int64_t rows = part_of(m, 384), columns = part_of(n, 256);
  const int64_t depth = part_of(k, (int64_t{1} << 17) / columns);  // half a MiB of b
  for (int64_t j = 0; j < n; j += columns) {
    for (int64_t p = 0; p < k; p += depth) {
      for (int64_t i = 0; i < m; i += rows) {
        micro_kernel(c.block(i, j), a.block(i, p), b.block(p, j), std::min(rows, m - i),
                     std::min(columns, n - j), std::min(depth, k - p), add || p > 0);
      }
    }
  }
}

void multiply_in_cache(View<double> c, View<const double> a, View<const double> b, int64_t m,
                       int64_t n, int64_t k, bool add) {
  multiply<double>(c, a, b, m, n, k, add);
}

}  // namespace softhebb
