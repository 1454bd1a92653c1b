// The competition of a layer: one value from the operator's name to the loops over neurons.
#pragma once

#include <c10/util/Exception.h>

#include <cstdint>
#include <string_view>

// The options of an operator, field by field as in softhebb_fast/options.py; and those of them that
// Competition takes.
#define COMPETITION                                                                       \
  double t_invert, std::string_view wta, double delta, int64_t rank, double lebesgue_p, \
      std::string_view tie_rule
#define COMPETING t_invert, wta, delta, rank, tie_rule

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

  Competition softmax() const {
    Competition same = *this;
    same.soft = true;
    same.anti = same.spread = false;
    return same;
  }

  double t;
  bool soft;  // y is a softmax; else the winner alone has a y
  bool anti;  // losers unlearn
  double delta;
  int64_t rank;    // of the neuron that unlearns in a hard competition
  bool overwrite;  // the linear layer's "hard_anti"
  bool pre_triangle;
  bool spread;  // ties are shared out by position, not won by the first
};

}  // namespace softhebb
