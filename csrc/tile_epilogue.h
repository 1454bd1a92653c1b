// What becomes of u once it is computed: bias and rectification, outputs, and y where the layer
// learns.
#pragma once

#include "layer.h"
#include "gemm.h"

namespace softhebb {

template <typename in_t, typename T>
class TileEpilogue {
 public:
  TileEpilogue(const Geometry& g, const Competition& c, const Rule& rule, const Wanted& wanted,
               const T* bias, bool pool_whole_images)
      : g_(g), c_(c), rule_(rule), wanted_(wanted), bias_(bias), pool_images_(pool_whole_images) {}

  // For `count` positions, the first of them numbered over the batch: u, A (y) and A before the
  // modulator (bare) [K, count], each of which may be any other that is not asked for after it;
  // mean [groups of the pooling, count] is written, sums of the Update are added to, each if not
  // null.
  void run(View<T> u, View<T> y, View<T> bare, int64_t position, int64_t count, View<T> mean,
           T* sums) const;

  // Pools neurons [begin, end) of whole images, less the mean of their group if it is not null.
  void pool(View<const T> u, View<const T> mean, int64_t image, int64_t images, int64_t begin,
            int64_t end) const;

 private:
  void act(View<const T> u, View<T> y, View<T> bare, int64_t position, int64_t count) const;
  void compete(const Competition& c, View<const T> u, View<T> y, int64_t position,
               int64_t count) const;
  void settle(View<const T> u, View<T> y, int64_t count) const;
  void settle_rectified(View<const T> lateral, T pace, View<const T> u, View<T> y,
                        int64_t count) const;
  void aim(View<T> y, int64_t position, int64_t count) const;

  const Geometry& g_;
  const Competition& c_;
  const Rule& rule_;
  const Wanted& wanted_;
  const T* bias_;
  const bool pool_images_;  // inside run()
};

}  // namespace softhebb
