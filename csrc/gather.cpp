#include <algorithm>

#include "geometry.h"

namespace softhebb {
namespace {

int32_t source(int64_t i, int64_t size, const std::string& mode) {
  if (i >= 0 && i < size) return static_cast<int32_t>(i);
  if (mode == "zeros") return -1;
  if (mode == "reflect") return static_cast<int32_t>(i < 0 ? -i : 2 * (size - 1) - i);
  if (mode == "replicate") return static_cast<int32_t>(i < 0 ? 0 : size - 1);
  return static_cast<int32_t>(i < 0 ? i + size : i - size);
}

std::vector<int32_t> sources(int64_t taps, int64_t outputs, int64_t size, const Window& w, int axis,
                             const std::string& mode) {
  std::vector<int32_t> table(taps * outputs);
  for (int64_t tap = 0; tap < taps; ++tap) {
    for (int64_t o = 0; o < outputs; ++o) {
      const int64_t i = o * w.stride[axis] + tap * w.dilation[axis] - w.padding[axis];
      table[tap * outputs + o] = source(i, size, mode);
    }
  }
  return table;
}

int64_t out_size(int64_t size, int64_t taps, const Window& w, int axis) {
  return (size + 2 * w.padding[axis] - w.dilation[axis] * (taps - 1) - 1) / w.stride[axis] + 1;
}

template <typename in_t, typename T>
void gather_channels_last(const in_t* x, const Geometry& g, int64_t row, int64_t count, T* to,
                          int64_t line) {
  constexpr int64_t kBlock = 16;
  const int64_t taps = g.rows * g.columns;
  for (int64_t c = 0; c < g.channels; c += kBlock) {
    const int64_t n = std::min(kBlock, g.channels - c);
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int32_t* rows = g.source_row.data() + tap / g.columns * g.out_height;
      const int32_t* columns = g.source_column.data() + tap % g.columns * g.out_width;
      T* lines = to + (c * taps + tap) * line;
      for (int64_t i = row; i < row + count; ++i) {
        const in_t* image = x + i / g.out_height * g.x_stride[0] + c;
        const int32_t iy = rows[i % g.out_height];
        for (int64_t ox = 0; ox < g.out_width; ++ox, ++lines) {
          const int32_t ix = columns[ox];
          if (iy < 0 || ix < 0) {
            for (int64_t k = 0; k < n; ++k) lines[k * taps * line] = T(0);
          } else {
            const in_t* from = image + iy * g.x_stride[2] + ix * g.x_stride[3];
            for (int64_t k = 0; k < n; ++k) lines[k * taps * line] = static_cast<T>(from[k]);
          }
        }
      }
    }
  }
}

}  // namespace

Geometry::Geometry(const at::Tensor& x, const at::Tensor& weight, const Window& window,
                   int64_t groups_, const std::string& mode)
    : batch(x.size(0)), channels(x.size(1)), height(x.size(2)), width(x.size(3)),
      filters(weight.size(0)), rows(weight.size(2)), columns(weight.size(3)), groups(groups_),
      out_height(out_size(height, rows, window, 0)), out_width(out_size(width, columns, window, 1)),
      x_stride{x.stride(0), x.stride(1), x.stride(2), x.stride(3)},
      source_row(sources(rows, out_height, height, window, 0, mode)),
      source_column(sources(columns, out_width, width, window, 1, mode)),
      run_begin(columns), run_end(columns) {
  for (int64_t s = 0; s < columns; ++s) {
    const int32_t* column = source_column.data() + s * out_width;
    const int64_t first = s * window.dilation[1] - window.padding[1];
    const int64_t begin = std::clamp<int64_t>(-first, 0, out_width);
    const int64_t end = std::clamp<int64_t>(width - first, begin, out_width);
    const bool adjacent = window.stride[1] == 1 && x_stride[3] == 1 && end > begin && column[begin] >= 0;
    run_begin[s] = static_cast<int32_t>(adjacent ? begin : out_width);
    run_end[s] = static_cast<int32_t>(adjacent ? end : out_width);
  }
}

template <typename in_t, typename T>
void gather(const in_t* x, const Geometry& g, int64_t row, int64_t count, T* to, int64_t line) {
  if (g.x_stride[1] == 1 && g.x_stride[3] != 1 && g.channels > 1) {
    return gather_channels_last(x, g, row, count, to, line);
  }
  const int64_t taps = g.rows * g.columns, step = g.x_stride[3];
  for (int64_t p = 0; p < g.channels * taps; ++p, to += line) {
    const int64_t s = p % g.columns;
    const int32_t* rows = g.source_row.data() + p / g.columns % g.rows * g.out_height;
    const int32_t* columns = g.source_column.data() + s * g.out_width;
    const int64_t begin = g.run_begin[s], end = g.run_end[s];
    const in_t* channel = x + p / taps * g.x_stride[1];
    int64_t image = row / g.out_height, oy = row % g.out_height;
    T* out = to;
    for (int64_t i = 0; i < count; ++i, out += g.out_width) {
      const int32_t iy = rows[oy];
      if (iy < 0) {
        std::fill_n(out, g.out_width, T(0));
      } else {
        const in_t* from = channel + image * g.x_stride[0] + iy * g.x_stride[2];
        const auto element = [&](int64_t ox) {
          return columns[ox] < 0 ? T(0) : static_cast<T>(from[columns[ox] * step]);
        };
        for (int64_t ox = 0; ox < begin; ++ox) out[ox] = element(ox);
        if (begin < end) {
          const in_t* run = from + columns[begin];
          for (int64_t ox = begin; ox < end; ++ox) out[ox] = static_cast<T>(run[ox - begin]);
        }
        for (int64_t ox = end; ox < g.out_width; ++ox) out[ox] = element(ox);
      }
      if (++oy == g.out_height) oy = 0, ++image;
    }
  }
}

template void gather(const float*, const Geometry&, int64_t, int64_t, float*, int64_t);
template void gather(const double*, const Geometry&, int64_t, int64_t, double*, int64_t);
template void gather(const at::Half*, const Geometry&, int64_t, int64_t, float*, int64_t);
template void gather(const at::BFloat16*, const Geometry&, int64_t, int64_t, float*, int64_t);

}  // namespace softhebb
