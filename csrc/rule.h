// The learning rule of a layer: from the operator's names to what the passes ask. SoftHebb is
// Activity::competition with Gain::product and Scale::largest.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "geometry.h"
#include "linear_system.h"

namespace softhebb {

// A, of which the update sums A x.
enum class Activity {
  competition,
  linear,
  threshold,
  target,
  error,
  lateral,
  rectified_lateral,
};
// G, of which the update subtracts G W: of a neuron the sum of A, of A u or of A times A as it is
// before the modulator; or of a pair (k, j), j at most k, the sum of A[k] u[j].
enum class Gain { none, activity, product, square, lower };
// What the update is divided by.
enum class Scale { largest, mean, none, count };

struct Rule {
  using OptionalTensor = const std::optional<at::Tensor>&;

  Rule() = default;
  // Tensors as the caller has them: fit() brings them into the form that the passes read.
  Rule(std::string_view activity, std::string_view gain, bool nearest, std::string_view normalise,
       double decay, OptionalTensor modulator, OptionalTensor target, OptionalTensor threshold,
       OptionalTensor counts, OptionalTensor lateral);

  // To a layer of this geometry and these weights [K, patch], in the dtype of accumulation.
  void fit(const Geometry& g, const at::Tensor& weight);

  // A is u itself: it needs no memory of its own.
  bool takes_u() const { return activity == Activity::linear && !modulator.defined(); }
  // Neurons of a group act on each other until their activity is settled.
  bool settles() const {
    return activity == Activity::lateral || activity == Activity::rectified_lateral;
  }
  // Products of the activities of two neurons are summed over positions.
  bool correlates() const { return gain == Gain::lower || settles(); }
  // A is asked for as it is before the modulator.
  bool keeps_bare() const { return modulator.defined() && (gain == Gain::square || settles()); }
  // A may hold what is not finite, though u does not.
  bool may_spoil() const { return activity != Activity::competition || modulator.defined(); }
  // The sum of A times what it was before the modulator; where neurons settle, correlations hold it.
  bool sums_squares() const { return gain == Gain::square && !settles(); }
  // The sum of u^2 is the caller's statistic, not that of A.
  bool counts_squares() const { return activity == Activity::threshold; }
  // Whether a neuron loses some of its own weights, by a factor.
  bool loses() const { return decay != 0 || (gain != Gain::none && gain != Gain::lower); }
  bool sums_activity() const { return gain == Gain::activity || scale == Scale::count; }

  // Over positions; their number without a modulator.
  double sum_of_modulator(int64_t positions) const;

  Activity activity = Activity::competition;
  Gain gain = Gain::product;
  Scale scale = Scale::largest;
  bool nearest = false;      // the winner is the neuron whose weight is next to x
  double decay = 0;          // of W at every position
  at::Tensor modulator;      // [positions], multiplies A
  at::Tensor target;         // [batch, K, positions of an image], of any strides
  at::Tensor threshold;      // [K], of a competition what u lacks there
  at::Tensor counts;         // [K]
  at::Tensor half_squares;   // [K], half the squared norms, where `nearest` asks
  at::Tensor lateral;        // [K, K / groups], I + M of every group; its inverse if few settle
  std::vector<double> pace;  // of every group's steps, if rectified
  // I + M of every group, if many settle that are not rectified.
  std::vector<LinearSystem> systems;

 private:
  void fit_lateral(int64_t groups, int64_t neurons, at::ScalarType dtype);
};

// One number a neuron, checked, in the dtype of accumulation.
at::Tensor of_neurons(const at::Tensor& t, int64_t neurons, at::ScalarType dtype, const char* name);

}  // namespace softhebb
