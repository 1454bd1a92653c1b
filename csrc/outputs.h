// From tiles of neurons by positions to the tensors that the caller gets.
#pragma once

#include <ATen/core/Tensor.h>

#include "gemm.h"
#include "pool.h"

namespace softhebb {

// Writes `count` positions of u, the first of them numbered over the batch, to out [B, K, OH, OW]
// of any layout.
template <typename in_t, typename T>
void write_u(const at::Tensor& out, int64_t position, View<const T> u, int64_t count);

// Writes the activated and pooled maps of neurons [begin, end) of one image. The image's u is
// [K, height * width], its mean over neurons [height * width] or null.
template <typename in_t, typename T>
void write_pooled(const at::Tensor& out, const Epilogue& e, int64_t image, View<const T> u,
                  const T* mean, int64_t height, int64_t width, int64_t begin, int64_t end);

}  // namespace softhebb
