#include "pool.h"

#include <algorithm>
#include <limits>

#include "kernels.h"

namespace softhebb {

// Powers rise, so the largest of a window is found before its power is taken: fewer powers.
template <typename T>
void MapPool<T>::operator()(const T* u, const T* mean, T* out) {
  const T power = static_cast<T>(e_.power), first = e_.largest ? T(1) : power;
  activate_row<T>({u, mean, map_.data(), height_ * width_, first});
  const T start = e_.largest ? -std::numeric_limits<T>::infinity() : T(0);
  for (int64_t oy = 0; oy < out_height_; ++oy) {
    const int64_t top = oy * e_.stride[0] - e_.padding[0];
    const int64_t begin = std::max<int64_t>(top, 0), end = std::min(top + e_.kernel[0], height_);
    std::fill(row_.begin(), row_.end(), start);
    for (int64_t y = begin; y < end; ++y) {
      fold_row<T>({map_.data() + y * width_, row_.data(), width_, 1, e_.largest});
    }
    T* line = out + oy * out_width_;
    std::fill_n(line, out_width_, start);
    for (int64_t tap = 0; tap < e_.kernel[1]; ++tap) {
      const int64_t left = tap - e_.padding[1], step = e_.stride[1];
      const int64_t from = left >= 0 ? 0 : (-left + step - 1) / step;
      const int64_t to = std::min(out_width_, (width_ - left + step - 1) / step);
      if (from < to) {
        fold_row<T>({row_.data() + from * step + left, line + from, to - from, step, e_.largest});
      }
    }
  }
  const int64_t size = out_height_ * out_width_;
  if (!e_.largest) {
    const T area = static_cast<T>(e_.kernel[0] * e_.kernel[1]);
    for (int64_t i = 0; i < size; ++i) out[i] /= area;
  } else if (power != T(1)) {
    activate_row<T>({out, nullptr, out, size, power});
  }
}

template class MapPool<float>;
template class MapPool<double>;

}  // namespace softhebb
