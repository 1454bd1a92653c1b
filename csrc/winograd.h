// Convolutions with 3x3 taps and a stride of 1 by Winograd's F(2x2, 3x3): 16 multiplications for 4
// outputs instead of 36, in u and, by the adjoint transforms, in the sums of y x_p as well.
#pragma once

#include <functional>
#include <vector>

#include "geometry.h"
#include "gemm.h"
#include "winograd_kernels.h"
#include "workspace.h"

namespace softhebb {

template <typename in_t, typename T>
class Winograd {
 public:
  // For panels of at most `images` images; weight [K, patch].
  Winograd(const Geometry& g, const in_t* x, View<const T> weight, int64_t images, bool learns,
           const at::TensorOptions& options);

  // Makes these images the panel.
  void read(int64_t image, int64_t images);
  // u [K, positions of the panel]; false if any of it is not finite, and then others may be wrong.
  bool multiply(View<T> u) const;
  // yx = the sum of y x_p over the panel, or that added to it; calls done(k) for every neuron.
  void sum(View<const T> y, View<T> yx, bool add, const std::function<void(int64_t)>& done) const;

 private:
  void find_runs();
  void clear_last_columns(int64_t channel, int64_t channels) const;
  int64_t tiles_an_image() const { return down_ * across_; }
  TileRuns runs(int64_t tile, int64_t count) const;
  at::Tensor scratch(Slot slot, int64_t line) const;

  const Geometry& g_;
  const in_t* x_;
  const View<const T> weight_;
  const at::TensorOptions options_;
  const int64_t down_, across_, channels_;  // tiles of an image; channels in whole vectors
  int64_t images_ = 0, tiles_ = 0;          // of the panel; its tiles in whole vectors
  at::Tensor by_channel_, by_tile_;  // transformed inputs [kPoints, channels, tiles] and transposed
  std::vector<TileRun> runs_;
  std::vector<int32_t> first_run_;
};

}  // namespace softhebb
