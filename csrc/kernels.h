// The vectorised loops. Tiles are row-major, one neuron a line, `line` elements apart; a strip is
// at most kStrip positions of a tile. T is float or double.
#pragma once

#include <cstdint>

namespace softhebb {

constexpr int64_t kStrip = 64;

// u += bias, u = relu(u - mean over all neurons), and that mean, each if asked.
template <typename T>
struct PrepareStrip {
  T* u;
  int64_t line, neurons, positions;
  const T* bias;        // [neurons] or null
  bool rectify;         // replace u by relu(u - mean)
  T* mean;              // [positions] or null: the mean of what u is in the end
};
template <typename T>
void prepare_strip(const PrepareStrip<T>& a);

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

// y = softmax(t u) over neurons, negative but for the winner if `anti`. y may be u.
template <typename T>
struct SoftStrip {
  const T* u;
  T* y;
  int64_t line, neurons, positions;
  T t;
  bool anti;
  const T* largest;
  const int32_t* winner;
  int64_t y_line;
};
template <typename T>
void soft_strip(const SoftStrip<T>& a);

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

// max |yx - yu w|, NaN if there is one.
template <typename T>
struct LargestRow {
  const T* w;
  const T* yx;
  int64_t size;
  T yu;
  T* largest;
};
template <typename T>
void largest_row(const LargestRow<T>& a);

// out = offset * w + rate * ((yx - yu w) / largest): offset 0 gives delta, 1 the step.
template <typename T>
struct DeltaRow {
  const T* w;
  const T* yx;
  T* out;  // may be w
  int64_t size;
  T yu, largest, rate;
  bool step;
};
template <typename T>
void delta_row(const DeltaRow<T>& a);

// out = relu(u - mean)^power, mean may be null.
template <typename T>
struct ActivateRow {
  const T* u;
  const T* mean;
  T* out;
  int64_t size;
  T power;
};
template <typename T>
void activate_row(const ActivateRow<T>& a);

// Folds a row into another: largest (NaN stays) or sum, element by element.
template <typename T>
struct FoldRow {
  const T* from;
  T* to;
  int64_t size, from_step;
  bool largest;
};
template <typename T>
void fold_row(const FoldRow<T>& a);

}  // namespace softhebb
