// One Hebbian layer over one batch: u, the competition and the sums that the update needs.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <optional>
#include <string_view>

#include "geometry.h"
#include "pool.h"
#include "update.h"

namespace softhebb {

// How neurons compete: its name is parsed here, and nothing else asks for it.
struct Competition {
  Competition(double t, std::string_view wta, double delta, int64_t rank,
              std::string_view tie_rule, bool overwrite, bool pre_triangle)
      : t(t),
        soft(wta == "soft" || wta == "soft_anti"),
        anti(wta == "soft_anti" || wta == "hard_anti"),
        delta(delta),
        rank(rank),
        overwrite(overwrite),
        pre_triangle(pre_triangle),
        spread(tie_rule == "spread") {
    TORCH_CHECK(soft || anti || wta == "hard",
                "wta must be soft_anti, soft, hard or hard_anti; got ", wta);
    TORCH_CHECK(spread || tie_rule == "first", "tie_rule must be first or spread; got ", tie_rule);
  }

  bool ranks() const { return anti && !soft; }

  double t;
  bool soft;  // y is a softmax; else the winner alone has a y
  bool anti;  // losers unlearn
  double delta;
  int64_t rank;    // of the neuron that unlearns in a hard competition
  bool overwrite;  // the linear layer's "hard_anti"
  bool pre_triangle;
  bool spread;  // ties are shared out by position, not won by the first
};

// What to compute: u if defined, pooled if defined (with the epilogue), the sums if `update`.
struct Wanted {
  at::Tensor u;
  at::Tensor pooled;
  std::optional<Epilogue> epilogue;
  Update* update = nullptr;
};

// weight and bias have the dtype of accumulation; weight is contiguous [K, patch] and already the
// Lebesgue weight. x and the wanted tensors have the dtype of the caller.
void run_layer(const Geometry& g, const Competition& competition, const at::Tensor& x,
               const at::Tensor& weight, const at::Tensor& bias, const Wanted& wanted);

}  // namespace softhebb
