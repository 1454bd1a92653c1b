#include <algorithm>

#include "geometry.h"
#include "multiversion.h"

namespace softhebb {
namespace {

int32_t source(int64_t i, int64_t size, const std::string& mode) {
  if (i >= 0 && i < size) return static_cast<int32_t>(i);
  if (mode == "zeros") return -1;
  if (mode == "reflect") return static_cast<int32_t>(i < 0 ? -i : 2 * (size - 1) - i);
  if (mode == "replicate") return static_cast<int32_t>(i < 0 ? 0 : size - 1);
  return static_cast<int32_t>(i < 0 ? i + size : i - size);
}

std::vector<int32_t> padded(int64_t size, int64_t padding, const std::string& mode) {
  std::vector<int32_t> table(size + 2 * padding);
  for (size_t i = 0; i < table.size(); ++i) {
    table[i] = source(static_cast<int64_t>(i) - padding, size, mode);
  }
  return table;
}

int64_t out_size(int64_t size, int64_t taps, const Window& w, int axis) {
  return (size + 2 * w.padding[axis] - w.dilation[axis] * (taps - 1) - 1) / w.stride[axis] + 1;
}

template <int64_t N, typename in_t, typename T>
void copy_row(const in_t* __restrict from, int64_t step, int64_t size, T* __restrict to) {
  const int64_t n = N ? N : size, every = N ? 1 : step;
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(from[i * every]);
}

// Rows [first, first + count) of one padded channel, in the dtype of accumulation.
template <int64_t N, typename in_t, typename T>
void pad_channel(const in_t* channel, const Geometry& g, int64_t first, int64_t count, T* to) {
  const int64_t width = g.padded_column.size(), edge = g.window.padding[1], step = g.x_stride[3];
  const int32_t *row_of = g.padded_row.data(), *column_of = g.padded_column.data();
  for (int64_t q = first; q < first + count; ++q, to += width) {
    if (row_of[q] < 0) {
      std::fill_n(to, width, T(0));
      continue;
    }
    const in_t* row = channel + row_of[q] * g.x_stride[2];
    copy_row<N>(row, step, g.width, to + edge);
    for (int64_t i = 0; i < edge; ++i) {
      const int32_t left = column_of[i], right = column_of[width - 1 - i];
      to[i] = left < 0 ? T(0) : static_cast<T>(row[left * step]);
      to[width - 1 - i] = right < 0 ? T(0) : static_cast<T>(row[right * step]);
    }
  }
}

// Every tap's view of a padded channel, [out_rows, out_width], one tap a line.
template <typename T>
struct SpreadChannel {
  const T* from;
  T* to;
  int64_t width, line, rows, columns, out_rows, out_width;
  Window window;
};

// N is the width of the output if it is a common one, 0 if not.
template <typename T, int64_t N>
SOFTHEBB_INLINE void spread_rows(const SpreadChannel<T>& a, const T* from, T* to) {
  const int64_t width = N ? N : a.out_width, step = N ? 1 : a.window.stride[1];
  for (int64_t oy = 0; oy < a.out_rows; ++oy, to += width) {
    const T* row = from + oy * a.window.stride[0] * a.width;
#pragma omp simd
    for (int64_t ox = 0; ox < width; ++ox) to[ox] = row[ox * step];
  }
}

template <typename T>
SOFTHEBB_INLINE void spread_channel_body(const SpreadChannel<T>& a) {
  const int64_t width = a.window.stride[1] == 1 ? a.out_width : 0;
  T* to = a.to;
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t s = 0; s < a.columns; ++s, to += a.line) {
      const T* from = a.from + r * a.window.dilation[0] * a.width + s * a.window.dilation[1];
      switch (width) {
        case 8:
          spread_rows<T, 8>(a, from, to);
          break;
        case 16:
          spread_rows<T, 16>(a, from, to);
          break;
        case 32:
          spread_rows<T, 32>(a, from, to);
          break;
        default:
          spread_rows<T, 0>(a, from, to);
      }
    }
  }
}

SOFTHEBB_KERNEL(spread_channel, SpreadChannel)

// Output rows [oy, oy + count) of one image whose channels lie next to each other.
template <typename in_t, typename T>
void im2col_channels_last(const in_t* image, const Geometry& g, int64_t oy, int64_t count, T* to,
                          int64_t line) {
  constexpr int64_t kBlock = 16;
  const int64_t taps = g.rows * g.columns;
  for (int64_t c = 0; c < g.channels; c += kBlock) {
    const int64_t n = std::min(kBlock, g.channels - c);
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int64_t top = tap / g.columns * g.window.dilation[0];
      const int64_t left = tap % g.columns * g.window.dilation[1];
      T* lines = to + (c * taps + tap) * line;
      for (int64_t i = oy; i < oy + count; ++i) {
        const int32_t y = g.padded_row[top + i * g.window.stride[0]];
        for (int64_t ox = 0; ox < g.out_width; ++ox, ++lines) {
          const int32_t x = g.padded_column[left + ox * g.window.stride[1]];
          if (y < 0 || x < 0) {
            for (int64_t k = 0; k < n; ++k) lines[k * taps * line] = T(0);
          } else {
            const in_t* from = image + y * g.x_stride[2] + x * g.x_stride[3] + c;
            for (int64_t k = 0; k < n; ++k) lines[k * taps * line] = static_cast<T>(from[k]);
          }
        }
      }
    }
  }
}

// The patches of a linear layer: x transposed, in blocks that stay in cache.
template <typename in_t, typename T>
void im2col_linear(const in_t* x, const Geometry& g, int64_t count, T* to, int64_t line) {
  constexpr int64_t kBlock = 16;
  for (int64_t c = 0; c < g.channels; c += kBlock) {
    const int64_t end = std::min(c + kBlock, g.channels);
    for (int64_t i = 0; i < count; ++i) {
      const in_t* from = x + i * g.x_stride[0];
      for (int64_t k = c; k < end; ++k) to[k * line + i] = static_cast<T>(from[k * g.x_stride[1]]);
    }
  }
}

}  // namespace

Geometry::Geometry(const at::Tensor& x, const at::Tensor& weight, const Window& w, int64_t groups_,
                   const std::string& mode)
    : batch(x.size(0)),
      channels(x.size(1)),
      height(x.size(2)),
      width(x.size(3)),
      filters(weight.size(0)),
      rows(weight.size(2)),
      columns(weight.size(3)),
      groups(groups_),
      out_height(out_size(height, rows, w, 0)),
      out_width(out_size(width, columns, w, 1)),
      x_stride{x.stride(0), x.stride(1), x.stride(2), x.stride(3)},
      window(w),
      padded_row(padded(height, w.padding[0], mode)),
      padded_column(padded(width, w.padding[1], mode)) {}

template <typename in_t, typename T>
void im2col(const in_t* x, const Geometry& g, int64_t row, int64_t count, T* to, int64_t line) {
  if (g.is_linear()) return im2col_linear(x + row * g.x_stride[0], g, count, to, line);
  const bool channels_last = g.x_stride[1] == 1 && g.x_stride[3] != 1 && g.channels > 1;
  const int64_t stride = g.window.stride[0], reach = (g.rows - 1) * g.window.dilation[0];
  const int64_t width = g.padded_column.size(), taps = g.rows * g.columns;
  const int64_t common = g.x_stride[3] == 1 ? g.width : 0;
  const auto pad = common == 8    ? pad_channel<8, in_t, T>
                   : common == 16 ? pad_channel<16, in_t, T>
                   : common == 32 ? pad_channel<32, in_t, T>
                                  : pad_channel<0, in_t, T>;
  std::vector<T> channel(channels_last ? 0 : g.padded_row.size() * width);
  for (const int64_t end = row + count; row < end;) {
    const int64_t oy = row % g.out_height, rows = std::min(end - row, g.out_height - oy);
    const in_t* image = x + row / g.out_height * g.x_stride[0];
    if (channels_last) {
      im2col_channels_last(image, g, oy, rows, to, line);
    } else {
      for (int64_t c = 0; c < g.channels; ++c) {
        const int64_t padded_rows = (rows - 1) * stride + reach + 1;
        pad(image + c * g.x_stride[1], g, oy * stride, padded_rows, channel.data());
        spread_channel<T>({channel.data(), to + c * taps * line, width, line, g.rows, g.columns,
                           rows, g.out_width, g.window});
      }
    }
    row += rows;
    to += rows * g.out_width;
  }
}

template void im2col(const float*, const Geometry&, int64_t, int64_t, float*, int64_t);
template void im2col(const double*, const Geometry&, int64_t, int64_t, double*, int64_t);
template void im2col(const at::Half*, const Geometry&, int64_t, int64_t, float*, int64_t);
template void im2col(const at::BFloat16*, const Geometry&, int64_t, int64_t, float*, int64_t);

}  // namespace softhebb
