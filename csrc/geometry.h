// Where the patches of a convolution lie in its input, padding folded into index tables.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace softhebb {

struct Window {
  int64_t stride[2], padding[2], dilation[2];
};

struct Geometry {
  int64_t batch, channels, height, width;  // x [batch, channels, height, width]
  int64_t filters, rows, columns, groups;  // weight [filters, channels / groups, rows, columns]
  int64_t out_height, out_width;
  int64_t x_stride[4];
  Window window;
  // The row and the column of x at every row and column of the padded image, -1 for a zero.
  std::vector<int32_t> padded_row, padded_column;

  Geometry(const at::Tensor& x, const at::Tensor& weight, const Window& window, int64_t groups,
           const std::string& padding_mode);

  int64_t plane() const { return out_height * out_width; }
  int64_t positions() const { return batch * plane(); }
  int64_t patch() const { return channels / groups * rows * columns; }
  bool is_linear() const {  // every patch is its image
    return padded_row.size() * padded_column.size() * rows * columns == 1;
  }
  int64_t group_filters() const { return filters / groups; }
};

// Writes patches of the output rows [row, row + count), rows numbered over the whole
// batch, one patch element a line: to[(c, r, s), position] with lines `line` elements apart.
template <typename in_t, typename T>
void im2col(const in_t* x, const Geometry& g, int64_t row, int64_t count, T* to, int64_t line);

}  // namespace softhebb
