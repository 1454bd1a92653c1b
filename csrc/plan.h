// How a layer's positions are cut into panels, tiles and partial sums: by its shape alone.
#pragma once

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "geometry.h"

namespace softhebb {

// A tile is a block of output rows whose pre-activations are computed and compete in cache.
// Small layers add each tile's y x_p to one of `partial_sums` sums at once. Large ones keep a panel of
// tiles and multiply it in slices of neurons or of patch elements, or by Winograd.
struct Plan {
  bool winograd, small;
  bool pool_in_tile;  // tiles are whole images, which their pooling needs
  bool reduces;       // the triangle's way of fewer multiplications, see Triangle
  int64_t tile_rows, panel_rows, partial_sums = 16;

  Plan(const Geometry& g, int64_t element_size, bool pools, bool learns, bool may_transform,
       bool correlates, bool may_reduce) {
    const int64_t rows = g.batch * g.out_height, width = g.out_width;
    const int64_t weights = g.filters * g.patch();
    winograd = may_transform && wants_winograd(g, element_size, learns);
    const bool few = weights <= 1 << 16 && (!correlates || g.group_filters() <= 256);
    reduces = may_reduce && (winograd || !few) && reducing_is_cheap(g, winograd);
    winograd = winograd && !reduces;
    small = few && !winograd && !reduces;
    pool_in_tile = pools && g.plane() <= 2048;
    const int64_t target = small ? 512 : weights <= 1 << 20 ? 256 : 160;
    const int64_t unit = pool_in_tile ? g.out_height : 1;  // rows that stay together
    tile_rows = std::max<int64_t>(target / (unit * width), 1) * unit;
    tile_rows = std::clamp<int64_t>(tile_rows, 1, std::max<int64_t>(rows, 1));
    int64_t held = small      ? 0
                   : winograd ? held_by_winograd(g, learns)
                              : g.groups * g.patch() + g.filters;
    if (pools && !pool_in_tile) held += g.filters;
    const int64_t most = held ? kPanelBytes / (held * element_size * width) : rows;
    panel_rows = std::max(most / tile_rows, int64_t{1}) * tile_rows;
    if (pools || winograd) panel_rows = std::max(panel_rows / g.out_height, int64_t{1}) * g.out_height;
    panel_rows = std::min(panel_rows, rows);
  }

  static constexpr int64_t kPanelBytes = 24 << 20;

 private:
  // Where it saves more multiplications than its transforms cost. The environment may ask for it
  // always or never.
  static bool wants_winograd(const Geometry& g, int64_t element_size, bool learns) {
    const char* found = std::getenv("SOFTHEBB_FAST_WINOGRAD");
    const std::string_view choice = found && *found ? found : "auto";
    TORCH_CHECK_VALUE(choice == "auto" || choice == "0" || choice == "1",
                      "SOFTHEBB_FAST_WINOGRAD must be auto, 0 or 1; got ", choice);
    if (choice == "0" || !is_3x3(g)) return false;
    const int64_t padded = (g.out_height + 1) / 2 * ((g.out_width + 1) / 2) * 4;
    const int64_t image = held_by_winograd(g, learns) * element_size * g.plane();
    return choice == "1" || (element_size == 4 && g.channels >= 32 && g.filters >= 64 &&
                             2 * padded <= 3 * g.plane() && image <= 2 * kPanelBytes);
  }

  // Elements a position: transformed patches, transposed too if they are used again, and u.
  static int64_t held_by_winograd(const Geometry& g, bool learns) {
    return (learns ? 8 : 4) * g.channels + g.filters;
  }

  // For a neuron and an element of its patch: one more product over positions, and Winograd's
  // savings given up, against half a correlation of all neurons and half a product with it.
  static bool reducing_is_cheap(const Geometry& g, bool winograd) {
    const double positions = g.positions(), patch = g.patch();
    return (winograd ? 4 : 2) * positions * patch < g.group_filters() * (positions + patch);
  }

  static bool is_3x3(const Geometry& g) {
    const Window& w = g.window;
    return g.rows == 3 && g.columns == 3 && g.groups == 1 && w.stride[0] == 1 &&
           w.stride[1] == 1 && w.dilation[0] == 1 && w.dilation[1] == 1;
  }
};

}  // namespace softhebb
