#include "tile_epilogue.h"

#include <algorithm>
#include <vector>

#include "kernels.h"
#include "outputs.h"
#include "patches.h"
#include "profile.h"

namespace softhebb {

template <typename in_t, typename T>
void TileEpilogue<in_t, T>::run(View<T> u, View<T> y, View<T> bare, int64_t position,
                                int64_t count, View<T> mean, T* sums) const {
  const Timed timed(Part::competition);
  const int64_t groups = mean.data ? wanted_.epilogue->groups : 1;
  for (int64_t j = 0; j < count; j += kStrip) {
    const int64_t n = std::min(kStrip, count - j);
    prepare_strip<T>({u.at(0, j), u.line, g_.filters, n, bias_, c_.pre_triangle,
                      mean.data ? mean.at(0, j) : nullptr, groups, mean.line});
  }
  if (wanted_.update && rule_.settles()) settle(u, bare, count);
  if (pool_images_) pool(u, mean, position / g_.plane(), count / g_.plane(), 0, g_.filters);
  for (int64_t j = 0; j < count; j += kStrip) {
    const int64_t n = std::min(kStrip, count - j);
    const View<T> strip = u.block(0, j);
    if (wanted_.u.defined()) write_u<in_t, T>(wanted_.u, position + j, strip, n);
    if (!wanted_.update) continue;
    const Update& update = *wanted_.update;
    if (update.sum_uu.defined()) {
      sum_strip<T>({strip.data, strip.data, u.line, u.line, g_.filters, n, nullptr,
                    sums + 2 * g_.filters});
    }
    act(strip, y.block(0, j), bare.block(0, j), position + j, n);
    if (sums) {
      const View<T> factor = rule_.gain == Gain::square ? bare.block(0, j) : strip;
      sum_strip<T>({y.at(0, j), factor.data, y.line, factor.line, g_.filters, n,
                    update.sum_y.defined() ? sums : nullptr,
                    update.sum_yu.defined() ? sums + g_.filters : nullptr});
    }
  }
}

template <typename in_t, typename T>
void TileEpilogue<in_t, T>::act(View<const T> u, View<T> y, View<T> bare, int64_t position,
                                int64_t count) const {
  const auto map = [&](View<const T> from, View<T> to, const at::Tensor& by, int64_t first) {
    return MapStrip<T>{from.data, to.data, from.line, to.line, g_.filters, count,
                       by.const_data_ptr<T>() + first};
  };
  View<const T> found = bare;
  switch (rule_.activity) {
    case Activity::competition: {
      View<const T> scores = u;
      for (const at::Tensor* by : {&rule_.half_squares, &rule_.threshold}) {
        if (!by->defined()) continue;
        offset_strip<T>(map(scores, bare, *by, 0));
        scores = bare;
      }
      compete(c_, scores, bare, position, count);
      break;
    }
    case Activity::linear:
      found = u;
      break;
    case Activity::threshold:
      threshold_strip<T>(map(u, bare, rule_.threshold, 0));
      break;
    case Activity::lateral:
    case Activity::rectified_lateral:
      break;
    case Activity::error:
      compete(c_.softmax(), u, bare, position, count);
      [[fallthrough]];
    case Activity::target:
      aim(bare, position, count);
  }
  if (rule_.modulator.defined()) scale_strip<T>(map(found, y, rule_.modulator, position));
}

// As settle() of softhebb_fast/reference. Products want more positions than a strip has.
template <typename in_t, typename T>
void TileEpilogue<in_t, T>::settle(View<const T> u, View<T> y, int64_t count) const {
  constexpr int64_t kMost = 256;
  const int64_t share = g_.group_filters();
  for (int64_t k = 0; k < g_.filters; k += share) {
    const View<const T> lateral{rule_.lateral.const_data_ptr<T>() + k * share, share, 1};
    for (int64_t j = 0; j < count; j += kMost) {
      const View<const T> from = u.block(k, j);
      const View<T> own = y.block(k, j);
      const int64_t n = std::min(kMost, count - j);
      if (rule_.activity == Activity::rectified_lateral) {
        settle_rectified(lateral, static_cast<T>(rule_.pace[k / share]), from, own, n);
      } else if (!rule_.systems.empty()) {
        rule_.systems[k / share].solve<T>(own, from, n);
      } else {
        multiply_in_cache(own, lateral, from, share, n, share);
      }
    }
  }
}

template <typename in_t, typename T>
void TileEpilogue<in_t, T>::settle_rectified(View<const T> lateral, T pace, View<const T> u,
                                             View<T> y, int64_t count) const {
  constexpr int kSteps = 10;
  const int64_t share = g_.group_filters(), line = padded_line(count);
  std::vector<T> both(share * line);
  const View<T> taken{both.data(), line, 1};
  for (int64_t i = 0; i < share; ++i) std::fill_n(y.at(i, 0), count, T(0));
  for (int step = 0; step < kSteps; ++step) {
    if (step > 0) multiply_in_cache(taken, lateral, View<const T>(y), share, count, share);
    settle_strip<T>({u.data, taken.data, y.data, u.line, taken.line, y.line, share, count, pace});
  }
}

// The positions of a strip may lie in several images.
template <typename in_t, typename T>
void TileEpilogue<in_t, T>::aim(View<T> y, int64_t position, int64_t count) const {
  const at::Tensor& target = rule_.target;
  const bool linear = g_.plane() == 1;
  const int64_t step = target.stride(linear ? 0 : 2);
  for (int64_t done = 0; done < count;) {
    const int64_t image = linear ? 0 : (position + done) / g_.plane();
    const int64_t offset = position + done - image * g_.plane();
    const int64_t run = linear ? count : std::min(count - done, g_.plane() - offset);
    target_strip<T>({target.const_data_ptr<T>() + image * target.stride(0) + offset * step,
                     target.stride(1), step, y.at(0, done), y.line, g_.filters, run,
                     rule_.activity == Activity::error});
    done += run;
  }
}

template <typename in_t, typename T>
void TileEpilogue<in_t, T>::compete(const Competition& c, View<const T> u, View<T> y,
                                    int64_t position, int64_t count) const {
  T largest[kStrip];
  int32_t winner[kStrip];
  const int64_t share = g_.group_filters();
  for (int64_t k = 0; k < g_.filters; k += share) {
    const FindWinners<T> found{u.at(k, 0), u.line, share, count, largest, winner};
    find_winners<T>(found);
    if (c.spread) share_ties<T>(found, position);
    if (c.soft) {
      soft_strip<T>({u.at(k, 0), y.at(k, 0), u.line, y.line, share, count, c, largest, winner});
    } else {
      hard_strip<T>({u.at(k, 0), y.at(k, 0), u.line, y.line, share, count, c, winner});
    }
  }
}

template <typename in_t, typename T>
void TileEpilogue<in_t, T>::pool(View<const T> u, View<const T> mean, int64_t image,
                                 int64_t images, int64_t begin, int64_t end) const {
  const Timed timed(Part::pooling);
  const Epilogue& e = *wanted_.epilogue;
  const int64_t share = g_.filters / e.groups;
  for (int64_t i = 0; i < images; ++i) {
    const int64_t at = i * g_.plane();
    for (int64_t first = begin, last; first < end; first = last) {
      const int64_t group = first / share;
      last = std::min(end, (group + 1) * share);
      write_pooled<in_t, T>(wanted_.pooled, e, image + i, u.block(0, at),
                            mean.data ? mean.at(group, at) : nullptr, g_.out_height, g_.out_width,
                            first, last);
    }
  }
}

template class TileEpilogue<float, float>;
template class TileEpilogue<double, double>;
template class TileEpilogue<at::Half, float>;
template class TileEpilogue<at::BFloat16, float>;

}  // namespace softhebb
