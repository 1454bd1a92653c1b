// Matrix products over memory that somebody else owns, by the libraries that ATen brings.
#pragma once

#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <type_traits>

namespace softhebb {

template <typename T>
struct View {
  T* data;
  int64_t line, step;

  T* at(int64_t i, int64_t j) const { return data + i * line + j * step; }
  View block(int64_t i, int64_t j) const { return {at(i, j), line, step}; }
  View transposed() const { return {data, step, line}; }
  operator View<const T>() const { return {data, line, step}; }
};

// Matrix i of a contiguous tensor of matrices.
template <typename T>
View<T> slice(const at::Tensor& matrices, int64_t i) {
  return {matrices.data_ptr<T>() + i * matrices.stride(0), matrices.stride(1), 1};
}

template <typename T>
at::Tensor as_tensor(const View<T>& v, int64_t rows, int64_t columns) {
  using element = std::remove_const_t<T>;
  const auto options = at::TensorOptions().dtype(c10::CppTypeToScalarType<element>::value);
  return at::from_blob(const_cast<element*>(v.data), {rows, columns}, {v.line, v.step}, options);
}

// c [m, n] = a [m, k] b [k, n], or c += a b.
template <typename T>
void multiply(View<T> c, View<const T> a, View<const T> b, int64_t m, int64_t n, int64_t k,
              bool add) {
  at::Tensor out = as_tensor(c, m, n);
  const at::Tensor left = as_tensor(a, m, k), right = as_tensor(b, k, n);
  add ? at::addmm_out(out, out, left, right) : at::mm_out(out, left, right);
}

// c (+)= a b with small c and b, rows of all three contiguous: in blocks that stay in cache, without
// the copies that BLAS makes of its operands, where oneDNN's micro-kernels run (AVX-512).
void multiply_in_cache(View<float> c, View<const float> a, View<const float> b, int64_t m,
                       int64_t n, int64_t k, bool add = false);
void multiply_in_cache(View<double> c, View<const double> a, View<const double> b, int64_t m,
                       int64_t n, int64_t k, bool add = false);

}  // namespace softhebb
