// The transforms of Winograd's F(2x2, 3x3), sixteen lanes at a time. A tile of 2x2 outputs reads
// 4x4 inputs; everything between the transforms is 16 independent matrix products, one a point.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace softhebb {

constexpr int64_t kPoints = 16;

// Where part of a group of kWide tiles lies in the map: outputs from column 2 * tile of the group.
struct TileRun {
  int32_t column, position, columns, rows;
};

// Runs of every group of tiles, groups next to each other: those of i are [first[i], first[i + 1]).
struct TileRuns {
  const TileRun* runs;
  const int32_t* first;
  int64_t groups, width;  // of the map
};

// B^T d B of the tiles of an image, kWide channels of it interleaved and padded.
template <typename T>
struct TransformInput {
  const T* x;  // [2 * down + 2, 2 * across + 2, kWide]
  int64_t down, across, channels;
  T* by_channel;  // [kPoints, channels, down * across]
  int64_t channel_point, channel_line;
  T* by_tile;  // [kPoints, down * across, kWide] or null
  int64_t tile_point, tile_line;
};
template <typename T>
void transform_input(const TransformInput<T>& a);

// G w G^T of one neuron: w [channels, 3, 3].
template <typename T>
struct TransformWeight {
  const T* w;
  int64_t channels;
  T* to;  // [kPoints, channels, rounded up to kWide]
  int64_t point;
};
template <typename T>
void transform_weight(const TransformWeight<T>& a);

// u = A^T m A of one neuron; what is not finite makes *spoilt so.
template <typename T>
struct TransformOutput {
  const T* m;  // [kPoints, tiles, rounded up to kWide]
  int64_t point;
  TileRuns tiles;
  T* u;
  T* spoilt;
};
template <typename T>
void transform_output(const TransformOutput<T>& a);

// The adjoint of the above, A y A^T.
template <typename T>
struct SpreadOutput {
  const T* y;
  TileRuns tiles;
  T* to;  // [kPoints, tiles, rounded up to kWide]
  int64_t point;
};
template <typename T>
void spread_output(const SpreadOutput<T>& a);

// The adjoint of transform_weight, yx (+)= G^T q G.
template <typename T>
struct CollectWeight {
  const T* q;  // [kPoints, channels, rounded up to kWide]
  int64_t point, channels;
  T* yx;  // [channels, 3, 3]
  bool add;
};
template <typename T>
void collect_weight(const CollectWeight<T>& a);

}  // namespace softhebb
