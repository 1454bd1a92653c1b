#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels.h"
#include "ordered_sums.h"
#include "multiversion.h"
#include "vector_math.h"

namespace softhebb {
namespace {

// Sixteen neurons at a time: one running sum would round once a neuron at its full size.
template <typename T>
SOFTHEBB_INLINE void mean_of(const T* u, int64_t line, int64_t neurons, int64_t n, T* mean) {
  for (int64_t j = 0; j < n; ++j) mean[j] = T(0);
  for (int64_t begin = 0; begin < neurons; begin += 16) {
    const int64_t end = begin + 16 < neurons ? begin + 16 : neurons;
    T part[kStrip] = {};
    for (int64_t k = begin; k < end; ++k) {
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) part[j] += u[k * line + j];
    }
    for (int64_t j = 0; j < n; ++j) mean[j] += part[j];
  }
  const T count = static_cast<T>(neurons);
  for (int64_t j = 0; j < n; ++j) mean[j] /= count;
}

template <typename T>
SOFTHEBB_INLINE void prepare_strip_body(const PrepareStrip<T>& a) {
  T mean[kStrip];
  if (a.bias) {
    for (int64_t k = 0; k < a.neurons; ++k) {
      const T bias = a.bias[k];
#pragma omp simd
      for (int64_t j = 0; j < a.positions; ++j) a.u[k * a.line + j] += bias;
    }
  }
  if (a.rectify) {
    mean_of(a.u, a.line, a.neurons, a.positions, mean);
    for (int64_t k = 0; k < a.neurons; ++k) {
#pragma omp simd
      for (int64_t j = 0; j < a.positions; ++j) {
        const T v = a.u[k * a.line + j] - mean[j];
        a.u[k * a.line + j] = v < T(0) ? T(0) : v;
      }
    }
  }
  if (!a.mean) return;
  const int64_t share = a.neurons / a.groups;
  for (int64_t g = 0; g < a.groups; ++g) {
    mean_of(a.u + g * share * a.line, a.line, share, a.positions, a.mean + g * a.mean_line);
  }
}

// N is the number of positions if it is known, 0 if not: full strips keep their state in registers.
template <typename T, int64_t N>
SOFTHEBB_INLINE void find_winners_of(const FindWinners<T>& a) {
  const int64_t n = N ? N : a.positions;
  T best[kStrip];
  int32_t winner[kStrip];
  for (int64_t j = 0; j < n; ++j) best[j] = a.u[j], winner[j] = 0;
  for (int64_t k = 1; k < a.neurons; ++k) {
    const T* u = a.u + k * a.line;
    const int32_t neuron = static_cast<int32_t>(k);
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const bool better = !(u[j] <= best[j]) & (best[j] == best[j]);
      best[j] = better ? u[j] : best[j];
      winner[j] = better ? neuron : winner[j];
    }
  }
  std::copy_n(best, n, a.largest);
  std::copy_n(winner, n, a.winner);
}

template <typename T>
SOFTHEBB_INLINE void find_winners_body(const FindWinners<T>& a) {
  a.positions == kStrip ? find_winners_of<T, kStrip>(a) : find_winners_of<T, 0>(a);
}

// Numbers as integers that rank like them: zeros of both signs alike, NaN above all.
template <typename T>
SOFTHEBB_INLINE auto rank_bits(T x) {
  using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  constexpr Bits kMost = std::numeric_limits<Bits>::max();
  const Bits bits = __builtin_bit_cast(Bits, x + T(0));
  const Bits signless = bits < 0 ? bits ^ kMost : bits;
  return x == x ? signless : kMost;
}

// A pass a rank: the first of the largest of those that come after the one before.
template <typename T, int64_t N>
SOFTHEBB_INLINE void find_ranked_of(const FindRanked<T>& a) {
  using Bits = decltype(rank_bits(T()));
  const int64_t n = N ? N : a.positions;
  Bits above[kStrip], best[kStrip], winner[kStrip], last[kStrip], found[kStrip];
  for (int64_t j = 0; j < n; ++j) {
    winner[j] = found[j] = a.winner[j];
    best[j] = std::numeric_limits<Bits>::max(), last[j] = -1;
  }
  for (int64_t rank = 1; rank < a.rank; ++rank) {
    for (int64_t j = 0; j < n; ++j) {
      above[j] = best[j], best[j] = std::numeric_limits<Bits>::min();
      if (rank > 1) last[j] = found[j];
    }
    for (int64_t k = 0; k < a.neurons; ++k) {
      const T* u = a.u + k * a.line;
      const Bits neuron = static_cast<Bits>(k);
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) {
        const Bits bits = rank_bits(u[j]);
        const bool after = (bits < above[j]) | ((bits == above[j]) & (neuron > last[j]));
        const bool better = after & (bits > best[j]) & (neuron != winner[j]);
        best[j] = better ? bits : best[j];
        found[j] = better ? neuron : found[j];
      }
    }
  }
  for (int64_t j = 0; j < n; ++j) a.ranked[j] = static_cast<int32_t>(found[j]);
}

template <typename T>
SOFTHEBB_INLINE void find_ranked_body(const FindRanked<T>& a) {
  a.positions == kStrip ? find_ranked_of<T, kStrip>(a) : find_ranked_of<T, 0>(a);
}

template <typename T, int64_t N>
SOFTHEBB_INLINE void soft_strip_of(const SoftStrip<T>& a) {
  const int64_t n = N ? N : a.positions;
  const T t = static_cast<T>(a.competition.t);
  const bool anti = a.competition.anti;
  T largest[kStrip], part[kStrip], scale[kStrip];
  for (int64_t j = 0; j < n; ++j) largest[j] = a.largest[j], part[j] = scale[j] = T(0);
  for (int64_t k = 0; k < a.neurons; ++k) {
    const T* u = a.u + k * a.line;
    T* y = a.y + k * a.y_line;
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const T e = vexp_below(t * (u[j] - largest[j]));
      y[j] = e;
      part[j] += e;
    }
    if (k % 32 == 31 || k == a.neurons - 1) {  // short sums first: less rounding
      for (int64_t j = 0; j < n; ++j) scale[j] += part[j], part[j] = T(0);
    }
  }
  for (int64_t j = 0; j < n; ++j) scale[j] = (anti ? T(-1) : T(1)) / scale[j];
  for (int64_t k = 0; k < a.neurons; ++k) {
    T* y = a.y + k * a.y_line;
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) y[j] *= scale[j];
  }
  for (int64_t j = 0; anti && j < n; ++j) {
    T& y = a.y[a.winner[j] * a.y_line + j];
    y = -y;
  }
}

template <typename T>
SOFTHEBB_INLINE void soft_strip_body(const SoftStrip<T>& a) {
  a.positions == kStrip ? soft_strip_of<T, kStrip>(a) : soft_strip_of<T, 0>(a);
}

template <typename T>
SOFTHEBB_INLINE void sum_strip_body(const SumStrip<T>& a) {
  for (int64_t k = 0; k < a.neurons; ++k) {
    const T* y = a.y + k * a.y_line;
    if (a.sum_y) a.sum_y[k] += ordered_sum(y, a.positions);
    if (a.sum_yu) a.sum_yu[k] += ordered_dot(y, a.u + k * a.line, a.positions);
  }
}

}  // namespace

SOFTHEBB_KERNEL(prepare_strip, PrepareStrip)
SOFTHEBB_KERNEL(find_winners, FindWinners)
SOFTHEBB_KERNEL(find_ranked, FindRanked)
SOFTHEBB_KERNEL(soft_strip, SoftStrip)
SOFTHEBB_KERNEL(sum_strip, SumStrip)

namespace {

uint32_t hash(uint32_t h) {
  h = (h ^ h >> 16) * 0x21f0aaad;
  h = (h ^ h >> 15) * 0x735a2d97;
  return h ^ h >> 15;
}

}  // namespace

template <typename T>
void share_ties(const FindWinners<T>& a, int64_t first) {
  int32_t tied[kStrip] = {};
  const auto ties = [&](int64_t k, int64_t j) {
    const T u = a.u[k * a.line + j], best = a.largest[j];
    return u == best || (u != u && best != best);
  };
  for (int64_t k = 0; k < a.neurons; ++k) {
    for (int64_t j = 0; j < a.positions; ++j) tied[j] += ties(k, j);
  }
  for (int64_t j = 0; j < a.positions; ++j) {
    if (tied[j] < 2) continue;
    int64_t turn = hash(static_cast<uint32_t>(first + j)) % static_cast<uint32_t>(tied[j]);
    for (int64_t k = a.winner[j];; ++k) {
      if (ties(k, j) && turn-- == 0) {
        a.winner[j] = static_cast<int32_t>(k);
        break;
      }
    }
  }
}

template void share_ties(const FindWinners<float>&, int64_t);
template void share_ties(const FindWinners<double>&, int64_t);

// By sorting a part of the neurons at every position: for ranks far down.
template <typename T>
void sort_ranked(const FindRanked<T>& a) {
  std::vector<int32_t> order(a.neurons);
  for (int64_t j = 0; j < a.positions; ++j) {
    const auto before = [&](int32_t i, int32_t k) {
      if (i == a.winner[j] || k == a.winner[j]) return i == a.winner[j] && k != i;
      const T ui = a.u[i * a.line + j], uk = a.u[k * a.line + j];
      const bool nan_i = ui != ui, nan_k = uk != uk;
      if (nan_i || nan_k) return nan_i && nan_k ? i < k : nan_i;
      return ui != uk ? ui > uk : i < k;
    };
    std::iota(order.begin(), order.end(), 0);
    std::nth_element(order.begin(), order.begin() + (a.rank - 1), order.end(), before);
    a.ranked[j] = order[a.rank - 1];
  }
}

template <typename T>
void hard_strip(const HardStrip<T>& a) {
  constexpr int64_t kFew = 32;  // a pass over the neurons for every rank up to here
  const Competition& c = a.competition;
  const int64_t rank = c.ranks() ? c.rank : 0;
  int32_t ranked[kStrip];
  if (rank) {
    const FindRanked<T> found{a.u, a.line, a.neurons, a.positions, rank, a.winner, ranked};
    rank <= kFew ? find_ranked<T>(found) : sort_ranked<T>(found);
  }
  for (int64_t k = 0; k < a.neurons; ++k) std::fill_n(a.y + k * a.y_line, a.positions, T(0));
  for (int64_t j = 0; j < a.positions; ++j) {
    a.y[a.winner[j] * a.y_line + j] = T(1);
    if (!rank) continue;
    T& y = a.y[ranked[j] * a.y_line + j];
    y = (c.overwrite ? T(0) : y) - static_cast<T>(c.delta);
  }
}

template void hard_strip(const HardStrip<float>&);
template void hard_strip(const HardStrip<double>&);

}  // namespace softhebb
