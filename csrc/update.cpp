#include "update.h"

#include <ATen/Dispatch.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>

#include "kernels.h"
#include "profile.h"
#include "parallel.h"
#include "workspace.h"

namespace softhebb {
namespace {

constexpr double kEpsilon = 1e-30;

// About 32k weights a task: enough to outweigh the scheduling, few enough to share out.
int64_t rows_a_task(int64_t size) {
  return std::max<int64_t>(1, (int64_t{1} << 15) / std::max<int64_t>(size, 1));
}

template <typename F>
void for_row_blocks(int64_t rows, int64_t size, const F& run) {
  const int64_t block = rows_a_task(size);
  for_each_task((rows + block - 1) / block, [&](int64_t task, int64_t) {
    run(task * block, std::min(rows, (task + 1) * block));
  });
}

template <typename T>
double norm_of(const T* w, int64_t size, double p) {
  double sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += std::pow(std::abs(static_cast<double>(w[i])), p);
  return std::pow(sum, 1 / p);
}

}  // namespace

Update::Update(at::Tensor weight, at::Tensor product_weight, at::Tensor bias, int64_t groups,
               int64_t positions, bool direct)
    : weight_(std::move(weight)),
      product_weight_(std::move(product_weight)),
      bias_(std::move(bias)),
      groups_(groups),
      positions_(positions) {
  const auto options = weight_.options();
  const int64_t neurons = weight_.size(0);
  yx = workspace(Slot::yx, weight_.sizes(), options);
  if (bias_.defined()) sum_y = at::zeros({neurons}, options);
  if (direct) sum_yu = at::zeros({neurons}, options);
  yu_ = at::empty({neurons}, options);
  square_ = at::empty({neurons}, options);
  dw_absmax_ = at::empty({neurons}, options);
}

void Update::open_tiles(int64_t tiles) {
  if (sum_y.defined() || sum_yu.defined()) {
    tile_sums_ = at::zeros({tiles, 2, weight_.size(0)}, weight_.options());
  }
}

void Update::close_tiles() {
  if (!tile_sums_.defined()) return;
  const at::Tensor sums = tile_sums_.sum(0);
  if (sum_y.defined()) sum_y.add_(sums[0]);
  if (sum_yu.defined()) sum_yu.add_(sums[1]);
}

void Update::collect(const at::Tensor& partial_sums) {
  yx.copy_(partial_sums[0]);
  for (int64_t i = 1; i < partial_sums.size(0); ++i) yx.add_(partial_sums[i]);
}

void Update::restart() {
  if (sum_y.defined()) sum_y.zero_();
  if (sum_yu.defined()) sum_yu.zero_();
}

template <typename T>
void Update::measure_rows(int64_t begin, int64_t end) {
  const Timed timed(Part::apply);
  const int64_t size = weight_.size(1);
  const T* w = weight_.const_data_ptr<T>();
  const T* wt = product_weight_.const_data_ptr<T>();
  const T* sums = yx.const_data_ptr<T>();
  T* yu = yu_.data_ptr<T>();
  for (int64_t k = begin; k < end; ++k) {
    const T *row = w + k * size, *sum = sums + k * size;
    dot_row<T>({row, wt + k * size, sum, size, yu + k, square_.data_ptr<T>() + k});
    if (sum_yu.defined()) {
      yu[k] = sum_yu.const_data_ptr<T>()[k];
    } else if (bias_.defined()) {
      yu[k] += bias_.const_data_ptr<T>()[k] * sum_y.const_data_ptr<T>()[k];
    }
    largest_row<T>({row, sum, size, yu[k], dw_absmax_.data_ptr<T>() + k});
  }
}

void Update::measure(int64_t begin, int64_t end) {
  AT_DISPATCH_FLOATING_TYPES(weight_.scalar_type(), "measure",
                             [&] { measure_rows<scalar_t>(begin, end); });
}

void Update::measure_all() {
  for_row_blocks(weight_.size(0), weight_.size(1), [&](int64_t b, int64_t e) { measure(b, e); });
}

template <typename T>
void Update::write_rows(const at::Tensor& out, const Rate* rate) {
  const int64_t neurons = weight_.size(0), size = weight_.size(1), share = neurons / groups_;
  const T* row_largest = dw_absmax_.const_data_ptr<T>();
  std::vector<T> largest(groups_, T(0));
  for (int64_t k = 0; k < neurons; ++k) {
    T& l = largest[k / share];
    l = (row_largest[k] <= l) | (l != l) ? l : row_largest[k];
  }
  const T* w = weight_.const_data_ptr<T>();
  const T* sums = yx.const_data_ptr<T>();
  const T *yu = yu_.const_data_ptr<T>(), *square = square_.const_data_ptr<T>();
  T* to = out.data_ptr<T>();
  for_row_blocks(neurons, size, [&](int64_t begin, int64_t end) {
    const Timed timed(Part::apply);
    for (int64_t k = begin; k < end; ++k) {
      T lr = 0;
      if (rate) {
        const double p = rate->lebesgue_p;
        const bool squared = p == 2 && square[k] <= std::numeric_limits<T>::max();
        const double norm = squared ? std::sqrt(square[k]) : norm_of(w + k * size, size, p);
        lr = static_cast<T>(rate->lr * std::pow(std::abs(norm - 1) + 1e-10, rate->power));
      }
      const T whole = largest[k / share] + static_cast<T>(kEpsilon);
      delta_row<T>(
          {w + k * size, sums + k * size, to + k * size, size, yu[k], whole, lr, rate != nullptr});
    }
  });
}

at::Tensor Update::delta_w() {
  at::Tensor out = at::empty_like(weight_);
  AT_DISPATCH_FLOATING_TYPES(weight_.scalar_type(), "delta_w",
                             [&] { write_rows<scalar_t>(out, nullptr); });
  return out;
}

void Update::step_(const Rate& rate) {
  AT_DISPATCH_FLOATING_TYPES(weight_.scalar_type(), "step_",
                             [&] { write_rows<scalar_t>(weight_, &rate); });
}

at::Tensor Update::delta_b(double t) const {
  const at::Tensor prior = (bias_ * t).exp();
  const at::Tensor d = (sum_y - prior * static_cast<double>(positions_)) / prior;
  return d / (d.abs().max() + kEpsilon);
}

}  // namespace softhebb
