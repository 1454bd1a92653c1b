// Activation and pooling of one map, the epilogue of a block.
#pragma once

#include <cstdint>
#include <vector>

namespace softhebb {

struct Epilogue {
  bool centre = true;      // subtract the mean over neurons (Triangle)
  double power = 1;        // relu(.)^power
  bool largest = true;     // max pooling; average pooling otherwise, padding counted
  int64_t kernel[2], stride[2], padding[2];
};

// Pools relu(u - mean)^power of a map [height, width] into out [out_height, out_width].
template <typename T>
class MapPool {
 public:
  MapPool(const Epilogue& epilogue, int64_t height, int64_t width, int64_t out_height,
          int64_t out_width)
      : e_(epilogue), height_(height), width_(width), out_height_(out_height),
        out_width_(out_width), map_(height * width), row_(width) {}

  void operator()(const T* u, const T* mean, T* out);

 private:
  const Epilogue e_;
  const int64_t height_, width_, out_height_, out_width_;
  std::vector<T> map_, row_;
};

}  // namespace softhebb
