#include "rule.h"

#include <ATen/Dispatch.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_inv_ex.h>
#include <ATen/ops/square.h>
#include <ATen/ops/sum.h>
#include <c10/util/Exception.h>

#include <array>
#include <initializer_list>
#include <string>
#include <utility>

#include "serial_blas.h"

namespace softhebb {
namespace {

constexpr int64_t kInverted = 256;  // neurons up to which an inverse costs less than two solves

template <typename E>
E parsed(const char* option, std::string_view name,
         std::initializer_list<std::pair<std::string_view, E>> known) {
  std::string all;
  for (const auto& [own, value] : known) {
    if (own == name) return value;
    all += (all.empty() ? "" : ", ") + std::string(own);
  }
  TORCH_CHECK(false, option, " must be one of ", all, "; got ", name);
}

// [batch, neurons, positions of an image] of a tensor [batch, neurons, rows, columns], of which any
// of the last two may be 1 or missing.
at::Tensor of_positions(const at::Tensor& t, const Geometry& g, int64_t neurons,
                        at::ScalarType dtype, const char* name) {
  const std::array<int64_t, 4> sizes{g.batch, neurons, g.out_height, g.out_width};
  at::Tensor all = t;
  while (all.dim() < 4) all = all.unsqueeze(-1);
  bool fits = all.is_cpu() && all.dim() == 4 && all.size(0) == g.batch && all.size(1) == neurons;
  for (int i = 2; i < 4; ++i) fits = fits && (all.size(i) == sizes[i] || all.size(i) == 1);
  TORCH_CHECK(fits, name, " must be ", at::IntArrayRef(sizes), " on the CPU; got ", t.sizes(),
              " on ", t.device());
  return all.to(dtype).expand(sizes).flatten(2);
}

}  // namespace

at::Tensor of_neurons(const at::Tensor& t, int64_t neurons, at::ScalarType dtype,
                      const char* name) {
  TORCH_CHECK(t.is_cpu() && t.dim() == 1 && t.size(0) == neurons, name, " must be [", neurons,
              "] on the CPU; got ", t.sizes(), " on ", t.device());
  return t.to(dtype).contiguous();
}

Rule::Rule(std::string_view activity, std::string_view gain, bool nearest,
           std::string_view normalise, double decay, OptionalTensor modulator,
           OptionalTensor target, OptionalTensor threshold, OptionalTensor counts,
           OptionalTensor lateral)
    : activity(parsed<Activity>("activity", activity,
                                {{"competition", Activity::competition},
                                 {"linear", Activity::linear},
                                 {"threshold", Activity::threshold},
                                 {"target", Activity::target},
                                 {"error", Activity::error},
                                 {"lateral", Activity::lateral},
                                 {"rectified_lateral", Activity::rectified_lateral}})),
      gain(parsed<Gain>("gain", gain,
                        {{"product", Gain::product},
                         {"none", Gain::none},
                         {"activity", Gain::activity},
                         {"square", Gain::square},
                         {"lower", Gain::lower}})),
      scale(parsed<Scale>("normalise", normalise,
                          {{"max", Scale::largest},
                           {"mean", Scale::mean},
                           {"none", Scale::none},
                           {"count", Scale::count}})),
      nearest(nearest),
      decay(decay),
      modulator(modulator.value_or(at::Tensor())),
      target(target.value_or(at::Tensor())),
      threshold(threshold.value_or(at::Tensor())),
      counts(counts.value_or(at::Tensor())),
      lateral(lateral.value_or(at::Tensor())) {
  const bool aims = this->activity == Activity::target || this->activity == Activity::error;
  TORCH_CHECK(!aims || this->target.defined(), "activity ", activity, " needs a target");
  TORCH_CHECK(this->activity != Activity::threshold || this->threshold.defined(),
              "activity threshold needs a threshold");
  TORCH_CHECK(scale != Scale::count || this->counts.defined(), "normalise count needs counts");
  TORCH_CHECK(!settles() || this->lateral.defined(), "activity ", activity, " needs lateral");
  TORCH_CHECK(this->gain != Gain::square || this->activity == Activity::target || settles(),
              "gain square is of activity target or lateral; got ", activity);
  TORCH_CHECK(this->gain != Gain::lower || this->activity == Activity::linear,
              "gain lower is of activity linear; got ", activity);
  if (!aims) this->target.reset();
}

void Rule::fit(const Geometry& g, const at::Tensor& weight) {
  const at::ScalarType dtype = weight.scalar_type();
  if (modulator.defined()) {
    modulator = of_positions(modulator, g, 1, dtype, "modulator").contiguous().flatten();
  }
  if (target.defined()) target = of_positions(target, g, g.filters, dtype, "target");
  if (threshold.defined()) threshold = of_neurons(threshold, g.filters, dtype, "threshold");
  if (counts.defined()) counts = of_neurons(counts, g.filters, dtype, "counts");
  if (nearest) half_squares = weight.square().sum(1).mul_(0.5);
  if (settles()) fit_lateral(g.groups, g.filters, dtype);
}

void Rule::fit_lateral(int64_t groups, int64_t neurons, at::ScalarType dtype) {
  const int64_t share = neurons / groups;
  TORCH_CHECK(lateral.is_cpu() && lateral.dim() == 2 && lateral.size(0) == neurons &&
                  lateral.size(1) == share,
              "lateral must be [", neurons, ", ", share, "] on the CPU; got ", lateral.sizes(),
              " on ", lateral.device());
  at::Tensor both = lateral.to(dtype).reshape({groups, share, share});
  both = both + at::eye(share, both.options());
  if (activity == Activity::rectified_lateral) {
    const at::Tensor largest = both.abs().sum(2).amax(1);
    for (int64_t i = 0; i < groups; ++i) pace.push_back(1 / largest[i].item<double>());
  } else if (share > kInverted) {
    for (int64_t i = 0; i < groups; ++i) systems.emplace_back(both[i].contiguous());
  } else {
    const SerialBlas serial;
    // One by one: with threads, MKL fails on a batch (pytorch/pytorch#142815).
    for (int64_t i = 0; i < groups; ++i) both[i].copy_(std::get<0>(at::linalg_inv_ex(both[i])));
  }
  lateral = both.contiguous().view({neurons, share});
}

double Rule::sum_of_modulator(int64_t positions) const {
  if (!modulator.defined()) return static_cast<double>(positions);
  double sum = 0;
  AT_DISPATCH_FLOATING_TYPES(modulator.scalar_type(), "sum_of_modulator", [&] {
    const scalar_t* m = modulator.const_data_ptr<scalar_t>();
    for (int64_t i = 0; i < positions; ++i) sum += m[i];
  });
  return sum;
}

}  // namespace softhebb
