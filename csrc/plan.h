// How a layer's positions are cut into panels, tiles and lanes: by its shape alone.
#pragma once

#include <algorithm>

#include "geometry.h"

namespace softhebb {

// A tile is a block of output rows whose pre-activations are computed and compete in cache.
// Small layers add each tile's y x_p to one of `lanes` sums at once. Large ones keep a panel of
// tiles and multiply it in slices of neurons or of patch elements.
struct Plan {
  bool small;
  bool pool_in_tile;  // tiles are whole images, which their pooling needs
  int64_t tile_rows, panel_rows, lanes = 16;

  Plan(const Geometry& g, int64_t element_size, bool pools) {
    const int64_t rows = g.batch * g.out_height, width = g.out_width;
    const int64_t weights = g.filters * g.patch(), patches = g.groups * g.patch();
    small = weights <= 1 << 16;
    pool_in_tile = pools && g.plane() <= 2048;
    const int64_t target = small ? 512 : weights <= 1 << 20 ? 256 : 160;
    const int64_t unit = pool_in_tile ? g.out_height : 1;  // rows that stay together
    tile_rows = std::max<int64_t>(target / (unit * width), 1) * unit;
    tile_rows = std::clamp<int64_t>(tile_rows, 1, std::max<int64_t>(rows, 1));
    const int64_t held =
        (small ? 0 : patches + g.filters) + (pools && !pool_in_tile ? g.filters : 0);
    const int64_t most = held ? kPanelBytes / (held * element_size * width) : rows;
    panel_rows = std::max(most / tile_rows, int64_t{1}) * tile_rows;
    if (pools) panel_rows = std::max(panel_rows / g.out_height, int64_t{1}) * g.out_height;
    panel_rows = std::min(panel_rows, rows);
  }

  static constexpr int64_t kPanelBytes = 24 << 20;
};

}  // namespace softhebb
