#include "outputs.h"

#include <algorithm>
#include <vector>

#include "kernels.h"

namespace softhebb {

template <typename in_t, typename T>
void write_u(const at::Tensor& out, int64_t position, View<const T> u, int64_t count) {
  constexpr int64_t kBlock = 16;
  const int64_t neurons = out.size(1), plane = out.size(2) * out.size(3);
  // of a linear layer, whose maps are single positions, those of all images
  const bool linear = plane == 1;
  const int64_t channel = out.stride(1), step = linear ? out.stride(0) : out.stride(3);
  for (int64_t done = 0; done < count;) {
    const int64_t image = linear ? 0 : (position + done) / plane;
    const int64_t offset = position + done - image * plane;
    const int64_t run = linear ? count : std::min(count - done, plane - offset);
    in_t* start = out.data_ptr<in_t>() + image * out.stride(0) + offset * step;
    for (int64_t k = 0; k < neurons; k += kBlock) {
      const int64_t last = std::min(k + kBlock, neurons);
      if (step == 1) {
        for (int64_t i = k; i < last; ++i) {
          const T* from = u.at(i, done);
          in_t* to = start + i * channel;
          for (int64_t j = 0; j < run; ++j) to[j] = static_cast<in_t>(from[j]);
        }
      } else {
        for (int64_t j = 0; j < run; ++j) {
          in_t* to = start + j * step;
          for (int64_t i = k; i < last; ++i)
            to[i * channel] = static_cast<in_t>(*u.at(i, done + j));
        }
      }
    }
    done += run;
  }
}

template <typename in_t, typename T>
void write_pooled(const at::Tensor& out, const Epilogue& e, int64_t image, View<const T> u,
                  const T* mean, int64_t height, int64_t width, int64_t begin, int64_t end) {
  constexpr bool kDirect = std::is_same_v<in_t, T>;
  const int64_t out_height = out.size(2), out_width = out.size(3), size = out_height * out_width;
  std::vector<T> scratch(pool_scratch(height, width, out_height, e.padding[1], e.kernel[1]));
  std::vector<T> pooled(kDirect ? 0 : size);
  in_t* maps = out.data_ptr<in_t>() + image * out.size(1) * size;
  for (int64_t k = begin; k < end; ++k) {
    T* to = pooled.data();
    if constexpr (kDirect) to = maps + k * size;
    pool_map<T>({u.at(k, 0),
                 mean,
                 to,
                 scratch.data(),
                 height,
                 width,
                 out_height,
                 out_width,
                 {e.kernel[0], e.kernel[1]},
                 {e.stride[0], e.stride[1]},
                 {e.padding[0], e.padding[1]},
                 static_cast<T>(e.power),
                 e.largest});
    if constexpr (!kDirect) std::copy(pooled.begin(), pooled.end(), maps + k * size);
  }
}

#define SOFTHEBB_OUTPUTS(in_t, T)                                                                 \
  template void write_u<in_t, T>(const at::Tensor&, int64_t, View<const T>, int64_t);             \
  template void write_pooled<in_t, T>(const at::Tensor&, const Epilogue&, int64_t, View<const T>, \
                                      const T*, int64_t, int64_t, int64_t, int64_t);

SOFTHEBB_OUTPUTS(float, float)
SOFTHEBB_OUTPUTS(double, double)
SOFTHEBB_OUTPUTS(at::Half, float)
SOFTHEBB_OUTPUTS(at::BFloat16, float)

}  // namespace softhebb
