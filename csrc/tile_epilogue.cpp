#include "tile_epilogue.h"

#include <algorithm>

#include "kernels.h"
#include "outputs.h"
#include "profile.h"

namespace softhebb {

template <typename in_t, typename T>
void TileEpilogue<in_t, T>::run(View<T> u, View<T> y, int64_t position, int64_t count, T* mean,
                           T* sums) const {
  const Timed timed(Part::competition);
  for (int64_t j = 0; j < count; j += kStrip) {
    const int64_t n = std::min(kStrip, count - j);
    prepare_strip<T>({u.at(0, j), u.line, g_.filters, n, bias_, c_.pre_triangle,
                      mean ? mean + j : nullptr});
  }
  if (pool_images_) pool(u, mean, position / g_.plane(), count / g_.plane(), 0, g_.filters);
  for (int64_t j = 0; j < count; j += kStrip) {
    const int64_t n = std::min(kStrip, count - j);
    const View<T> strip = u.block(0, j);
    if (wanted_.u.defined()) write_u<in_t, T>(wanted_.u, position + j, strip, n);
    if (!wanted_.update) continue;
    compete(strip, y.block(0, j), position + j, n);
    if (sums) {
      sum_strip<T>({y.at(0, j), strip.data, y.line, u.line, g_.filters, n,
                    wanted_.update->sum_y.defined() ? sums : nullptr,
                    wanted_.update->sum_yu.defined() ? sums + g_.filters : nullptr});
    }
  }
}

template <typename in_t, typename T>
void TileEpilogue<in_t, T>::compete(View<const T> u, View<T> y, int64_t position,
                               int64_t count) const {
  T largest[kStrip];
  int32_t winner[kStrip];
  const int64_t share = g_.group_filters();
  for (int64_t k = 0; k < g_.filters; k += share) {
    const FindWinners<T> found{u.at(k, 0), u.line, share, count, largest, winner};
    find_winners<T>(found);
    if (c_.spread) share_ties<T>(found, position);
    if (c_.soft) {
      soft_strip<T>({u.at(k, 0), y.at(k, 0), u.line, y.line, share, count, c_, largest, winner});
    } else {
      hard_strip<T>({u.at(k, 0), y.at(k, 0), u.line, y.line, share, count, c_, winner});
    }
  }
}

template <typename in_t, typename T>
void TileEpilogue<in_t, T>::pool(View<const T> u, const T* mean, int64_t image, int64_t images,
                            int64_t begin, int64_t end) const {
  const Timed timed(Part::pooling);
  for (int64_t i = 0; i < images; ++i) {
    const int64_t at = i * g_.plane();
    write_pooled<in_t, T>(wanted_.pooled, *wanted_.epilogue, image + i, u.block(0, at),
                          mean ? mean + at : nullptr, g_.out_height, g_.out_width, begin, end);
  }
}

template class TileEpilogue<float, float>;
template class TileEpilogue<double, double>;
template class TileEpilogue<at::Half, float>;
template class TileEpilogue<at::BFloat16, float>;

}  // namespace softhebb
