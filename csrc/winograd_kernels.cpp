#include "winograd_kernels.h"

#include <algorithm>

#include "multiversion.h"

namespace softhebb {
namespace {

template <typename T>
struct WideOf {
  typedef T type __attribute__((vector_size(kWide * sizeof(T))));
};
template <typename T>
using Wide = typename WideOf<T>::type;

template <typename T>
SOFTHEBB_INLINE void load(Wide<T>& to, const T* from) {
  __builtin_memcpy(&to, from, sizeof(to));
}
template <typename T>
SOFTHEBB_INLINE void store(T* to, const Wide<T>& from) {
  __builtin_memcpy(to, &from, sizeof(from));
}

// One dimension of every transform, in place or from `in` to `out`, elements `s` and `d` apart.
template <typename V>
SOFTHEBB_INLINE void input(const V* in, int s, V* out, int d) {
  const V a = in[0], b = in[s], c = in[2 * s], e = in[3 * s];
  out[0] = a - c, out[d] = b + c, out[2 * d] = c - b, out[3 * d] = b - e;
}
template <typename V>
SOFTHEBB_INLINE void weight(const V* in, int s, V* out, int d) {
  const V a = in[0], b = in[s], c = in[2 * s], half = (a + c) * 0.5f, middle = b * 0.5f;
  out[0] = a, out[d] = half + middle, out[2 * d] = half - middle, out[3 * d] = c;
}
template <typename V>
SOFTHEBB_INLINE void weight_adjoint(const V* in, int s, V* out, int d) {
  const V a = in[0], e = in[3 * s];
  const V sum = (in[s] + in[2 * s]) * 0.5f, difference = (in[s] - in[2 * s]) * 0.5f;
  out[0] = a + sum, out[d] = difference, out[2 * d] = sum + e;
}
template <typename V>
SOFTHEBB_INLINE void output(const V* in, int s, V* out, int d) {
  const V b = in[s], c = in[2 * s];
  out[0] = in[0] + b + c, out[d] = b - c - in[3 * s];
}
template <typename V>
SOFTHEBB_INLINE void output_adjoint(const V* in, int s, V* out, int d) {
  const V a = in[0], b = in[s];
  out[0] = a, out[d] = a + b, out[2 * d] = a - b, out[3 * d] = -b;
}

template <typename T>
SOFTHEBB_INLINE void transform_input_body(const TransformInput<T>& a) {
  using V = Wide<T>;
  const int64_t line = (2 * a.across + 2) * kWide, tiles = a.down * a.across;
  alignas(64) T group[kPoints][kWide][kWide];  // of kWide tiles
  for (int64_t first = 0; first < tiles; first += kWide) {
    const int64_t count = std::min(kWide, tiles - first);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t tile = first + i;
      const T* corner = a.x + tile / a.across * 2 * line + tile % a.across * 2 * kWide;
      V d[4][4];
      for (int r = 0; r < 4; ++r) {
        for (int s = 0; s < 4; ++s) load(d[r][s], corner + r * line + s * kWide);
      }
      for (int s = 0; s < 4; ++s) input(&d[0][s], 4, &d[0][s], 4);
      for (int r = 0; r < 4; ++r) input(d[r], 1, d[r], 1);
      for (int p = 0; p < kPoints; ++p) {
        store(group[p][i], d[p / 4][p % 4]);
        if (a.by_tile) store(a.by_tile + p * a.tile_point + tile * a.tile_line, d[p / 4][p % 4]);
      }
    }
    for (int64_t p = 0; p < kPoints; ++p) {
      T* to = a.by_channel + p * a.channel_point + first;
      for (int64_t c = 0; c < a.channels; ++c, to += a.channel_line) {
        for (int64_t i = 0; i < count; ++i) to[i] = group[p][i][c];
      }
    }
  }
}

template <typename T>
SOFTHEBB_INLINE void transform_weight_body(const TransformWeight<T>& a) {
  using V = Wide<T>;
  for (int64_t c = 0; c < a.channels; c += kWide) {
    const int64_t n = std::min(kWide, a.channels - c);
    alignas(64) T taps[9][kWide];
    const T* w = a.w + c * 9;
    if (n == kWide) {
      for (int tap = 0; tap < 9; ++tap) {
        for (int l = 0; l < kWide; ++l) taps[tap][l] = w[l * 9 + tap];
      }
    } else {
      for (int tap = 0; tap < 9; ++tap) {
        for (int l = 0; l < kWide; ++l) taps[tap][l] = l < n ? w[l * 9 + tap] : T(0);
      }
    }
    V g[3][3], half[4][3], full[4];
    for (int tap = 0; tap < 9; ++tap) load(g[tap / 3][tap % 3], taps[tap]);
    for (int s = 0; s < 3; ++s) weight(&g[0][s], 3, &half[0][s], 3);
    for (int r = 0; r < 4; ++r) {
      weight(half[r], 1, full, 1);
      for (int s = 0; s < 4; ++s) store(a.to + (r * 4 + s) * a.point + c, full[s]);
    }
  }
}

template <typename T>
SOFTHEBB_INLINE void collect_weight_body(const CollectWeight<T>& a) {
  using V = Wide<T>;
  for (int64_t c = 0; c < a.channels; c += kWide) {
    const int64_t n = std::min(kWide, a.channels - c);
    V q[4], half[4][3], g[3][3];
    for (int r = 0; r < 4; ++r) {
      for (int s = 0; s < 4; ++s) load(q[s], a.q + (r * 4 + s) * a.point + c);
      weight_adjoint(q, 1, half[r], 1);
    }
    for (int s = 0; s < 3; ++s) weight_adjoint(&half[0][s], 3, &g[0][s], 3);
    alignas(64) T taps[9][kWide];
    for (int tap = 0; tap < 9; ++tap) store(taps[tap], g[tap / 3][tap % 3]);
    T* yx = a.yx + c * 9;
    for (int64_t l = 0; l < n; ++l) {
      for (int tap = 0; tap < 9; ++tap) {
        yx[l * 9 + tap] = (a.add ? yx[l * 9 + tap] : T(0)) + taps[tap][l];
      }
    }
  }
}

template <typename T>
SOFTHEBB_INLINE void transform_output_body(const TransformOutput<T>& a) {
  using V = Wide<T>;
  V spoilt = {};
  for (int64_t group = 0; group < a.tiles.groups; ++group) {
    const T* from = a.m + group * kWide;
    V m[4], half[4][2], u[2][2];
    for (int r = 0; r < 4; ++r) {
      for (int s = 0; s < 4; ++s) load(m[s], from + (r * 4 + s) * a.point);
      output(m, 1, half[r], 1);
    }
    for (int s = 0; s < 2; ++s) output(&half[0][s], 2, &u[0][s], 2);
    alignas(64) T rows[2][2 * kWide];
    for (int r = 0; r < 2; ++r) {
      for (int s = 0; s < 2; ++s) spoilt += u[r][s] - u[r][s];
      for (int i = 0; i < kWide; ++i) rows[r][2 * i] = u[r][0][i], rows[r][2 * i + 1] = u[r][1][i];
    }
    for (int32_t i = a.tiles.first[group]; i < a.tiles.first[group + 1]; ++i) {
      const TileRun run = a.tiles.runs[i];
      for (int r = 0; r < run.rows; ++r) {
        T* to = a.u + run.position + r * a.tiles.width;
        for (int32_t j = 0; j < run.columns; ++j) to[j] = rows[r][run.column + j];
      }
    }
  }
  for (int i = 0; i < kWide; ++i) *a.spoilt += spoilt[i];
}

template <typename T>
SOFTHEBB_INLINE void spread_output_body(const SpreadOutput<T>& a) {
  using V = Wide<T>;
  for (int64_t group = 0; group < a.tiles.groups; ++group) {
    alignas(64) T rows[2][2 * kWide] = {};
    for (int32_t i = a.tiles.first[group]; i < a.tiles.first[group + 1]; ++i) {
      const TileRun run = a.tiles.runs[i];
      for (int r = 0; r < run.rows; ++r) {
        const T* from = a.y + run.position + r * a.tiles.width;
        for (int32_t j = 0; j < run.columns; ++j) rows[r][run.column + j] = from[j];
      }
    }
    V y[2][2], half[4][2], full[4];
    for (int r = 0; r < 2; ++r) {
      for (int i = 0; i < kWide; ++i) y[r][0][i] = rows[r][2 * i], y[r][1][i] = rows[r][2 * i + 1];
    }
    for (int s = 0; s < 2; ++s) output_adjoint(&y[0][s], 2, &half[0][s], 2);
    T* to = a.to + group * kWide;
    for (int r = 0; r < 4; ++r) {
      output_adjoint(half[r], 1, full, 1);
      for (int s = 0; s < 4; ++s) store(to + (r * 4 + s) * a.point, full[s]);
    }
  }
}

}  // namespace

SOFTHEBB_KERNEL(transform_input, TransformInput)
SOFTHEBB_KERNEL(transform_weight, TransformWeight)
SOFTHEBB_KERNEL(transform_output, TransformOutput)
SOFTHEBB_KERNEL(spread_output, SpreadOutput)
SOFTHEBB_KERNEL(collect_weight, CollectWeight)

}  // namespace softhebb
