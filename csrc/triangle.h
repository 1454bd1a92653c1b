// Correlations C[k, j] of neurons of a group, the sum of A[k] u[j] over positions, j up to k; and
// the gain of Sanger's rule: of yx neuron k loses the sum of C[k, j] W_j.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/neg.h>

#include <algorithm>
#include <vector>

#include "gemm.h"
#include "geometry.h"
#include "parallel.h"

namespace softhebb {

template <typename T>
class Triangle {
 public:
  // Rows of C; what lies above the diagonal inside a block is computed in vain.
  struct Block {
    int64_t group, begin, end;  // neurons, the first of the group and those of the block
    int64_t rows() const { return end - begin; }
    int64_t columns() const { return end - group; }
  };

  // weight [K, patch] is what the neurons lose.
  Triangle(const Geometry& g, const at::Tensor& weight)
      : patch_(g.patch()), share_(g.group_filters()), weight_(weight) {
    for (int64_t row = (share_ - 1) / kRows * kRows; row >= 0; row -= kRows) {
      for (int64_t k = 0; k < g.filters; k += share_) {
        blocks_.push_back({k, k + row, k + std::min(row + kRows, share_)});
      }
    }
  }

  // The longest rows first.
  const std::vector<Block>& blocks() const { return blocks_; }

  // Rows of c [K, share] from a and u [K, positions].
  template <typename Multiply>
  void correlate(const Block& b, View<T> c, View<const T> a, View<const T> u, int64_t positions,
                 bool add, const Multiply& multiply) const {
    multiply(c.block(b.begin, 0), a.block(b.begin, 0), u.block(b.group, 0).transposed(), b.rows(),
             b.columns(), positions, add);
  }

  // What lies above the diagonals, of a complete C that is symmetric.
  void mirror(View<T> c) const {
    for_each_task(blocks_.size(), [&](int64_t task, int64_t) {
      const Block& b = blocks_[task];
      for (int64_t k = b.begin; k < b.end; ++k) {
        for (int64_t j = b.group; j < k; ++j) *c.at(j, k - b.group) = *c.at(k, j - b.group);
      }
    });
  }

  // yx -= C W, of a complete C, which is lost.
  void subtract(View<T> c, View<T> yx) const {
    const int64_t blocks = blocks_.size(), slices = slices_of_patch();
    for_each_task(blocks, [&](int64_t task, int64_t) {
      const Block& b = blocks_[task];
      clear_above(c.block(b.begin, b.begin - b.group), b.rows());
      negate(c.block(b.begin, 0), b.rows(), b.columns());
    });
    for_each_task(blocks * slices, [&](int64_t task, int64_t) {
      const Block& b = blocks_[task % blocks];
      const int64_t slice = task / blocks;  // of W, which stays in cache for its blocks
      const int64_t begin = slice * patch_ / slices, end = (slice + 1) * patch_ / slices;
      multiply_in_cache(yx.block(b.begin, begin), View<const T>(c.block(b.begin, 0)),
                        weight().block(b.group, begin), b.rows(), end - begin, b.columns(), true);
    });
  }

  // yx (+)= A x^T - C W of the positions of a panel, where C as a whole would cost more: block by
  // block from what the blocks before leave of x. x [groups * patch, positions] lies transposed.
  template <typename Multiply>
  void reduce(View<T> yx, View<const T> a, View<const T> u, View<const T> x, int64_t positions,
              bool add, const Multiply& multiply) const {
    const int64_t blocks = blocks_.size(), slices = slices_of_patch();
    const int64_t groups = weight_.size(0) / share_;
    const at::Tensor squares = at::empty({weight_.size(0), kRows}, weight_.options());
    const View<T> c{squares.data_ptr<T>(), kRows, 1};
    const at::Tensor turned = at::empty({positions, weight_.size(0)}, weight_.options());
    const View<T> less_u{turned.data_ptr<T>(), turned.stride(0), 1};
    for_each_task(blocks, [&](int64_t task, int64_t) {
      const Block& b = blocks_[task];
      multiply(c.block(b.begin, 0), a.block(b.begin, 0), u.block(b.begin, 0).transposed(),
               b.rows(), b.rows(), positions, false);
      clear_above(c.block(b.begin, 0), b.rows());
      negate(c.block(b.begin, 0), b.rows(), b.rows());
      at::Tensor part = as_tensor(less_u.block(0, b.begin), positions, b.rows());
      at::neg_out(part, as_tensor(u.block(b.begin, 0).transposed(), positions, b.rows()));
    });
    for_each_task(groups * slices, [&](int64_t task, int64_t) {
      const int64_t group = task / slices, slice = task % slices;
      const int64_t begin = slice * patch_ / slices, size = (slice + 1) * patch_ / slices - begin;
      at::Tensor rest = at::empty({positions, size}, weight_.options());
      const View<T> left{rest.data_ptr<T>(), size, 1};
      rest.copy_(as_tensor(x.block(0, group * patch_ + begin), positions, size));
      for (int64_t k = group * share_, end; k < (group + 1) * share_; k = end) {
        end = std::min(k + kRows, (group + 1) * share_);
        const View<const T> w = weight().block(k, begin);
        multiply(yx.block(k, begin), a.block(k, 0), left, end - k, size, positions, add);
        multiply_in_cache(yx.block(k, begin), View<const T>(c.block(k, 0)), w, end - k, size,
                          end - k, true);
        if (end < (group + 1) * share_) {
          multiply_in_cache(left, View<const T>(less_u.block(0, k)), w, positions, size, end - k,
                            true);
        }
      }
    });
  }

 private:
  static constexpr int64_t kRows = 64, kSlice = 256;

  int64_t slices_of_patch() const { return (patch_ + kSlice - 1) / kSlice; }

  View<const T> weight() const { return {weight_.const_data_ptr<T>(), patch_, 1}; }

  // What lies above the diagonal of a square.
  static void clear_above(View<T> c, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i) std::fill(c.at(i, i + 1), c.at(i, rows), T(0));
  }

  static void negate(View<T> c, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; ++i) {
      T* row = c.at(i, 0);
      for (int64_t j = 0; j < columns; ++j) row[j] = -row[j];
    }
  }

  const int64_t patch_, share_;
  const at::Tensor weight_;
  std::vector<Block> blocks_;
};

}  // namespace softhebb
