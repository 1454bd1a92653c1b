// The patches of tiles: unfolded into a buffer, or x itself where products can read it.
#pragma once

#include <ATen/core/Tensor.h>

#include <type_traits>

#include "gemm.h"
#include "geometry.h"
#include "profile.h"

namespace softhebb {

// Output rows [row, row + rows) of the batch, and their first position in the panel.
struct Tile {
  int64_t row, rows, positions, first;
};

// Whole cache lines, so that every worker's buffer is aligned alike: BLAS chooses by alignment in
// which order it sums. Not a multiple of 256 elements, which would share the sets of a cache.
inline int64_t padded_line(int64_t line) {
  const int64_t whole = (line + 15) / 16 * 16;
  return whole % 256 == 0 ? whole + 16 : whole;
}

template <typename in_t, typename T>
class Patches {
 public:
  // With `by_worker` every worker has a buffer of one tile, else a panel has one.
  Patches(const Geometry& g, const in_t* x, bool by_worker)
      : g_(g), x_(x), by_worker_(by_worker) {}

  bool wants_buffer() const { return !lies_ready(0) && !buffer_.defined(); }
  void set_buffer(at::Tensor buffer) { buffer_ = std::move(buffer); }

  void unfold(const Tile& t, int64_t worker) const {
    if (lies_ready(0)) return;
    const Timed timed(Part::im2col);
    const View<T> to = in_buffer(t, worker);
    im2col(x_, g_, t.row, t.rows, to.data, to.line);
  }

  // [patch elements, positions], rows of it contiguous.
  View<const T> of(const Tile& t, int64_t worker) const {
    if constexpr (std::is_same_v<in_t, T>) {
      if (lies_ready(0)) return {x_ + t.row, g_.x_stride[1], 1};
    }
    return in_buffer(t, worker);
  }

  // [positions, patch elements], rows of it contiguous if that costs nothing.
  View<const T> transposed(const Tile& t, int64_t worker) const {
    if constexpr (std::is_same_v<in_t, T>) {
      if (lies_ready(1)) return {x_ + t.row * g_.x_stride[0], g_.x_stride[0], 1};
    }
    return of(t, worker).transposed();
  }

 private:
  // Whether products can read x of a linear layer where it lies, elements of a neuron's input (1)
  // or of the batch (0) next to each other.
  bool lies_ready(int dimension) const {
    const int64_t line = g_.x_stride[1 - dimension], size = dimension ? g_.channels : g_.batch;
    return std::is_same_v<in_t, T> && g_.is_linear() && g_.x_stride[dimension] == 1 && line >= size;
  }

  View<T> in_buffer(const Tile& t, int64_t worker) const {
    return by_worker_ ? slice<T>(buffer_, worker) : slice<T>(buffer_, 0).block(0, t.first);
  }

  const Geometry& g_;
  const in_t* x_;
  const bool by_worker_;
  at::Tensor buffer_;
};

}  // namespace softhebb
