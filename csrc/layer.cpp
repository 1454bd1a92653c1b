#include "layer.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "kernels.h"
#include "matrix.h"
#include "outputs.h"
#include "plan.h"
#include "precision.h"
#include "split.h"
#include "tasks.h"
#include "workspace.h"

namespace softhebb {
namespace {

int64_t slices_of(int64_t size, int64_t about) {
  return std::max<int64_t>(1, (size + about - 1) / about);
}

template <typename in_t, typename T>
class Pass {
 public:
  Pass(const Geometry& g, const Competition& c, const at::Tensor& x, const at::Tensor& weight,
       const at::Tensor& bias, const Wanted& wanted)
      : g_(g),
        c_(c),
        wanted_(wanted),
        plan_(g, sizeof(T), wanted.pooled.defined()),
        x_(x.const_data_ptr<in_t>()),
        weight_{weight.const_data_ptr<T>(), g.patch(), 1},
        bias_(bias.defined() ? bias.const_data_ptr<T>() : nullptr),
        update_(wanted.update),
        options_(weight.options()),
        split_(std::is_same_v<in_t, float> && split_products() &&
               std::min(g.group_filters(), g.patch()) >= kWorthSplitting) {}

  void run() {
    allocate();
    sweep();
    if (unfit_) {
      split_ = false;
      for (at::Tensor* sums : {&sums_, update_ ? &update_->sum_y : nullptr,
                               update_ ? &update_->sum_yu : nullptr}) {
        if (sums && sums->defined()) sums->zero_();
      }
      sweep();
    }
    if (update_) finish();
  }

 private:
  void sweep() {
    const int64_t rows = g_.batch * g_.out_height;
    for (panel_row_ = 0; panel_row_ < rows; panel_row_ += plan_.panel_rows) {
      panel_rows_ = std::min(plan_.panel_rows, rows - panel_row_);
      tiles_ = (panel_rows_ + plan_.tile_rows - 1) / plan_.tile_rows;
      plan_.small ? run_small() : run_large(panel_row_ + panel_rows_ == rows);
      if (pools() && !plan_.pool_in_tile) pool_panel();
    }
  }

  bool pools() const { return wanted_.pooled.defined(); }

  struct Tile {
    int64_t row, rows, positions, first;  // first position, counted inside the panel
  };

  // Tile i and those after it, `count` in all.
  Tile tile(int64_t i, int64_t count = 1) const {
    const int64_t row = i * plan_.tile_rows;
    const int64_t rows = std::min(count * plan_.tile_rows, panel_rows_ - row);
    return {panel_row_ + row, rows, rows * g_.out_width, row * g_.out_width};
  }

  // Linear layers on the dtype of accumulation read x where it lies.
  bool direct() const {
    return std::is_same_v<in_t, T> && g_.is_linear() &&
           (g_.x_stride[0] == 1 || g_.x_stride[1] == 1);
  }

  static int64_t padded(int64_t line) { return line % 256 == 0 ? line + 16 : line; }

  void allocate() {
    const int64_t width = g_.out_width, patches = g_.groups * g_.patch();
    const int64_t panel = padded(plan_.panel_rows * width), tile = padded(plan_.tile_rows * width);
    const int64_t workers = plan_.small ? at::get_num_threads() : 1;
    const int64_t line = plan_.small ? tile : panel;
    if (!direct()) x_buffer_ = workspace(Slot::patches, {workers, patches, line}, options_);
    y_buffer_ = workspace(Slot::y, {workers, g_.filters, line}, options_);
    if (pools() && wanted_.epilogue->centre) mean_ = at::empty({panel}, options_);
    if (pools() && !plan_.pool_in_tile) {
      u_buffer_ = workspace(Slot::u, {1, g_.filters, panel}, options_);
    } else if (update_ && update_->sum_yu.defined()) {
      u_buffer_ = workspace(Slot::u, {workers, g_.filters, line}, options_);
    }
    if (update_ && plan_.small)
      sums_ = workspace(Slot::sums, {plan_.lanes, g_.filters, g_.patch()}, options_).zero_();
    if (update_ && !plan_.small && g_.batch == 0) update_->yx.zero_();
  }

  static View<T> slot(const at::Tensor& buffer, int64_t i) {
    return {buffer.data_ptr<T>() + i * buffer.stride(0), buffer.stride(1), 1};
  }

  // Patches of a tile [patch elements, positions], and where its u and y go.
  struct Place {
    View<const T> x;
    View<T> u, y;
  };

  Place place(const Tile& t, int64_t worker) const {
    const int64_t column = plan_.small ? 0 : t.first, i = plan_.small ? worker : 0;
    const View<T> y = slot(y_buffer_, i).block(0, column);
    View<T> u = y;
    if (pools() && !plan_.pool_in_tile) {
      u = slot(u_buffer_, 0).block(0, t.first);
    } else if (u_buffer_.defined()) {
      u = slot(u_buffer_, i).block(0, column);
    }
    if constexpr (std::is_same_v<in_t, T>) {
      if (direct()) return {{x_ + t.row * g_.x_stride[0], g_.x_stride[1], g_.x_stride[0]}, u, y};
    }
    return {slot(x_buffer_, i).block(0, column), u, y};
  }

  void gather_tile(const Tile& t, const Place& p) const {
    if (!direct()) gather(x_, g_, t.row, t.rows, const_cast<T*>(p.x.data), p.x.line);
  }

  // c = a b or c += a b.
  void product(View<T> c, View<const T> a, View<const T> b, int64_t m, int64_t n, int64_t k,
               bool add) const {
    if constexpr (std::is_same_v<T, float>) {
      if (split_) {
        if (!multiply_split(c, a, b, m, n, k, add)) unfit_ = true;
        return;
      }
    }
    multiply<T>(c, a, b, m, n, k, add);
  }

  // u of the neurons [begin, end) of every group.
  void multiply_tile(const Tile& t, const Place& p, int64_t begin, int64_t end) const {
    const int64_t share = g_.group_filters(), patch = g_.patch();
    for (int64_t group = 0; group < g_.groups; ++group) {
      const int64_t k = group * share + begin;
      const View<T> u = p.u.block(k, 0);
      const View<const T> w = weight_.block(k, 0), x = p.x.block(group * patch, 0);
      split_ ? product(u, w, x, end - begin, t.positions, patch, false)
             : multiply_in_cache(u, w, x, end - begin, t.positions, patch);
    }
  }

  // Turns u of a tile into what is wanted of it, and into y if the layer learns.
  void compete(const Tile& t, const Place& p, T* sums) const {
    const int64_t line = p.u.line;
    for (int64_t j = 0; j < t.positions; j += kStrip) {
      const int64_t n = std::min(kStrip, t.positions - j);
      T* mean = mean_.defined() ? mean_.template data_ptr<T>() + t.first + j : nullptr;
      prepare_strip<T>({p.u.at(0, j), line, g_.filters, n, bias_, c_.pre_triangle, mean});
    }
    if (plan_.pool_in_tile)
      pool(p.u, t.first, t.row / g_.out_height, t.rows / g_.out_height, 0, g_.filters);
    T largest[kStrip];
    int32_t winner[kStrip];
    const int64_t share = g_.group_filters();
    for (int64_t j = 0; j < t.positions; j += kStrip) {
      const int64_t n = std::min(kStrip, t.positions - j);
      const T* u = p.u.at(0, j);
      if (wanted_.u.defined()) {
        write_u<in_t, T>(wanted_.u, t.row * g_.out_width + j, {const_cast<T*>(u), line, 1}, n);
      }
      if (!update_) continue;
      for (int64_t group = 0; group < g_.groups; ++group) {
        const T* group_u = u + group * share * line;
        T* y = p.y.at(group * share, j);
        find_winners<T>({group_u, line, share, n, largest, winner});
        if (c_.spread) {
          share_ties<T>({group_u, line, share, n, largest, winner}, t.row * g_.out_width + j);
        }
        if (c_.soft()) {
          soft_strip<T>({group_u, y, line, p.y.line, share, n, static_cast<T>(c_.t), c_.anti(),
                         largest, winner});
        } else {
          hard_strip<T>({group_u, y, line, p.y.line, share, n, winner, c_.anti() ? c_.rank : 0,
                         static_cast<T>(c_.delta), c_.overwrite});
        }
      }
      if (sums) {
        sum_strip<T>({p.y.at(0, j), u, p.y.line, line, g_.filters, n,
                      update_->sum_y.defined() ? sums : nullptr,
                      update_->sum_yu.defined() ? sums + g_.filters : nullptr});
      }
    }
  }

  // Where a tile leaves its sums of y and of y u; reduced in the order of tiles.
  void prepare_tile_sums() {
    if (update_ && (update_->sum_y.defined() || update_->sum_yu.defined())) {
      tile_sums_ = at::zeros({tiles_, 2, g_.filters}, options_);
    }
  }

  T* sums_of(int64_t tile) const {
    return tile_sums_.defined() ? tile_sums_.template data_ptr<T>() + tile * 2 * g_.filters
                                : nullptr;
  }

  void collect_tile_sums() {
    if (!tile_sums_.defined()) return;
    const at::Tensor sums = tile_sums_.sum(0);
    if (update_->sum_y.defined()) update_->sum_y.add_(sums[0]);
    if (update_->sum_yu.defined()) update_->sum_yu.add_(sums[1]);
  }

  void run_small() {
    const int64_t share = g_.group_filters(), patch = g_.patch(),
                  lanes = std::min(plan_.lanes, tiles_);
    prepare_tile_sums();
    for_each_task(lanes, [&](int64_t lane, int64_t worker) {
      for (int64_t i = lane * tiles_ / lanes; i < (lane + 1) * tiles_ / lanes; ++i) {
        const Tile t = tile(i);
        const Place p = place(t, worker);
        gather_tile(t, p);
        multiply_tile(t, p, 0, share);
        compete(t, p, sums_of(i));
        if (!update_) continue;
        const View<T> sums = slot(sums_, lane);
        for (int64_t group = 0; group < g_.groups; ++group) {
          product(sums.block(group * share, 0), p.y.block(group * share, 0),
                  p.x.block(group * patch, 0).transposed(), share, patch, t.positions, true);
        }
      }
    });
    collect_tile_sums();
  }

  void run_large(bool last) {
    const int64_t share = g_.group_filters(), patch = g_.patch();
    prepare_tile_sums();
    const int64_t parts = split_                  ? slices_of(share, 384)
                          : tiles_ < kEnoughTasks ? std::min(slices_of(kEnoughTasks, tiles_),
                                                             slices_of(share, 128))
                                                  : 1;
    if (parts == 1 && !split_) {
      for_each_task(tiles_, [&](int64_t i, int64_t) {
        const Tile t = tile(i);
        const Place p = place(t, 0);
        gather_tile(t, p);
        multiply_tile(t, p, 0, share);
        compete(t, p, sums_of(i));
      });
    } else {
      for_each_task(tiles_, [&](int64_t i, int64_t) { gather_tile(tile(i), place(tile(i), 0)); });
      const int64_t wide = split_ ? std::max<int64_t>(640 / (plan_.tile_rows * g_.out_width), 1) : 1;
      for_each_task(slices_of(tiles_, wide) * parts, [&](int64_t task, int64_t) {
        const Tile t = tile(task / parts * wide, wide);
        const int64_t part = task % parts;
        multiply_tile(t, place(t, 0), part * share / parts, (part + 1) * share / parts);
      });
      for_each_task(tiles_,
                    [&](int64_t i, int64_t) { compete(tile(i), place(tile(i), 0), sums_of(i)); });
    }
    collect_tile_sums();
    if (!update_) return;
    const Tile whole{panel_row_, panel_rows_, panel_rows_ * g_.out_width, 0};
    const Place p = place(whole, 0);
    const View<T> yx{update_->yx.data_ptr<T>(), patch, 1};
    const int64_t by_neuron = share >= 512 ? slices_of(share, 384) : 1;
    const int64_t by_patch = by_neuron == 1 ? slices_of(patch, 288) : 1;
    const int64_t tasks = by_neuron * by_patch;
    measured_ = last && by_patch == 1;
    for_each_task(g_.groups * tasks, [&](int64_t task, int64_t) {
      const int64_t group = task / tasks, row = task % tasks / by_patch, column = task % by_patch;
      const int64_t k = group * share + row * share / by_neuron;
      const int64_t k_end = group * share + (row + 1) * share / by_neuron;
      const int64_t begin = column * patch / by_patch, end = (column + 1) * patch / by_patch;
      product(yx.block(k, begin), p.y.block(k, 0),
              p.x.block(group * patch + begin, 0).transposed(), k_end - k, end - begin,
              whole.positions, panel_row_ > 0);
      if (measured_) update_->measure(k, k_end);
    });
  }

  // Pools neurons [begin, end) of whole images: u holds them from position `first` of the panel.
  void pool(View<T> u, int64_t first, int64_t image, int64_t images, int64_t begin,
            int64_t end) const {
    const T* mean = mean_.defined() ? mean_.template const_data_ptr<T>() + first : nullptr;
    for (int64_t i = 0; i < images; ++i) {
      const int64_t at = i * g_.plane();
      write_pooled<in_t, T>(wanted_.pooled, *wanted_.epilogue, image + i, u.block(0, at),
                            mean ? mean + at : nullptr, g_.out_height, g_.out_width, begin, end);
    }
  }

  void pool_panel() const {
    constexpr int64_t kNeurons = 32;
    const int64_t blocks = slices_of(g_.filters, kNeurons), images = panel_rows_ / g_.out_height;
    const View<T> u = slot(u_buffer_, 0);
    for_each_task(images * blocks, [&](int64_t task, int64_t) {
      const int64_t i = task / blocks, begin = task % blocks * kNeurons, first = i * g_.plane();
      pool(u.block(0, first), first, panel_row_ / g_.out_height + i, 1, begin,
           std::min(begin + kNeurons, g_.filters));
    });
  }

  void finish() {
    if (plan_.small) {
      T* yx = update_->yx.data_ptr<T>();
      const T* sums = sums_.template const_data_ptr<T>();
      const int64_t size = g_.filters * g_.patch();
      for (int64_t i = 0; i < size; ++i) {
        T sum = 0;
        for (int64_t lane = 0; lane < plan_.lanes; ++lane) sum += sums[lane * size + i];
        yx[i] = sum;
      }
    }
    if (!measured_) update_->measure_all();
  }

  static constexpr int64_t kEnoughTasks = 8, kWorthSplitting = 64;

  const Geometry& g_;
  const Competition& c_;
  const Wanted& wanted_;
  const Plan plan_;
  const in_t* x_;
  const View<const T> weight_;
  const T* bias_;
  Update* update_;
  at::TensorOptions options_;
  at::Tensor x_buffer_, y_buffer_, u_buffer_, mean_, sums_, tile_sums_;
  int64_t panel_row_ = 0, panel_rows_ = 0, tiles_ = 0;
  bool measured_ = false, split_;
  mutable std::atomic<bool> unfit_{false};  // a product in parts met what it cannot split
};

}  // namespace

void run_layer(const Geometry& g, const Competition& competition, const at::Tensor& x,
               const at::Tensor& weight, const at::Tensor& bias, const Wanted& wanted) {
  switch (x.scalar_type()) {
    case at::kDouble:
      return Pass<double, double>(g, competition, x, weight, bias, wanted).run();
    case at::kHalf:
      return Pass<at::Half, float>(g, competition, x, weight, bias, wanted).run();
    case at::kBFloat16:
      return Pass<at::BFloat16, float>(g, competition, x, weight, bias, wanted).run();
    default:
      return Pass<float, float>(g, competition, x, weight, bias, wanted).run();
  }
}

}  // namespace softhebb
