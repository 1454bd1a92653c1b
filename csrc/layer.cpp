#include "layer.h"

#include <ATen/ops/empty.h>

#include <atomic>
#include <optional>

#include "bf16x3.h"
#include "gemm.h"
#include "kernels.h"
#include "parallel.h"
#include "patches.h"
#include "plan.h"
#include "precision.h"
#include "profile.h"
#include "tile_epilogue.h"
#include "triangle.h"
#include "winograd.h"
#include "workspace.h"

namespace softhebb {
namespace {

int64_t slices_of(int64_t size, int64_t about) {
  return std::max<int64_t>(1, (size + about - 1) / about);
}

template <typename in_t, typename T>
class Pass {
 public:
  Pass(const Geometry& g, const Competition& c, const Rule& rule, const at::Tensor& x,
       const at::Tensor& weight, const at::Tensor& bias, const Wanted& wanted)
      : g_(g),
        rule_(rule),
        wanted_(wanted),
        bf16x3_(std::is_same_v<in_t, float> && takes_bf16x3() &&
               std::min(g.group_filters(), g.patch()) >= kWorthBf16x3),
        plan_(g, sizeof(T), wanted.pooled.defined(), wanted.update, !bf16x3_, correlates(),
              rule.gain == Gain::lower),
        tile_epilogue_(g, c, rule, wanted, bias.defined() ? bias.const_data_ptr<T>() : nullptr,
                 plan_.pool_in_tile),
        x_(x.const_data_ptr<in_t>()),
        weight_{weight.const_data_ptr<T>(), g.patch(), 1},
        update_(wanted.update),
        options_(weight.options()),
        patches_(g, x_, plan_.small) {}

  void run() {
    allocate();
    sweep();
    if (unfit_) {
      bf16x3_ = false;
      if (update_) update_->restart();
      sweep();
    }
    if (update_) finish();
  }

 private:
  void sweep() {
    const int64_t rows = g_.batch * g_.out_height;
    if (sums_.defined()) sums_.zero_();
    if (correlations_.defined() && (plan_.small || rows == 0)) correlations_.zero_();
    for (panel_row_ = 0; panel_row_ < rows; panel_row_ += plan_.panel_rows) {
      panel_rows_ = std::min(plan_.panel_rows, rows - panel_row_);
      tiles_ = (panel_rows_ + plan_.tile_rows - 1) / plan_.tile_rows;
      if (update_) update_->open_tiles(tiles_);
      plan_.small ? run_small() : run_large(panel_row_ + panel_rows_ == rows);
      if (pools() && !plan_.pool_in_tile) pool_panel();
    }
  }

  bool pools() const { return wanted_.pooled.defined(); }

  bool correlates() const { return wanted_.update && rule_.correlates(); }

  // Whether u is asked for after A is computed.
  bool keeps_u() const {
    return update_ && !rule_.takes_u() && (correlates() || update_->wants_u());
  }

  // Tile i and those after it, `count` in all.
  Tile tile(int64_t i, int64_t count = 1) const {
    const int64_t row = i * plan_.tile_rows;
    const int64_t rows = std::min(count * plan_.tile_rows, panel_rows_ - row);
    return {panel_row_ + row, rows, rows * g_.out_width, row * g_.out_width};
  }

  void allocate() {
    const int64_t width = g_.out_width;
    const int64_t panel = padded_line(plan_.panel_rows * width);
    const int64_t tile = padded_line(plan_.tile_rows * width);
    const int64_t workers = plan_.small ? at::get_num_threads() : 1;
    const int64_t line = plan_.small ? tile : panel;
    if (plan_.winograd) {
      winograd_.emplace(g_, x_, weight_, plan_.panel_rows / g_.out_height, update_ != nullptr,
                        options_);
    } else if (patches_.wants_buffer()) {
      patches_.set_buffer(
          workspace(Slot::patches, {workers, g_.groups * g_.patch(), line}, options_));
    }
    y_buffer_ = workspace(Slot::y, {workers, g_.filters, line}, options_);
    if (pools() && wanted_.epilogue->centre) {
      mean_ = at::empty({wanted_.epilogue->groups, panel}, options_);
    }
    if (pools() && !plan_.pool_in_tile) {
      u_buffer_ = workspace(Slot::u, {1, g_.filters, panel}, options_);
    } else if (keeps_u()) {
      u_buffer_ = workspace(Slot::u, {workers, g_.filters, line}, options_);
    }
    if (update_ && plan_.small)
      sums_ = workspace(Slot::sums, {plan_.partial_sums, g_.filters, g_.patch()}, options_);
    if (update_ && rule_.keeps_bare()) {
      bare_buffer_ = at::empty({workers, g_.filters, line}, options_);
    }
    if (correlates()) {
      triangle_.emplace(g_, update_->weight());
      const int64_t parts = plan_.small ? plan_.partial_sums : 1;
      if (!plan_.reduces) {
        correlations_ = at::empty({parts, g_.filters, g_.group_filters()}, options_);
      }
    }
    if (update_ && !plan_.small && g_.batch == 0) update_->yx.zero_();
  }

  struct Place {
    View<T> u, y;
    View<T> bare;   // A before the modulator
    View<T> other;  // what correlates with A
  };

  Place place(const Tile& t, int64_t worker) const {
    const int64_t column = plan_.small ? 0 : t.first, i = plan_.small ? worker : 0;
    const View<T> y = slice<T>(y_buffer_, i).block(0, column);
    View<T> u = y;
    if (pools() && !plan_.pool_in_tile) {
      u = slice<T>(u_buffer_, 0).block(0, t.first);
    } else if (u_buffer_.defined()) {
      u = slice<T>(u_buffer_, i).block(0, column);
    }
    const View<T> a = rule_.takes_u() ? u : y;
    const View<T> bare = bare_buffer_.defined() ? slice<T>(bare_buffer_, i).block(0, column) : a;
    return {u, a, bare, rule_.settles() ? bare : u};
  }

  // c = a b or c += a b.
  void multiply(View<T> c, View<const T> a, View<const T> b, int64_t m, int64_t n, int64_t k,
                bool add) const {
    const Timed timed(Part::products);
    if constexpr (std::is_same_v<T, float>) {
      if (bf16x3_) {
        if (!multiply_bf16x3(c, a, b, m, n, k, add)) unfit_ = true;
        return;
      }
    }
    multiply_in_cache(c, a, b, m, n, k, add);
  }

  // u of the neurons [begin, end) of every group.
  void multiply_tile(const Tile& t, View<T> u, View<const T> x, int64_t begin, int64_t end) const {
    const int64_t share = g_.group_filters(), patch = g_.patch();
    for (int64_t group = 0; group < g_.groups; ++group) {
      const int64_t k = group * share + begin;
      multiply(u.block(k, 0), weight_.block(k, 0), x.block(group * patch, 0), end - begin,
               t.positions, patch, false);
    }
  }

  // The means of groups from a position of the panel on, null if nobody asks for them.
  View<T> mean(int64_t position) const {
    if (!mean_.defined()) return {nullptr, 0, 1};
    return {mean_.template data_ptr<T>() + position, mean_.stride(0), 1};
  }

  void compete(int64_t i, const Place& p) const {
    const Tile t = tile(i);
    T* sums = update_ ? update_->sums_of<T>(i) : nullptr;
    tile_epilogue_.run(p.u, p.y, p.bare, t.row * g_.out_width, t.positions, mean(t.first),
                       sums);
    if (!winograd_ || !update_ || !rule_.may_spoil()) return;
    T spoilt = 0;
    finite_strip<T>({p.y.data, p.y.line, g_.filters, t.positions, &spoilt});
    if (spoilt != 0) spoilt_ = true;
  }

  auto multiplier() const {
    return [this](View<T> c, View<const T> a, View<const T> b, int64_t m, int64_t n, int64_t k,
                  bool add) { multiply(c, a, b, m, n, k, add); };
  }

  void run_small() {
    const int64_t share = g_.group_filters(), patch = g_.patch();
    const int64_t parts = std::min(plan_.partial_sums, tiles_);
    for_each_task(parts, [&](int64_t part, int64_t worker) {
      for (int64_t i = part * tiles_ / parts; i < (part + 1) * tiles_ / parts; ++i) {
        const Tile t = tile(i);
        const Place p = place(t, worker);
        patches_.unfold(t, worker);
        multiply_tile(t, p.u, patches_.of(t, worker), 0, share);
        compete(i, p);
        if (!update_) continue;
        const View<T> sums = slice<T>(sums_, part);
        const View<const T> x = patches_.transposed(t, worker);
        for (int64_t group = 0; group < g_.groups; ++group) {
          multiply(sums.block(group * share, 0), p.y.block(group * share, 0),
                   x.block(0, group * patch), share, patch, t.positions, true);
        }
        if (!triangle_) continue;
        const View<T> c = slice<T>(correlations_, part);
        for (const auto& block : triangle_->blocks()) {
          triangle_->correlate(block, c, p.y, p.other, t.positions, true, multiplier());
        }
      }
    });
    if (update_) update_->close_tiles();
  }

  void run_large(bool last) {
    const bool transformed = transform_panel();
    if (!transformed) multiply_panel();
    if (!update_) return;
    update_->close_tiles();
    if (plan_.reduces) return reduce_panel();
    if (triangle_) correlate_panel();
    if (last && rule_.settles()) take_correlations();
    if (transformed && !spoilt_) {
      sum_transformed(last);
    } else {
      if (transformed) unfold_panel();
      sum_panel(last);
    }
  }

  // By Winograd, unless some u is not finite: that would have spread over its tile.
  bool transform_panel() {
    if (!winograd_) return false;
    spoilt_ = false;
    winograd_->read(panel_row_ / g_.out_height, panel_rows_ / g_.out_height);
    if (!winograd_->multiply(place(tile(0), 0).u)) return false;
    for_each_task(tiles_, [&](int64_t i, int64_t) { compete(i, place(tile(i), 0)); });
    return true;
  }

  void sum_transformed(bool last) {
    measured_ = last && rule_.gain != Gain::lower;
    winograd_->sum(place(tile(0), 0).y, {update_->yx.data_ptr<T>(), g_.patch(), 1}, panel_row_ > 0,
                   [&](int64_t k) {
                     if (measured_) update_->measure(k, k + 1);
                   });
  }

  // What Winograd's method does without.
  void make_room_for_patches() {
    if (!winograd_ || !patches_.wants_buffer()) return;
    const int64_t line = padded_line(plan_.panel_rows * g_.out_width);
    patches_.set_buffer(at::empty({1, g_.patch(), line}, options_));
  }

  void unfold_panel() {
    make_room_for_patches();
    for_each_task(tiles_, [&](int64_t i, int64_t) { patches_.unfold(tile(i), 0); });
  }

  void multiply_panel() {
    make_room_for_patches();
    const int64_t share = g_.group_filters();
    const int64_t parts = bf16x3_                 ? slices_of(share, 384)
                          : tiles_ < kEnoughTasks ? std::min(slices_of(kEnoughTasks, tiles_),
                                                             slices_of(share, 128))
                                                  : 1;
    if (parts == 1 && !bf16x3_) {
      for_each_task(tiles_, [&](int64_t i, int64_t) {
        const Tile t = tile(i);
        const Place p = place(t, 0);
        patches_.unfold(t, 0);
        multiply_tile(t, p.u, patches_.of(t, 0), 0, share);
        compete(i, p);
      });
      return;
    }
    for_each_task(tiles_, [&](int64_t i, int64_t) { patches_.unfold(tile(i), 0); });
    const int64_t wide = bf16x3_ ? std::max<int64_t>(640 / (plan_.tile_rows * g_.out_width), 1) : 1;
    for_each_task(slices_of(tiles_, wide) * parts, [&](int64_t task, int64_t) {
      const Tile t = tile(task / parts * wide, wide);
      const int64_t part = task % parts;
      multiply_tile(t, place(t, 0).u, patches_.of(t, 0), part * share / parts,
                    (part + 1) * share / parts);
    });
    for_each_task(tiles_, [&](int64_t i, int64_t) { compete(i, place(tile(i), 0)); });
  }

  void sum_panel(bool last) {
    const int64_t share = g_.group_filters(), patch = g_.patch();
    const Tile whole = whole_panel();
    const View<const T> x = patches_.transposed(whole, 0), y = place(whole, 0).y;
    const View<T> yx{update_->yx.data_ptr<T>(), patch, 1};
    const int64_t by_neuron = share >= 512 ? slices_of(share, 384) : 1;
    const int64_t by_patch = by_neuron == 1 ? slices_of(patch, 288) : 1;
    const int64_t tasks = by_neuron * by_patch;
    measured_ = last && by_patch == 1 && rule_.gain != Gain::lower;
    for_each_task(g_.groups * tasks, [&](int64_t task, int64_t) {
      const int64_t group = task / tasks, row = task % tasks / by_patch, column = task % by_patch;
      const int64_t k = group * share + row * share / by_neuron;
      const int64_t k_end = group * share + (row + 1) * share / by_neuron;
      const int64_t begin = column * patch / by_patch, end = (column + 1) * patch / by_patch;
      multiply(yx.block(k, begin), y.block(k, 0), x.block(0, group * patch + begin), k_end - k,
               end - begin, whole.positions, panel_row_ > 0);
      if (measured_) update_->measure(k, k_end);
    });
  }

  Tile whole_panel() const {
    return {panel_row_, panel_rows_, panel_rows_ * g_.out_width, 0};
  }

  void correlate_panel() const {
    const Tile whole = whole_panel();
    const Place p = place(whole, 0);
    for_each_task(triangle_->blocks().size(), [&](int64_t task, int64_t) {
      triangle_->correlate(triangle_->blocks()[task], slice<T>(correlations_, 0), p.y, p.other,
                           whole.positions, panel_row_ > 0, multiplier());
    });
  }

  void reduce_panel() const {
    const Tile whole = whole_panel();
    const Place p = place(whole, 0);
    triangle_->reduce({update_->yx.data_ptr<T>(), g_.patch(), 1}, p.y, p.u,
                      patches_.transposed(whole, 0), whole.positions, panel_row_ > 0,
                      multiplier());
  }

  void pool_panel() const {
    constexpr int64_t kNeurons = 32;
    const int64_t blocks = slices_of(g_.filters, kNeurons), images = panel_rows_ / g_.out_height;
    const View<T> u = slice<T>(u_buffer_, 0);
    for_each_task(images * blocks, [&](int64_t task, int64_t) {
      const int64_t i = task / blocks, begin = task % blocks * kNeurons, first = i * g_.plane();
      tile_epilogue_.pool(u.block(0, first), mean(first), panel_row_ / g_.out_height + i, 1, begin,
                          std::min(begin + kNeurons, g_.filters));
    });
  }

  // Of neurons that settle, complete.
  void take_correlations() {
    const int64_t share = g_.group_filters();
    const at::Tensor c = plan_.small ? correlations_.sum(0) : correlations_[0];
    triangle_->mirror({c.data_ptr<T>(), share, 1});
    update_->take_correlations(c, g_.groups);
  }

  void finish() {
    if (plan_.small) update_->collect(sums_);
    if (rule_.settles() && (plan_.small || g_.batch == 0)) take_correlations();
    if (rule_.gain == Gain::lower && correlations_.defined() && g_.batch > 0) {
      const at::Tensor c = plan_.small ? correlations_.sum(0) : correlations_[0];
      triangle_->subtract({c.data_ptr<T>(), g_.group_filters(), 1},
                          {update_->yx.data_ptr<T>(), g_.patch(), 1});
    }
    if (!measured_) update_->measure_all();
  }

  static constexpr int64_t kEnoughTasks = 8, kWorthBf16x3 = 64;

  const Geometry& g_;
  const Rule& rule_;
  const Wanted& wanted_;
  bool bf16x3_;
  const Plan plan_;
  const TileEpilogue<in_t, T> tile_epilogue_;
  const in_t* x_;
  const View<const T> weight_;
  Update* update_;
  at::TensorOptions options_;
  Patches<in_t, T> patches_;
  at::Tensor y_buffer_, u_buffer_, mean_, sums_, bare_buffer_, correlations_;
  std::optional<Winograd<in_t, T>> winograd_;
  std::optional<Triangle<T>> triangle_;
  int64_t panel_row_ = 0, panel_rows_ = 0, tiles_ = 0;
  bool measured_ = false;
  mutable std::atomic<bool> unfit_{false};   // a product in parts met what it cannot split
  mutable std::atomic<bool> spoilt_{false};  // A of the panel would spread by Winograd
};

}  // namespace

void run_layer(const Geometry& g, const Competition& competition, const Rule& rule,
               const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
               const Wanted& wanted) {
  switch (x.scalar_type()) {
    case at::kDouble:
      return Pass<double, double>(g, competition, rule, x, weight, bias, wanted).run();
    case at::kHalf:
      return Pass<at::Half, float>(g, competition, rule, x, weight, bias, wanted).run();
    case at::kBFloat16:
      return Pass<at::BFloat16, float>(g, competition, rule, x, weight, bias, wanted).run();
    default:
      return Pass<float, float>(g, competition, rule, x, weight, bias, wanted).run();
  }
}

}  // namespace softhebb
