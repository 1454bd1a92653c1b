#include "bf16x3.h"

#include <algorithm>
#include <memory>

#include "amx.h"

namespace softhebb {

#ifdef SOFTHEBB_AMX

namespace {

// A tile is 16 rows of 64 bytes: 16 x 32 of a, or 32 x 16 of b with rows k and k + 1 in pairs.
// A step is what 32 rows of a, or columns of b, need for 32 of k: two tiles high, two tiles low.
constexpr int64_t kTile = 1024, kStep = 4 * kTile, kSide = 32;
constexpr int64_t kDepth = 256;                  // a slab of 32 rows of a stays in L1,
constexpr int64_t kAhead = 8;
constexpr int64_t kColumns = 640;                // a block of b
constexpr int64_t kBlock = int64_t{15} << 14;    // and its block of c in L2
constexpr uint16_t kLimit = (127 + 50) << 8;     // 2^50 in bfloat16 without its sign

struct alignas(64) Packed {
  char a[kSide * kDepth * 4];
  char b[kColumns * kDepth * 4];
};

struct Tiles {  // operand of ldtilecfg: eight tiles of full size
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The high and the low parts of 32 numbers.
struct Parts {
  __m512i high, low;
};

SOFTHEBB_TILES inline __m512i rounded(__m512 u, __m512 v) {
  return (__m512i)_mm512_cvtne2ps_pbh(v, u);
}

SOFTHEBB_TILES inline void note(__m512i high, __m512i& largest) {
  largest = _mm512_max_epu16(largest, _mm512_slli_epi16(high, 1));
}

// Those of u, then those of v.
SOFTHEBB_TILES inline Parts split(__m512 u, __m512 v, __m512i& largest) {
  const __m512i high = rounded(u, v);
  note(high, largest);
  const __m512i high_u = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(high));
  const __m512i high_v = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(high, 1));
  u = _mm512_sub_ps(u, _mm512_castsi512_ps(_mm512_slli_epi32(high_u, 16)));
  v = _mm512_sub_ps(v, _mm512_castsi512_ps(_mm512_slli_epi32(high_v, 16)));
  return {high, rounded(u, v)};
}

// Those of u and v in turn.
SOFTHEBB_TILES inline Parts split_pairs(__m512 u, __m512 v, __m512i pairs, __m512i& largest) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  const __m512i high = _mm512_permutexvar_epi16(pairs, rounded(u, v));
  note(high, largest);
  u = _mm512_sub_ps(u, _mm512_castsi512_ps(_mm512_slli_epi32(high, 16)));
  v = _mm512_sub_ps(v, _mm512_castsi512_ps(_mm512_and_si512(high, upper)));
  return {high, _mm512_permutexvar_epi16(pairs, rounded(u, v))};
}

SOFTHEBB_TILES inline void fetch(const float* from) {
  _mm_prefetch(from, _MM_HINT_T0);
  _mm_prefetch(from + 16, _MM_HINT_T0);
}

SOFTHEBB_TILES inline __mmask16 first(int64_t n) {
  return n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1;
}

SOFTHEBB_TILES inline Parts split_row(const float* row, int64_t n, __m512i& largest) {
  return split(_mm512_maskz_loadu_ps(first(n), row), _mm512_maskz_loadu_ps(first(n - 16), row + 16),
               largest);
}

SOFTHEBB_TILES void pack_rows(View<const float> a, int64_t m, int64_t k, char* to,
                              __m512i& largest) {
  for (int64_t i = 0; i < kSide; ++i) {
    char* line = to + i / 16 * kTile + i % 16 * 64;
    const float* row = a.at(std::min(i, m - 1), 0);
    const int64_t length = i < m ? k : 0;
    for (int64_t p = 0; p < k; p += 32, line += kStep) {
      fetch(row + p + kAhead * a.line);
      const Parts parts = split_row(row + p, length - p, largest);
      _mm512_store_si512(line, parts.high);
      _mm512_store_si512(line + 2 * kTile, parts.low);
    }
  }
}

// Slabs of 32 columns, one after the other.
SOFTHEBB_TILES void pack_columns(View<const float> b, int64_t k, int64_t n, char* to,
                                 __m512i& largest) {
  alignas(64) int16_t order[32];
  for (int16_t i = 0; i < 32; ++i) order[i] = i / 2 + i % 2 * 16;
  const __m512i pairs = _mm512_load_si512(order);
  const int64_t steps = (k + 31) / 32;
  for (int64_t p = 0; p < steps * 32; p += 2) {
    char* line = to + p / 32 * kStep + p % 32 / 2 * 64;
    const float* row = b.at(std::min(p, k - 1), 0);
    const float* next = b.at(std::min(p + 1, k - 1), 0);
    for (int64_t j = 0; j < n; j += kSide, line += steps * kStep) {
      fetch(row + kAhead * b.line + j);
      fetch(next + kAhead * b.line + j);
      for (int64_t h = 0; h < 2; ++h) {
        const int64_t at = j + 16 * h;
        const __m512 u = _mm512_maskz_loadu_ps(p < k ? first(n - at) : 0, row + at);
        const __m512 v = _mm512_maskz_loadu_ps(p + 1 < k ? first(n - at) : 0, next + at);
        const Parts parts = split_pairs(u, v, pairs, largest);
        _mm512_store_si512(line + h * kTile, parts.high);
        _mm512_store_si512(line + (2 + h) * kTile, parts.low);
      }
    }
  }
}

// As pack_columns, of a b whose columns are contiguous.
SOFTHEBB_TILES void pack_turned(View<const float> b, int64_t k, int64_t n, char* to,
                                __m512i& largest) {
  const int64_t steps = (k + 31) / 32;
  for (int64_t j = 0; j < (n + 31) / 32 * 32; j += 16) {
    char* tile = to + j / 32 * steps * kStep + j % 32 / 16 * kTile;
    for (int64_t p = 0; p < k; p += 32, tile += kStep) {
      __m512i high[16], low[16];
      for (int64_t i = 0; i < 16; ++i) {
        const float* column = b.at(p, std::min(j + i, n - 1));
        fetch(column + 16 * b.step);
        const Parts parts = split_row(column, j + i < n ? k - p : 0, largest);
        high[i] = parts.high, low[i] = parts.low;
      }
      turn(high, tile);
      turn(low, tile + 2 * kTile);
    }
  }
}

// c [32, 32] = a b or c += a b. The compiler takes the tile intrinsics for free of memory accesses.
SOFTHEBB_TILES __attribute__((noinline)) void multiply_slabs(const char* a, const char* b,
                                                             int64_t steps, float* c, int64_t line,
                                                             bool add) {
  __asm__ __volatile__("" ::: "memory");
  const int64_t bytes = line * static_cast<int64_t>(sizeof(float));
  float* below = c + 16 * line;
  if (add) {
    _tile_loadd(0, c, bytes);
    _tile_loadd(1, c + 16, bytes);
    _tile_loadd(2, below, bytes);
    _tile_loadd(3, below + 16, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (; steps > 0; --steps, a += kStep, b += kStep) {
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + kTile, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + kTile, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    _tile_loadd(4, a + 2 * kTile, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + 3 * kTile, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b + 2 * kTile, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + 3 * kTile, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + kTile, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, bytes);
  _tile_stored(1, c + 16, bytes);
  _tile_stored(2, below, bytes);
  _tile_stored(3, below + 16, bytes);
  __asm__ __volatile__("" ::: "memory");
}

// The same for a corner [m, n] of c, on a copy.
void multiply_corner(const char* a, const char* b, int64_t steps, View<float> c, int64_t m,
                     int64_t n, bool add) {
  alignas(64) float whole[kSide * kSide] = {};
  for (int64_t i = 0; add && i < m; ++i) std::copy_n(c.at(i, 0), n, whole + i * kSide);
  multiply_slabs(a, b, steps, whole, kSide, add);
  for (int64_t i = 0; i < m; ++i) std::copy_n(whole + i * kSide, n, c.at(i, 0));
}

// Parts of equal length, a multiple of 32, each at most `most`.
int64_t even_part(int64_t size, int64_t most) {
  const int64_t parts = (size + most - 1) / most, part = (size + parts - 1) / parts;
  return (part + kSide - 1) / kSide * kSide;
}

SOFTHEBB_TILES bool multiply_tiles(View<float> c, View<const float> a, View<const float> b,
                                   int64_t m, int64_t n, int64_t k, bool add) {
  thread_local std::unique_ptr<Packed> packed;
  if (!packed) packed = std::make_unique<Packed>();
  const Tiles tiles;
  _tile_loadconfig(&tiles);
  __m512i largest = _mm512_setzero_si512();
  const auto pack = b.step == 1 ? pack_columns : pack_turned;
  const int64_t columns = even_part(n, kColumns);
  const int64_t rows = even_part(m, std::max(kSide, kBlock / columns / kSide * kSide));
  for (int64_t j = 0; j < n; j += columns) {
    const int64_t j_end = std::min(n, j + columns);
    for (int64_t i = 0; i < m; i += rows) {
      const int64_t i_end = std::min(m, i + rows);
      for (int64_t p = 0; p < k; p += kDepth) {
        const int64_t depth = std::min(kDepth, k - p), steps = (depth + 31) / 32;
        pack(b.block(p, j), depth, j_end - j, packed->b, largest);
        for (int64_t ii = i; ii < i_end; ii += kSide) {
          pack_rows(a.block(ii, p), i_end - ii, depth, packed->a, largest);
          const char* slab = packed->b;
          for (int64_t jj = j; jj < j_end; jj += kSide, slab += steps * kStep) {
            const View<float> to = c.block(ii, jj);
            if (i_end - ii >= kSide && j_end - jj >= kSide) {
              multiply_slabs(packed->a, slab, steps, to.data, to.line, add || p > 0);
            } else {
              multiply_corner(packed->a, slab, steps, to, std::min(kSide, i_end - ii),
                              std::min(kSide, j_end - jj), add || p > 0);
            }
          }
        }
      }
    }
  }
  _tile_release();
  alignas(64) uint16_t lanes[32];
  _mm512_store_si512(lanes, largest);
  return *std::max_element(lanes, lanes + 32) <= kLimit;
}

}  // namespace

const char* bf16x3_missing() {
  static const char* const missing = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool tiles = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1);
    const bool vectors = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
    const bool here = tiles && vectors && at::cpu::init_amx();
    return here ? nullptr : "this CPU, or its operating system, has no AMX tiles for bfloat16";
  }();
  return missing;
}

bool multiply_bf16x3(View<float> c, View<const float> a, View<const float> b, int64_t m, int64_t n,
                    int64_t k, bool add) {
  return multiply_tiles(c, a, b, m, n, k, add);
}

#else

const char* bf16x3_missing() { return "the native kernels were built without AMX tiles"; }

bool multiply_bf16x3(View<float>, View<const float>, View<const float>, int64_t, int64_t, int64_t,
                    bool) {
  return false;
}

#endif

}  // namespace softhebb
