// From the sums over positions to the normalised direction, or to the step along it.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "rule.h"

namespace softhebb {

struct Rate {
  double lr, power, lebesgue_p;
  at::Tensor neuron_rates;  // [neurons] of the weight's dtype of accumulation, if defined
  bool unit_norm;           // after the step
};

// Owns the sums of one pass; measure() may run on any rows as soon as their sums are complete.
class Update {
 public:
  // weight [K, patch] is what decays, product_weight what u was computed with, `direct` whether u
  // is not linear in it.
  Update(const Rule& rule, at::Tensor weight, at::Tensor product_weight, at::Tensor bias,
         int64_t groups, int64_t positions, bool direct);

  // Sums of one tile, sum_y, sum_yu and sum_uu [2 or 3, K], null if nobody needs them; added up by
  // close_tiles in the order of tiles.
  void open_tiles(int64_t tiles);
  template <typename T>
  T* sums_of(int64_t tile) const {
    return tile_sums_.defined() ? tile_sums_.data_ptr<T>() + tile * tile_sums_.stride(0) : nullptr;
  }
  void close_tiles();

  const at::Tensor& weight() const { return weight_; }
  // Whether the sums of A need u.
  bool wants_u() const { return sum_yu.defined() && rule_.gain == Gain::product; }

  void collect(const at::Tensor& partial_sums);  // yx from its parts [parts, K, patch]
  // [K, K / groups] of neurons that settle, with the sums of squares on the diagonals.
  void take_correlations(at::Tensor c, int64_t groups);
  void restart();                                // forgets all sums

  at::Tensor yx;            // [K, patch], written by the pass
  at::Tensor sum_y;         // [K], if a bias, the gain or the counts want it
  at::Tensor sum_yu;        // [K], if u is not linear in the weight, else from <W, yx>; or of y^2
  at::Tensor sum_uu;        // [K], if the threshold wants it
  at::Tensor correlations;  // of neurons that settle

  void measure(int64_t begin, int64_t end);  // neurons whose yx is complete
  void measure_all();
  at::Tensor delta_w();                     // [K, patch]
  void step_(const Rate& rate);           // weight += rate * delta_w
  at::Tensor delta_b(double t) const;  // [K]
  at::Tensor statistic() const;        // [K], correlations, or empty

 private:
  template <typename T>
  void measure_rows(int64_t begin, int64_t end);
  template <typename T>
  std::vector<T> divisors() const;
  template <typename T>
  void write_rows(const at::Tensor& out, const Rate* rate);

  const Rule& rule_;
  at::Tensor tile_sums_, weight_, product_weight_, bias_, yu_, square_, dw_absmax_;
  int64_t groups_, positions_;
  bool loses_;  // whether D has a part of the weight: of no sample not even of NaN
};

}  // namespace softhebb
