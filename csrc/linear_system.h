// Systems of equations B y = u with one B and many u, solved by blocks: nearly all of it is products
// of matrices, which run much faster than the solvers of LAPACK here.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "gemm.h"

namespace softhebb {

class LinearSystem {
 public:
  // B [n, n], contiguous, which is overwritten. A B that is singular leaves no finite y.
  explicit LinearSystem(at::Tensor both);

  // y = B^-1 u of so many columns, both [n, columns] of B's dtype, each row contiguous, not the same.
  template <typename T>
  void solve(View<T> y, View<const T> u, int64_t columns) const;

 private:
  static constexpr int64_t kBlock = 64;  // rows of a block on the diagonal

  template <typename T>
  void factorise();
  template <typename T>
  void eliminate_block(int64_t begin, View<T> panel);
  template <typename T>
  void update_right(int64_t begin, View<T> panel);

  const int64_t size_;
  // P B = L U without the blocks on the diagonal, each element negative; of those blocks the inverses.
  at::Tensor factors_, lower_, upper_;
  std::vector<int64_t> order_;  // which row of B comes where
};

}  // namespace softhebb
