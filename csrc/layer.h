// One Hebbian layer over one batch: u, the competition and the sums that the update needs.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "competition.h"
#include "geometry.h"
#include "pool.h"
#include "update.h"

namespace softhebb {

// What to compute: u if defined, pooled if defined (with the epilogue), the sums if `update`.
struct Wanted {
  at::Tensor u;
  at::Tensor pooled;
  std::optional<Epilogue> epilogue;
  Update* update = nullptr;
};

// weight and bias have the dtype of accumulation; weight is contiguous [K, patch] and already the
// Lebesgue weight. x and the wanted tensors have the dtype of the caller.
void run_layer(const Geometry& g, const Competition& competition, const Rule& rule,
               const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
               const Wanted& wanted);

}  // namespace softhebb
