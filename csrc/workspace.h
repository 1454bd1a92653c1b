// Memory that a thread keeps from call to call: fresh pages for every call would cost more than
// some of the passes over them. At most kMost bytes a slot stay behind.
#pragma once

#include <ATen/core/Tensor.h>

namespace softhebb {

enum class Slot { patches, y, u, yx, sums, tiles, weights, products, count };

// A tensor over the memory of a slot, unset; valid until the thread asks for that slot again.
at::Tensor workspace(Slot slot, at::IntArrayRef sizes, const at::TensorOptions& options);

}  // namespace softhebb
