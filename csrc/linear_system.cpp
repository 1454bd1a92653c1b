#include "linear_system.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "multiversion.h"
#include "parallel.h"

namespace softhebb {
namespace {

constexpr int64_t kSlice = 256;          // columns of a task, or solved together
constexpr int64_t kLine = kSlice + 16;  // lines that do not share the sets of a cache

// Gaussian elimination with partial pivoting in some columns of a matrix, its rows `line` apart.
// Row i has changed places with row swaps[i] below it.
template <typename T>
struct Eliminate {
  T* rows;
  int64_t line, count, columns;
  int64_t* swaps;  // [columns]
};

template <typename T>
SOFTHEBB_INLINE void eliminate_body(const Eliminate<T>& a) {
  for (int64_t s = 0; s < a.columns; ++s) {
    int64_t pivot = s;
    T largest = 0;
    for (int64_t i = s; i < a.count; ++i) {
      const T v = a.rows[i * a.line + s], magnitude = v < T(0) ? -v : v;
      if (magnitude > largest) largest = magnitude, pivot = i;
    }
    a.swaps[s] = pivot;
    T* own = a.rows + s * a.line;
    if (pivot != s) std::swap_ranges(own, own + a.columns, a.rows + pivot * a.line);
    const T inverse = T(1) / own[s];
    for (int64_t i = s + 1; i < a.count; ++i) {
      T* row = a.rows + i * a.line;
      const T factor = row[s] *= inverse;
#pragma omp simd
      for (int64_t j = s + 1; j < a.columns; ++j) row[j] -= factor * own[j];
    }
  }
}

SOFTHEBB_KERNEL(eliminate, Eliminate)

// The inverses of the unit lower and of the upper triangle of a block, rows of zeros before.
template <typename T>
void invert_triangles(View<const T> block, int64_t size, View<T> lower, View<T> upper) {
  for (int64_t i = 0; i < size; ++i) {
    T* to = lower.at(i, 0);
    to[i] = T(1);
    for (int64_t j = 0; j < i; ++j) {
      const T factor = *block.at(i, j), *from = lower.at(j, 0);
      for (int64_t c = 0; c <= j; ++c) to[c] -= factor * from[c];
    }
  }
  for (int64_t i = size - 1; i >= 0; --i) {
    T* to = upper.at(i, 0);
    to[i] = T(1);
    for (int64_t j = i + 1; j < size; ++j) {
      const T factor = *block.at(i, j), *from = upper.at(j, 0);
      for (int64_t c = j; c < size; ++c) to[c] -= factor * from[c];
    }
    const T inverse = T(1) / *block.at(i, i);
    for (int64_t c = i; c < size; ++c) to[c] *= inverse;
  }
}

template <typename T>
View<T> rows_of(const at::Tensor& t) {
  return {t.data_ptr<T>(), t.stride(0), 1};
}

}  // namespace

LinearSystem::LinearSystem(at::Tensor both)
    : size_(both.size(0)), factors_(std::move(both)), order_(size_) {
  std::iota(order_.begin(), order_.end(), 0);
  AT_DISPATCH_FLOATING_TYPES(factors_.scalar_type(), "factorise", [&] { factorise<scalar_t>(); });
}

template <typename T>
void LinearSystem::factorise() {
  lower_ = at::zeros({size_, kBlock}, factors_.options());
  upper_ = at::zeros({size_, kBlock}, factors_.options());
  const at::Tensor panel = at::empty({size_, kBlock}, factors_.options());
  for (int64_t begin = 0; begin < size_; begin += kBlock) {
    for_each_task(1, [&](int64_t, int64_t) { eliminate_block<T>(begin, rows_of<T>(panel)); });
    update_right<T>(begin, rows_of<T>(panel));
  }
}

// The columns of a block from its rows on, in `panel`; what lies below the block becomes negative.
template <typename T>
void LinearSystem::eliminate_block(int64_t begin, View<T> panel) {
  const int64_t size = std::min(kBlock, size_ - begin), rows = size_ - begin;
  const View<T> all = rows_of<T>(factors_);
  for (int64_t i = 0; i < rows; ++i) std::copy_n(all.at(begin + i, begin), size, panel.at(i, 0));
  int64_t swaps[kBlock];
  eliminate<T>({panel.data, panel.line, rows, size, swaps});
  for (int64_t i = 0; i < size; ++i) {
    if (swaps[i] == i) continue;
    T* row = all.at(begin + i, 0);
    std::swap_ranges(row, row + size_, all.at(begin + swaps[i], 0));
    std::swap(order_[begin + i], order_[begin + swaps[i]]);
  }
  invert_triangles<T>(panel, size, rows_of<T>(lower_).block(begin, 0),
                      rows_of<T>(upper_).block(begin, 0));
  for (int64_t i = size; i < rows; ++i) {
    T* row = panel.at(i, 0);
    for (int64_t j = 0; j < size; ++j) row[j] = -row[j];
    std::copy_n(row, size, all.at(begin + i, begin));
  }
}

template <typename T>
void LinearSystem::update_right(int64_t begin, View<T> panel) {
  const int64_t size = std::min(kBlock, size_ - begin), end = begin + size, rest = size_ - end;
  const View<T> all = rows_of<T>(factors_);
  for_each_task((rest + kSlice - 1) / kSlice, [&](int64_t task, int64_t) {
    const int64_t column = end + task * kSlice, width = std::min(kSlice, size_ - column);
    T found[kBlock * kLine];
    const View<T> beside{found, kLine, 1}, own = all.block(begin, column);
    multiply_in_cache(beside, rows_of<T>(lower_).block(begin, 0), View<const T>(own), size, width,
                      size);
    multiply_in_cache(all.block(end, column), panel.block(size, 0), View<const T>(beside), rest,
                      width, size, true);
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t j = 0; j < width; ++j) *own.at(i, j) = -*beside.at(i, j);
    }
  });
}

template <typename T>
void LinearSystem::solve(View<T> y, View<const T> u, int64_t columns) const {
  const View<const T> all = rows_of<T>(factors_);
  T held[kBlock * kLine];
  const View<T> own{held, kLine, 1};
  for (int64_t column = 0; column < columns; column += kSlice) {
    const int64_t width = std::min(kSlice, columns - column);
    const View<T> to = y.block(0, column);
    const auto multiply_block = [&](const at::Tensor& inverses, int64_t begin, int64_t size) {
      for (int64_t i = 0; i < size; ++i) std::copy_n(to.at(begin + i, 0), width, own.at(i, 0));
      multiply_in_cache(to.block(begin, 0), View<const T>(rows_of<T>(inverses).block(begin, 0)),
                        View<const T>(own), size, width, size);
    };
    for (int64_t i = 0; i < size_; ++i) std::copy_n(u.at(order_[i], column), width, to.at(i, 0));
    for (int64_t begin = 0; begin < size_; begin += kBlock) {
      const int64_t size = std::min(kBlock, size_ - begin);
      if (begin > 0) {
        multiply_in_cache(to.block(begin, 0), all.block(begin, 0), View<const T>(to), size, width,
                          begin, true);
      }
      multiply_block(lower_, begin, size);
    }
    for (int64_t begin = (size_ - 1) / kBlock * kBlock; begin >= 0; begin -= kBlock) {
      const int64_t size = std::min(kBlock, size_ - begin), end = begin + size;
      if (end < size_) {
        multiply_in_cache(to.block(begin, 0), all.block(begin, end),
                          View<const T>(to.block(end, 0)), size, width, size_ - end, true);
      }
      multiply_block(upper_, begin, size);
    }
  }
}

template void LinearSystem::solve(View<float>, View<const float>, int64_t) const;
template void LinearSystem::solve(View<double>, View<const double>, int64_t) const;

}  // namespace softhebb
