#include "workspace.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/CPUAllocator.h>

namespace softhebb {
namespace {

constexpr size_t kMost = size_t{32} << 20;

struct Held {
  c10::DataPtr memory;
  size_t size = 0;
};

}  // namespace

at::Tensor workspace(Slot slot, at::IntArrayRef sizes, const at::TensorOptions& options) {
  thread_local Held slots[static_cast<int>(Slot::count)];
  const size_t size = c10::multiply_integers(sizes) * options.dtype().itemsize();
  if (size > kMost) return at::empty(sizes, options);
  Held& held = slots[static_cast<int>(slot)];
  if (held.size < size) {
    held = {};
    held = {c10::GetCPUAllocator()->allocate(size), size};
  }
  return at::from_blob(held.memory.get(), sizes, options);
}

}  // namespace softhebb
