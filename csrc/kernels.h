// The vectorised loops. Tiles are row-major, one neuron a line, `line` elements apart; a strip is
// at most kStrip positions of a tile. T is float or double.
#pragma once

#include <cstdint>

#include "competition.h"

namespace softhebb {

constexpr int64_t kStrip = 64;

// u += bias, u = relu(u - mean over all neurons), and the means of groups, each if asked.
template <typename T>
struct PrepareStrip {
  T* u;
  int64_t line, neurons, positions;
  const T* bias;  // [neurons] or null
  bool rectify;   // replace u by relu(u - mean)
  T* mean;        // [groups, positions] or null: the means of what u is in the end
  int64_t groups, mean_line;
};
template <typename T>
void prepare_strip(const PrepareStrip<T>& a);

// Of u to y, which may be u: y = u - by[k], y = u (u - by[k]), y = by[j] u.
template <typename T>
struct MapStrip {
  const T* u;
  T* y;
  int64_t line, y_line, neurons, positions;
  const T* by;
};
template <typename T>
void offset_strip(const MapStrip<T>& a);
template <typename T>
void threshold_strip(const MapStrip<T>& a);
template <typename T>
void scale_strip(const MapStrip<T>& a);

// y = relu(y + pace (u - both)), of any number of positions.
template <typename T>
struct SettleStrip {
  const T* u;
  const T* both;
  T* y;
  int64_t line, both_line, y_line, neurons, positions;
  T pace;
};
template <typename T>
void settle_strip(const SettleStrip<T>& a);

// y = target, or y = target - y. One number stands for all positions of a neuron if their stride is 0.
template <typename T>
struct TargetStrip {
  const T* target;
  int64_t neuron, position;  // strides of the target
  T* y;
  int64_t line, neurons, positions;
  bool subtract;
};
template <typename T>
void target_strip(const TargetStrip<T>& a);

// NaN is added to `spoilt` if some y is not finite, else 0.
template <typename T>
struct FiniteStrip {
  const T* y;
  int64_t line, neurons, positions;
  T* spoilt;
};
template <typename T>
void finite_strip(const FiniteStrip<T>& a);

// The winner of every position: the first largest u, or the first NaN.
template <typename T>
struct FindWinners {
  const T* u;
  int64_t line, neurons, positions;
  T* largest;       // [positions]
  int32_t* winner;  // [positions]
};
template <typename T>
void find_winners(const FindWinners<T>& a);

// Among n neurons with the largest u (or with NaN) lets the (hash mod n)-th win; `first` is the
// index of the strip's first position in the batch.
template <typename T>
void share_ties(const FindWinners<T>& a, int64_t first);

// The neuron of a rank at every position: the winner has rank 1, the others follow by u, NaN first,
// and equal ones by index.
template <typename T>
struct FindRanked {
  const T* u;
  int64_t line, neurons, positions, rank;
  const int32_t* winner;  // [positions]
  int32_t* ranked;        // [positions]
};
template <typename T>
void find_ranked(const FindRanked<T>& a);

// y = softmax(t u) over neurons, negative but for the winner if `anti`. y may be u. The largest u
// is subtracted before t multiplies: the winner's exponent is 0, whatever the magnitude of t u.
template <typename T>
struct SoftStrip {
  const T* u;
  T* y;
  int64_t line, y_line, neurons, positions;
  const Competition& competition;
  const T* largest;
  const int32_t* winner;
};
template <typename T>
void soft_strip(const SoftStrip<T>& a);

// y = 1 for the winner, less delta for the neuron of the rank, where one unlearns. With `overwrite`
// that neuron gets -delta, even if it wins.
template <typename T>
struct HardStrip {
  const T* u;
  T* y;
  int64_t line, y_line, neurons, positions;
  const Competition& competition;
  const int32_t* winner;
};
template <typename T>
void hard_strip(const HardStrip<T>& a);

// sum_y[k] += sum y[k], sum_yu[k] += sum y[k] u[k], each if not null.
template <typename T>
struct SumStrip {
  const T* y;
  const T* u;
  int64_t y_line, line, neurons, positions;
  T* sum_y;
  T* sum_yu;
};
template <typename T>
void sum_strip(const SumStrip<T>& a);

// For one neuron: <wt, yx> and sum w^2.
template <typename T>
struct DotRow {
  const T* w;
  const T* wt;
  const T* yx;
  int64_t size;
  T* dot;
  T* square;
};
template <typename T>
void dot_row(const DotRow<T>& a);

// max |yx - yu w|, NaN if there is one; without yu w if not `loses`.
template <typename T>
struct LargestRow {
  const T* w;
  const T* yx;
  int64_t size;
  T yu;
  bool loses;
  T* largest;
};
template <typename T>
void largest_row(const LargestRow<T>& a);

// out = offset * w + rate * ((yx - yu w) / largest): offset 0 gives delta, 1 the step. Without yu w
// if not `loses`.
template <typename T>
struct DeltaRow {
  const T* w;
  const T* yx;
  T* out;  // may be w
  int64_t size;
  T yu, largest, rate;
  bool loses, step;
};
template <typename T>
void delta_row(const DeltaRow<T>& a);

// w /= by.
template <typename T>
struct DivideRow {
  T* w;
  int64_t size;
  T by;
};
template <typename T>
void divide_row(const DivideRow<T>& a);

// Pools relu(u - mean)^power of one map [height, width], mean a map too or null.
template <typename T>
struct PoolMap {
  const T* u;
  const T* mean;
  T* out;      // [out_height, out_width]
  T* scratch;  // pool_scratch() elements
  int64_t height, width, out_height, out_width;
  int64_t kernel[2], stride[2], padding[2];
  T power;
  bool largest;  // else the average, padding counted
};
template <typename T>
void pool_map(const PoolMap<T>& a);

constexpr int64_t kWide = 16;
inline int64_t pool_row(int64_t width, int64_t padding, int64_t kernel) {
  return (width + 2 * padding + kernel) / kWide * kWide + 2 * kWide;
}
inline int64_t pool_scratch(int64_t height, int64_t width, int64_t out_height, int64_t padding,
                            int64_t kernel) {
  return height * width + kWide + out_height * pool_row(width, padding, kernel);
}

}  // namespace softhebb
