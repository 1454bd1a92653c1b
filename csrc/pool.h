// What follows u in a block: relu(u - mean over neurons)^power, then pooling.
#pragma once

#include <cstdint>

namespace softhebb {

struct Epilogue {
  bool centre;  // subtract the mean over neurons (Triangle)
  double power;
  bool largest;  // max pooling; average pooling otherwise, padding counted
  int64_t kernel[2], stride[2], padding[2];
};

}  // namespace softhebb
