#include "winograd.h"

#include <algorithm>
#include <atomic>

#include "profile.h"
#include "parallel.h"
#include "workspace.h"

namespace softhebb {
namespace {

constexpr int64_t kSide = 2;    // outputs of a tile
constexpr int64_t kBlock = 96;  // neurons of a task
constexpr int64_t kTiles = 256;

int64_t whole(int64_t size) { return (size + kWide - 1) / kWide * kWide; }

// kWide channels of a padded image next to each other, with zeros where there is nothing.
template <typename in_t, typename T>
void interleave(const in_t* image, const Geometry& g, int64_t channel, int64_t width, T* to) {
  const int64_t n = std::min(kWide, g.channels - channel), step = g.x_stride[1];
  const int64_t height = g.padded_row.size(), columns = g.padded_column.size();
  const in_t* from = image + channel * step;
  const auto copy = [&](int64_t begin, int64_t end) {
    for (int64_t y = 0; y < height; ++y) {
      const int32_t row = g.padded_row[y];
      for (int64_t x = 0; x < columns; ++x) {
        const int32_t column = g.padded_column[x];
        T* lanes = to + (y * width + x) * kWide;
        if (row < 0 || column < 0) continue;
        const in_t* at = from + row * g.x_stride[2] + column * g.x_stride[3];
        for (int64_t l = begin; l < end; ++l) lanes[l] = static_cast<T>(at[l * step]);
      }
    }
  };
  if (step == 1) return copy(0, n);
  for (int64_t l = 0; l < n; ++l) copy(l, l + 1);
}

}  // namespace

template <typename in_t, typename T>
Winograd<in_t, T>::Winograd(const Geometry& g, const in_t* x, View<const T> weight, int64_t images,
                            bool learns, const at::TensorOptions& options)
    : g_(g),
      x_(x),
      weight_(weight),
      options_(options),
      down_((g.out_height + kSide - 1) / kSide),
      across_((g.out_width + kSide - 1) / kSide),
      channels_(whole(g.channels)) {
  const int64_t tiles = images * tiles_an_image();
  by_channel_ = workspace(Slot::patches, {kPoints, g.channels, whole(tiles) + kWide}, options);
  if (learns) by_tile_ = workspace(Slot::tiles, {kPoints, tiles, channels_ + kWide}, options);
}

template <typename in_t, typename T>
void Winograd<in_t, T>::find_runs() {
  runs_.clear();
  first_run_.clear();
  const auto narrow = [](int64_t i) { return static_cast<int32_t>(i); };
  for (int64_t tile = 0, step; tile < images_ * tiles_an_image(); tile += step) {
    if (tile % kWide == 0) first_run_.push_back(narrow(runs_.size()));
    const int64_t image = tile / tiles_an_image(), row = tile / across_ % down_ * kSide;
    const int64_t column = tile % across_ * kSide, lane = tile % kWide;
    step = std::min(across_ - tile % across_, kWide - lane);
    runs_.push_back({narrow(lane * kSide),
                     narrow(image * g_.plane() + row * g_.out_width + column),
                     narrow(std::min(step * kSide, g_.out_width - column)),
                     narrow(std::min(kSide, g_.out_height - row))});
  }
  first_run_.push_back(narrow(runs_.size()));
}

template <typename in_t, typename T>
TileRuns Winograd<in_t, T>::runs(int64_t tile, int64_t count) const {
  return {runs_.data(), first_run_.data() + tile / kWide, whole(count) / kWide, g_.out_width};
}

template <typename in_t, typename T>
void Winograd<in_t, T>::read(int64_t image, int64_t images) {
  if (images != images_) {
    images_ = images;
    tiles_ = whole(images * tiles_an_image());
    find_runs();
  }
  const int64_t blocks = channels_ / kWide, tiles = tiles_an_image();
  const int64_t width = kSide * across_ + 2, height = kSide * down_ + 2;
  for_each_task(images * blocks, [&](int64_t task, int64_t) {
    const Timed timed(Part::im2col);
    const int64_t i = task / blocks, channel = task % blocks * kWide;
    const int64_t channels = std::min(kWide, g_.channels - channel);
    std::vector<T> padded(height * width * kWide);
    interleave(x_ + (image + i) * g_.x_stride[0], g_, channel, width, padded.data());
    T* by_tile = by_tile_.defined() ? slice<T>(by_tile_, 0).at(i * tiles, channel) : nullptr;
    transform_input<T>({padded.data(), down_, across_, channels,
                        slice<T>(by_channel_, 0).at(channel, i * tiles), by_channel_.stride(0),
                        by_channel_.stride(1), by_tile, by_tile ? by_tile_.stride(0) : 0,
                        by_tile ? by_tile_.stride(1) : 0});
    if (i == images - 1) clear_last_columns(channel, channels);
  });
}

// Products take whole vectors of tiles.
template <typename in_t, typename T>
void Winograd<in_t, T>::clear_last_columns(int64_t channel, int64_t channels) const {
  for (int64_t p = 0; p < kPoints; ++p) {
    for (int64_t c = channel; c < channel + channels; ++c) {
      T* row = slice<T>(by_channel_, p).at(c, 0);
      std::fill(row + images_ * tiles_an_image(), row + tiles_, T(0));
    }
  }
}

template <typename in_t, typename T>
at::Tensor Winograd<in_t, T>::scratch(Slot slot, int64_t line) const {
  return workspace(slot, {kPoints, std::min(kBlock, g_.filters), line + kWide}, options_);
}

template <typename in_t, typename T>
bool Winograd<in_t, T>::multiply(View<T> u) const {
  const int64_t blocks = (g_.filters + kBlock - 1) / kBlock;
  std::atomic<bool> finite{true};
  for_each_task(blocks, [&](int64_t task, int64_t) {
    const Timed timed(Part::transforms);
    const int64_t begin = task * kBlock, neurons = std::min(kBlock, g_.filters - begin);
    const at::Tensor weight = scratch(Slot::weights, channels_);
    const at::Tensor products = scratch(Slot::products, std::min(kTiles, tiles_));
    for (int64_t k = 0; k < neurons; ++k) {
      transform_weight<T>({weight_.at(begin + k, 0), g_.channels, slice<T>(weight, 0).at(k, 0),
                           weight.stride(0)});
    }
    T spoilt = 0;
    for (int64_t tile = 0; tile < tiles_; tile += kTiles) {
      const int64_t count = std::min(kTiles, tiles_ - tile);
      for (int64_t p = 0; p < kPoints; ++p) {
        const Timed timed(Part::products);
        const View<const T> w = slice<T>(weight, p), x = slice<T>(by_channel_, p).block(0, tile);
        multiply_in_cache(slice<T>(products, p), w, x, neurons, count, g_.channels);
      }
      for (int64_t k = 0; k < neurons; ++k) {
        transform_output<T>({slice<T>(products, 0).at(k, 0), products.stride(0), runs(tile, count),
                             u.at(begin + k, 0), &spoilt});
      }
    }
    if (spoilt != 0) finite = false;
  });
  return finite;
}

template <typename in_t, typename T>
void Winograd<in_t, T>::sum(View<const T> y, View<T> yx, bool add,
                            const std::function<void(int64_t)>& done) const {
  const int64_t blocks = (g_.filters + kBlock - 1) / kBlock, tiles = images_ * tiles_an_image();
  for_each_task(blocks, [&](int64_t task, int64_t) {
    const Timed timed(Part::transforms);
    const int64_t begin = task * kBlock, neurons = std::min(kBlock, g_.filters - begin);
    const at::Tensor spread = scratch(Slot::products, std::min(kTiles, tiles_));
    const at::Tensor sums = scratch(Slot::weights, channels_);
    for (int64_t tile = 0; tile < tiles; tile += kTiles) {
      const int64_t count = std::min(kTiles, tiles - tile);
      for (int64_t k = 0; k < neurons; ++k) {
        spread_output<T>({y.at(begin + k, 0), runs(tile, count), slice<T>(spread, 0).at(k, 0),
                          spread.stride(0)});
      }
      for (int64_t p = 0; p < kPoints; ++p) {
        const Timed timed(Part::products);
        const View<const T> left = slice<T>(spread, p), x = slice<T>(by_tile_, p).block(tile, 0);
        multiply_in_cache(slice<T>(sums, p), left, x, neurons, channels_, count, tile > 0);
      }
    }
    for (int64_t k = 0; k < neurons; ++k) {
      collect_weight<T>({slice<T>(sums, 0).at(k, 0), sums.stride(0), g_.channels,
                         yx.at(begin + k, 0), add});
      done(begin + k);
    }
  });
}

template class Winograd<float, float>;
template class Winograd<double, double>;
template class Winograd<at::Half, float>;
template class Winograd<at::BFloat16, float>;

}  // namespace softhebb
