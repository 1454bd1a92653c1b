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
  std::vector<int32_t> source_row;     // [rows, out_height], -1 where padding gives zero
  std::vector<int32_t> source_column;  // [columns, out_width]
  std::vector<int32_t> run_begin, run_end;  // [columns]: outputs that read adjacent inputs

  Geometry(const at::Tensor& x, const at::Tensor& weight, const Window& window, int64_t groups,
           const std::string& padding_mode);

  int64_t plane() const { return out_height * out_width; }
  int64_t positions() const { return batch * plane(); }
  int64_t patch() const { return channels / groups * rows * columns; }
  bool is_linear() const {  // every patch is its image
    return height * width * rows * columns * plane() == 1 && source_row[0] == 0 &&
           source_column[0] == 0;
  }
  int64_t group_filters() const { return filters / groups; }
};

// Patches of the output rows [row, row + count), rows numbered over the whole batch, one patch
// element a line: to[(c, r, s), position] with lines `line` elements apart.
template <typename in_t, typename T>
void gather(const in_t* x, const Geometry& g, int64_t row, int64_t count, T* to, int64_t line);

}  // namespace softhebb
