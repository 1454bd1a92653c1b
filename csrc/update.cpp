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

// Of a row whose squares add up to `square`, unless some of them leave the range of T.
template <typename T>
double norm_of(const T* w, int64_t size, double p, T square) {
  using Limits = std::numeric_limits<T>;
  const bool squared =
      p == 2 && square >= Limits::min() / Limits::epsilon() && square <= Limits::max();
  return squared ? std::sqrt(square) : norm_of(w, size, p);
}

template <typename T>
void scale_to_unit(T* w, int64_t size, double p) {
  T dot, square;
  dot_row<T>({w, w, w, size, &dot, &square});
  const T norm = static_cast<T>(norm_of(w, size, p, square));
  divide_row<T>({w, size, norm + static_cast<T>(kEpsilon)});
}

}  // namespace

Update::Update(const Rule& rule, at::Tensor weight, at::Tensor product_weight, at::Tensor bias,
               int64_t groups, int64_t positions, bool direct)
    : rule_(rule),
      weight_(std::move(weight)),
      product_weight_(std::move(product_weight)),
      bias_(std::move(bias)),
      groups_(groups),
      positions_(positions),
      loses_(rule.loses() && positions > 0) {
  const auto options = weight_.options();
  const int64_t neurons = weight_.size(0);
  yx = workspace(Slot::yx, weight_.sizes(), options);
  if (bias_.defined() || rule.sums_activity()) sum_y = at::zeros({neurons}, options);
  if (rule.sums_squares() || (rule.gain == Gain::product && direct)) {
    sum_yu = at::zeros({neurons}, options);
  }
  if (rule.counts_squares()) sum_uu = at::zeros({neurons}, options);
  yu_ = at::empty({neurons}, options);
  square_ = at::empty({neurons}, options);
  dw_absmax_ = at::empty({neurons}, options);
}

void Update::open_tiles(int64_t tiles) {
  if (sum_y.defined() || sum_yu.defined() || sum_uu.defined()) {
    tile_sums_ = at::zeros({tiles, sum_uu.defined() ? 3 : 2, weight_.size(0)}, weight_.options());
  }
}

void Update::close_tiles() {
  if (!tile_sums_.defined()) return;
  const at::Tensor sums = tile_sums_.sum(0);
  if (sum_y.defined()) sum_y.add_(sums[0]);
  if (sum_yu.defined()) sum_yu.add_(sums[1]);
  if (sum_uu.defined()) sum_uu.add_(sums[2]);
}

void Update::collect(const at::Tensor& partial_sums) {
  yx.copy_(partial_sums[0]);
  for (int64_t i = 1; i < partial_sums.size(0); ++i) yx.add_(partial_sums[i]);
}

void Update::take_correlations(at::Tensor c, int64_t groups) {
  const int64_t share = c.size(1);
  if (rule_.gain == Gain::square) {
    sum_yu = c.view({groups, share, share}).diagonal(0, 1, 2).flatten().contiguous();
  }
  correlations = std::move(c);
}

void Update::restart() {
  if (sum_y.defined()) sum_y.zero_();
  if (sum_yu.defined()) sum_yu.zero_();
  if (sum_uu.defined()) sum_uu.zero_();
}

template <typename T>
void Update::measure_rows(int64_t begin, int64_t end) {
  const Timed timed(Part::apply);
  const int64_t size = weight_.size(1);
  const T* w = weight_.const_data_ptr<T>();
  const T* wt = product_weight_.const_data_ptr<T>();
  const T* sums = yx.const_data_ptr<T>();
  const T decay = static_cast<T>(rule_.decay * static_cast<double>(positions_));
  T* yu = yu_.data_ptr<T>();
  for (int64_t k = begin; k < end; ++k) {
    const T *row = w + k * size, *sum = sums + k * size;
    dot_row<T>({row, wt + k * size, sum, size, yu + k, square_.data_ptr<T>() + k});
    if (sum_yu.defined()) {
      yu[k] = sum_yu.const_data_ptr<T>()[k];
    } else if (rule_.gain == Gain::activity) {
      yu[k] = sum_y.const_data_ptr<T>()[k];
    } else if (rule_.gain != Gain::product) {
      yu[k] = 0;
    } else if (bias_.defined()) {
      yu[k] += bias_.const_data_ptr<T>()[k] * sum_y.const_data_ptr<T>()[k];
    }
    if (rule_.decay != 0) yu[k] += decay;
    if (rule_.scale == Scale::largest) {
      largest_row<T>({row, sum, size, yu[k], loses_, dw_absmax_.data_ptr<T>() + k});
    }
  }
}

void Update::measure(int64_t begin, int64_t end) {
  AT_DISPATCH_FLOATING_TYPES(weight_.scalar_type(), "measure",
                             [&] { measure_rows<scalar_t>(begin, end); });
}

void Update::measure_all() {
  for_row_blocks(weight_.size(0), weight_.size(1), [&](int64_t b, int64_t e) { measure(b, e); });
}

// By what the update of every neuron is divided.
template <typename T>
std::vector<T> Update::divisors() const {
  const int64_t neurons = weight_.size(0), share = neurons / groups_;
  std::vector<T> found(neurons, T(1));
  if (rule_.scale == Scale::largest) {
    const T* row_largest = dw_absmax_.const_data_ptr<T>();
    for (int64_t first = 0; first < neurons; first += share) {
      T largest = 0;
      for (int64_t k = first; k < first + share; ++k) {
        largest = (row_largest[k] <= largest) | (largest != largest) ? largest : row_largest[k];
      }
      std::fill_n(found.begin() + first, share, largest + static_cast<T>(kEpsilon));
    }
  } else if (rule_.scale == Scale::mean) {
    std::fill(found.begin(), found.end(), static_cast<T>(std::max<int64_t>(positions_, 1)));
  } else if (rule_.scale == Scale::count) {
    const T *counts = rule_.counts.const_data_ptr<T>(), *sums = sum_y.const_data_ptr<T>();
    for (int64_t k = 0; k < neurons; ++k) {
      found[k] = counts[k] + sums[k] + static_cast<T>(kEpsilon);
    }
  }
  return found;
}

template <typename T>
void Update::write_rows(const at::Tensor& out, const Rate* rate) {
  const int64_t neurons = weight_.size(0), size = weight_.size(1);
  const std::vector<T> whole = divisors<T>();
  const T* w = weight_.const_data_ptr<T>();
  const T* sums = yx.const_data_ptr<T>();
  const T *yu = yu_.const_data_ptr<T>(), *square = square_.const_data_ptr<T>();
  T* to = out.data_ptr<T>();
  for_row_blocks(neurons, size, [&](int64_t begin, int64_t end) {
    const Timed timed(Part::apply);
    for (int64_t k = begin; k < end; ++k) {
      T lr = 0;
      if (rate) {
        const double norm = norm_of(w + k * size, size, rate->lebesgue_p, square[k]);
        lr = static_cast<T>(rate->lr * std::pow(std::abs(norm - 1) + 1e-10, rate->power));
        if (rate->neuron_rates.defined()) lr *= rate->neuron_rates.const_data_ptr<T>()[k];
      }
      delta_row<T>({w + k * size, sums + k * size, to + k * size, size, yu[k], whole[k], lr,
                    loses_, rate != nullptr});
      if (rate && rate->unit_norm && lr != 0) scale_to_unit(to + k * size, size, rate->lebesgue_p);
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

at::Tensor Update::statistic() const {
  if (rule_.settles()) return correlations;
  if (rule_.counts_squares()) return sum_uu;
  return rule_.gain == Gain::activity ? sum_y : at::empty({0}, weight_.options());
}

at::Tensor Update::delta_b(double t) const {
  if (positions_ == 0) return at::zeros_like(bias_);
  const at::Tensor prior = (bias_ * t).exp();
  const at::Tensor d = (sum_y - prior * rule_.sum_of_modulator(positions_)) / prior;
  return d / (d.abs().max() + kEpsilon);
}

}  // namespace softhebb
