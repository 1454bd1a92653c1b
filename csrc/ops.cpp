// The operators on the CPU. Their schemas, fake kernels and gradients are in softhebb_fast/ops.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/sign.h>
#include <torch/csrc/autograd/VariableTypeUtils.h>
#include <torch/library.h>

#include "denormals.h"
#include "layer.h"
#include "bf16x3.h"
#include "profile.h"

namespace softhebb {
namespace {

using at::IntArrayRef;
using at::Tensor;
using OptionalTensor = const std::optional<Tensor>&;
using String = c10::string_view;

Tensor accumulated(const Tensor& t) {
  return t.scalar_type() == at::kDouble ? t : t.to(at::kFloat);
}

Tensor as_image(const Tensor& x) { return x.unsqueeze(2).unsqueeze(3); }

// A call of one operator: its arguments in the form that the kernels take, checked.
class Call {
 public:
  Call(const Tensor& x, const Tensor& weight, OptionalTensor bias, IntArrayRef stride,
       IntArrayRef padding, IntArrayRef dilation, int64_t groups, String padding_mode,
       Competition competition, double lebesgue_p, Rule rule = {})
      : x_(x),
        weight_(weight),
        bias_(bias.value_or(Tensor())),
        competition_(competition),
        geometry_(geometry(stride, padding, dilation, groups, std::string(padding_mode))),
        rule_(std::move(rule)) {
    TORCH_CHECK(!competition_.ranks() ||
                    (competition_.rank >= 1 && competition_.rank <= geometry_.group_filters()),
                "rank must lie in 1..", geometry_.group_filters(), "; got ", competition_.rank);
    rows_ = accumulated(weight).contiguous().view({weight.size(0), geometry_.patch()});
    product_ = lebesgue_p == 2 ? rows_ : rows_.sign() * rows_.abs().pow(lebesgue_p - 1);
    if (bias_.defined()) bias_rows_ = accumulated(bias_).contiguous();
    rule_.fit(geometry_, rows_);
  }

  void want_u() {
    wanted_.u =
        at::empty({geometry_.batch, geometry_.filters, geometry_.out_height, geometry_.out_width},
                  x_.options(), x_.suggest_memory_format());
  }

  void want_pooled(const Epilogue& e) {
    const int64_t height = e.size(geometry_.out_height, 0);
    const int64_t width = e.size(geometry_.out_width, 1);
    TORCH_CHECK(height > 0 && width > 0, "the pooled map would be empty, ", height, "x", width);
    TORCH_CHECK(e.groups > 0 && geometry_.filters % e.groups == 0,
                "the epilogue's groups must divide the neurons; got ", e.groups, " and ",
                geometry_.filters);
    wanted_.epilogue = e;
    wanted_.pooled = at::empty({geometry_.batch, geometry_.filters, height, width}, x_.options());
  }

  void want_update() {
    update_.emplace(rule_, rows_, product_, bias_rows_, geometry_.groups, geometry_.positions(),
                    competition_.pre_triangle);
    wanted_.update = &*update_;
  }

  void run() { run_layer(geometry_, competition_, rule_, x_, product_, bias_rows_, wanted_); }

  Tensor u() const { return wanted_.u; }
  Tensor pooled() const { return wanted_.pooled; }
  Tensor delta_w() { return update_->delta_w().view(weight_.sizes()).to(weight_.scalar_type()); }

  Tensor delta_b() const {
    const bool learns = competition_.soft && rule_.activity == Activity::competition;
    if (!bias_.defined() || !learns) return at::empty({0}, weight_.options());
    return update_->delta_b(competition_.t).to(bias_.scalar_type());
  }

  Tensor statistic() const { return update_->statistic(); }

  void step_(Rate rate) {
    if (rate.neuron_rates.defined()) {
      rate.neuron_rates = of_neurons(rate.neuron_rates, geometry_.filters, rows_.scalar_type(),
                                     "neuron_rates");
    }
    update_->step_(rate);
    if (!rows_.is_alias_of(weight_)) weight_.copy_(rows_.view(weight_.sizes()));
  }

 private:
  Geometry geometry(IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups,
                    const std::string& mode) const {
    TORCH_CHECK(x_.dim() == 4 && weight_.dim() == 4, "x and weight must have 4 dimensions; got ",
                x_.sizes(), " and ", weight_.sizes());
    TORCH_CHECK(at::isFloatingType(x_.scalar_type()) && x_.scalar_type() == weight_.scalar_type(),
                "x and weight must have one floating point dtype; got ", x_.scalar_type(), " and ",
                weight_.scalar_type());
    TORCH_CHECK(weight_.is_cpu() && (!bias_.defined() || bias_.is_cpu()),
                "weight and bias must be on the CPU, as x is");
    TORCH_CHECK(groups >= 1 && weight_.size(0) % groups == 0 && weight_.size(0) > 0 &&
                    x_.size(1) == weight_.size(1) * groups,
                "x ", x_.sizes(), " does not fit weight ", weight_.sizes(), " in ", groups,
                " groups");
    TORCH_CHECK(!bias_.defined() || (bias_.dim() == 1 && bias_.size(0) == weight_.size(0)),
                "bias must be [", weight_.size(0), "]; got ", bias_.sizes());
    Window w;
    for (int axis = 0; axis < 2; ++axis) {
      w.stride[axis] = stride[axis], w.padding[axis] = padding[axis],
      w.dilation[axis] = dilation[axis];
      const int64_t size = x_.size(2 + axis), taps = weight_.size(2 + axis);
      const int64_t most = mode == "reflect" ? size - 1 : mode == "circular" ? size : INT32_MAX;
      TORCH_CHECK(w.stride[axis] > 0 && w.dilation[axis] > 0 && w.padding[axis] >= 0 &&
                      w.padding[axis] <= most && taps > 0 && size > 0 && size < INT32_MAX &&
                      size + 2 * w.padding[axis] > w.dilation[axis] * (taps - 1),
                  "stride ", stride, ", padding ", padding, ", dilation ", dilation, " with ", mode,
                  " padding do not fit x ", x_.sizes(), " and weight ", weight_.sizes());
    }
    return Geometry(x_, weight_, w, groups, mode);
  }

  const Tensor x_, weight_, bias_;
  const Competition competition_;
  const Geometry geometry_;
  Rule rule_;
  Tensor rows_, product_, bias_rows_;
  Wanted wanted_;
  std::optional<Update> update_;
};

// The options of an operator, field by field as in softhebb_fast/options.py.
#define RATE                                                                        \
  double lr, double lr_power, OptionalTensor lr_tensor, OptionalTensor neuron_rates, \
      bool unit_norm
#define RATE_CALL                                                  \
  {lr_tensor ? lr_tensor->item<double>() : lr, lr_power, lebesgue_p, \
   neuron_rates.value_or(Tensor()), unit_norm}
#define RULE                                                                      \
  String activity, String gain, bool nearest, String normalise, double decay,     \
      OptionalTensor modulator, OptionalTensor target, OptionalTensor threshold, \
      OptionalTensor counts, OptionalTensor lateral
#define RULE_CALL                                                                         \
  Rule(activity, gain, nearest, normalise, decay, modulator, target, threshold, counts, \
       lateral)
#define CONVOLUTION                                                              \
  IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups, \
      String padding_mode, bool pre_triangle, std::optional<double> x_bound
#define EPILOGUE                                                                            \
  bool centre, double power, String pool, IntArrayRef pool_kernel, IntArrayRef pool_stride, \
      IntArrayRef pool_padding, int64_t epilogue_groups
#define CONV_CALL(...)                                                        \
  Call call(x, weight, bias, stride, padding, dilation, groups, padding_mode, \
            Competition(COMPETING, false, pre_triangle), lebesgue_p __VA_OPT__(, ) __VA_ARGS__)
#define LINEAR_CALL                                                                  \
  Call call(as_image(x), as_image(weight), bias, {1, 1}, {0, 0}, {1, 1}, 1, "zeros", \
            Competition(COMPETING, true, false), lebesgue_p, RULE_CALL)
#define BLOCK_EPILOGUE \
  Epilogue(centre, power, pool, pool_kernel, pool_stride, pool_padding, epilogue_groups)

using Updated = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using Stepped = std::tuple<Tensor, Tensor, Tensor>;

Updated conv_update(const Tensor& x, const Tensor& weight, OptionalTensor bias, CONVOLUTION,
                    COMPETITION, RULE) {
  CONV_CALL(RULE_CALL);
  call.want_u();
  call.want_update();
  call.run();
  return {call.u(), call.delta_w(), call.delta_b(), call.statistic()};
}

Stepped conv_step_(const Tensor& x, Tensor& weight, OptionalTensor bias, RATE, CONVOLUTION,
                   COMPETITION, RULE) {
  CONV_CALL(RULE_CALL);
  call.want_u();
  call.want_update();
  call.run();
  call.step_(RATE_CALL);
  return {call.u(), call.delta_b(), call.statistic()};
}

Updated linear_update(const Tensor& x, const Tensor& weight, OptionalTensor bias, COMPETITION,
                      RULE) {
  LINEAR_CALL;
  call.want_u();
  call.want_update();
  call.run();
  return {call.u().view({x.size(0), weight.size(0)}), call.delta_w().view(weight.sizes()),
          call.delta_b(), call.statistic()};
}

Stepped linear_step_(const Tensor& x, Tensor& weight, OptionalTensor bias, RATE, COMPETITION,
                     RULE) {
  LINEAR_CALL;
  call.want_u();
  call.want_update();
  call.run();
  call.step_(RATE_CALL);
  return {call.u().view({x.size(0), weight.size(0)}), call.delta_b(), call.statistic()};
}

Tensor block_forward(const Tensor& x, const Tensor& weight, OptionalTensor bias, CONVOLUTION,
                     COMPETITION, EPILOGUE) {
  CONV_CALL();
  call.want_pooled(BLOCK_EPILOGUE);
  call.run();
  return call.pooled();
}

Updated block_update(const Tensor& x, const Tensor& weight, OptionalTensor bias, CONVOLUTION,
                     COMPETITION, EPILOGUE, RULE) {
  CONV_CALL(RULE_CALL);
  call.want_pooled(BLOCK_EPILOGUE);
  call.want_update();
  call.run();
  return {call.pooled(), call.delta_w(), call.delta_b(), call.statistic()};
}

Stepped block_step_(const Tensor& x, Tensor& weight, OptionalTensor bias, RATE, CONVOLUTION,
                    COMPETITION, EPILOGUE, RULE) {
  CONV_CALL(RULE_CALL);
  call.want_pooled(BLOCK_EPILOGUE);
  call.want_update();
  call.run();
  call.step_(RATE_CALL);
  return {call.pooled(), call.delta_b(), call.statistic()};
}

// Nanoseconds of CPU time that every Part took since the last call; counts on if `on`.
std::vector<int64_t> profile(bool on) {
  std::vector<int64_t> found;
  for (auto& part : Profile::nanoseconds) found.push_back(part.exchange(0));
  Profile::on = on;
  return found;
}

// Autograd must know that the second argument, the weight, has changed.
void tell_autograd(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                   torch::jit::Stack* stack) {
  const Tensor weight = torch::jit::peek(*stack, 1, op.schema().arguments().size()).toTensor();
  {
    at::AutoDispatchBelowADInplaceOrView below;
    op.redispatchBoxed(keys & c10::after_ADInplaceOrView_keyset, stack);
  }
  torch::autograd::increment_version(weight);
}

}  // namespace
}  // namespace softhebb

TORCH_LIBRARY_IMPL(softhebb_fast, CompositeExplicitAutograd, m) {
  m.impl("profile", softhebb::profile);
  m.impl("bf16x3_missing", [] {
    const char* missing = softhebb::bf16x3_missing();
    return std::string(missing ? missing : "");
  });
}

TORCH_LIBRARY_IMPL(softhebb_fast, CPU, m) {
  m.impl("conv_update", softhebb::conv_update);
  m.impl("conv_step_", softhebb::conv_step_);
  m.impl("linear_update", softhebb::linear_update);
  m.impl("linear_step_", softhebb::linear_step_);
  m.impl("block_forward", softhebb::block_forward);
  m.impl("block_update", softhebb::block_update);
  m.impl("block_step_", softhebb::block_step_);
}

TORCH_LIBRARY_IMPL(softhebb_fast, ADInplaceOrView, m) {
  for (const char* name : {"conv_step_", "linear_step_", "block_step_"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&softhebb::tell_autograd>());
  }
}
