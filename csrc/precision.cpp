#include "precision.h"

#include <ATen/Context.h>

#include <cstdlib>
#include <string>

#include "bf16x3.h"

namespace softhebb {

bool takes_bf16x3() {
  const char* named = std::getenv("SOFTHEBB_FAST_PRECISION");
  if (named && *named) {
    const std::string name(named);
    TORCH_CHECK_VALUE(name == "ieee" || name == "bf16x3",
                      "SOFTHEBB_FAST_PRECISION must be ieee or bf16x3 on the CPU; got ", name);
    if (name == "ieee") return false;
    TORCH_CHECK(!bf16x3_missing(), "SOFTHEBB_FAST_PRECISION=bf16x3 cannot be had: ",
                bf16x3_missing(), ". Use ieee");
    return true;
  }
  const auto allowed = at::globalContext().float32Precision(at::Float32Backend::MKLDNN,
                                                            at::Float32Op::MATMUL);
  const bool less =
      allowed == at::Float32Precision::TF32 || allowed == at::Float32Precision::BF16;
  return less && !bf16x3_missing();
}

}  // namespace softhebb
