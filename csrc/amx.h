// Intel's AMX tiles: whether the compiler has them, and a transpose for their operands.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && __has_include(<amxbf16intrin.h>)
#define SOFTHEBB_AMX
#include <ATen/cpu/Utils.h>
#include <cpuid.h>
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 on its own intrinsics
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#endif

#ifdef SOFTHEBB_AMX

#define SOFTHEBB_TILES \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16")))

namespace softhebb {

// Writes the transpose of 16 x 16 pairs.
SOFTHEBB_TILES inline void turn(const __m512i* r, char* to) {
  __m512i s[16], t[16];
  for (int i = 0; i < 16; i += 2) {
    s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      t[i + 2 * j] = _mm512_unpacklo_epi64(s[i + j], s[i + j + 2]);
      t[i + 2 * j + 1] = _mm512_unpackhi_epi64(s[i + j], s[i + j + 2]);
    }
  }
  for (int i = 0; i < 4; ++i) {  // t[4 g + i] holds columns i, 4 + i, ... of rows 4 g, ...
    const __m512i even = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x88);
    const __m512i odd = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xdd);
    const __m512i even_below = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x88);
    const __m512i odd_below = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xdd);
    _mm512_store_si512(to + 64 * i, _mm512_shuffle_i32x4(even, even_below, 0x88));
    _mm512_store_si512(to + 64 * (4 + i), _mm512_shuffle_i32x4(odd, odd_below, 0x88));
    _mm512_store_si512(to + 64 * (8 + i), _mm512_shuffle_i32x4(even, even_below, 0xdd));
    _mm512_store_si512(to + 64 * (12 + i), _mm512_shuffle_i32x4(odd, odd_below, 0xdd));
  }
}

}  // namespace softhebb

#endif
