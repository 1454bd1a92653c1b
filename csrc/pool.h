// What follows u in a block: relu(u - mean over neurons)^power, then pooling.
#pragma once

#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <string_view>

namespace softhebb {

struct Epilogue {
  Epilogue(bool centre, double power, std::string_view pool, c10::IntArrayRef kernel,
           c10::IntArrayRef stride, c10::IntArrayRef padding, int64_t groups)
      : centre(centre),
        power(power),
        largest(pool == "max"),
        kernel{kernel[0], kernel[1]},
        stride{stride[0], stride[1]},
        padding{padding[0], padding[1]},
        groups(groups) {
    TORCH_CHECK(power > 0, "power must be positive; got ", power);
    TORCH_CHECK(largest || pool == "avg", "pool must be max or avg; got ", pool);
    for (int axis = 0; axis < 2; ++axis) {
      TORCH_CHECK(kernel[axis] > 0 && stride[axis] > 0 && padding[axis] >= 0 &&
                      2 * padding[axis] <= kernel[axis],
                  "the pool's padding must be at most half of its kernel; got ", padding[axis],
                  " and ", kernel[axis]);
    }
  }

  // Of an axis of the map, positions of the pooled map.
  int64_t size(int64_t map, int axis) const {
    const int64_t room = map + 2 * padding[axis] - kernel[axis];
    return room < 0 ? 0 : room / stride[axis] + 1;
  }

  bool centre;  // subtract the mean over the neurons of a group (Triangle)
  double power;
  bool largest;  // max pooling; average pooling otherwise, padding counted
  int64_t kernel[2], stride[2], padding[2];
  int64_t groups;  // equal parts of the neurons, each with a mean of its own
};

}  // namespace softhebb
