// The autograd Function: what forward keeps and what backward asks for.
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "checks.h"
#include "ops.h"

namespace fused_gan {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// dz = dy ⊙ act'(y) in ATen operators, each differentiable in dy and in y: the second order goes through here, and
// every order above it. One row per activation of the list.
at::Tensor differentiable_gradient(int index, const at::Tensor& dy, const at::Tensor& y, double negative_slope) {
  at::Tensor dz;
  Activations::visit(index, [&](auto act) {
    using Act = decltype(act);
    if constexpr (std::is_same_v<Act, Identity>) dz = dy;
    if constexpr (std::is_same_v<Act, Relu>) dz = at::threshold_backward(dy, y, 0);
    if constexpr (std::is_same_v<Act, LeakyRelu>)
      dz = at::leaky_relu_backward(dy, y, negative_slope, /*self_is_result=*/true);
    if constexpr (std::is_same_v<Act, Tanh>) dz = at::tanh_backward(dy, y);
    if constexpr (std::is_same_v<Act, Sigmoid>) dz = at::sigmoid_backward(dy, y);
  });
  return dz;
}

Gradients differentiable_backward(const at::Tensor& dy, const at::Tensor& y, const at::Tensor& input,
                                  const at::Tensor& weight, int index, double negative_slope,
                                  std::array<bool, 3> wanted) {
  const at::Tensor dz = differentiable_gradient(index, dy, y, negative_slope);
  Gradients gradients;
  if (wanted[0]) std::get<0>(gradients) = dz.matmul(weight);
  if (wanted[1] || wanted[2]) {
    const at::Tensor rows = dz.dim() == 2 ? dz : dz.reshape_symint({dz.sym_numel() / dz.sym_size(-1), dz.sym_size(-1)});
    if (wanted[1])
      std::get<1>(gradients) = rows.t().matmul(input.reshape_symint({rows.sym_size(0), input.sym_size(-1)}));
    if (wanted[2]) std::get<2>(gradients) = rows.sum(0);
  }
  return gradients;
}

// The forward in ATen operators, for functorch transforms (torch.func.grad, vmap, jvp), which refuse C++ Functions.
at::Tensor composite_forward(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                             int index, double negative_slope) {
  at::Tensor y = at::linear(input, weight, bias);
  Activations::visit(index, [&](auto act) {
    using Act = decltype(act);
    if constexpr (std::is_same_v<Act, Relu>) y = at::relu(y);
    if constexpr (std::is_same_v<Act, LeakyRelu>) y = at::leaky_relu(y, negative_slope);
    if constexpr (std::is_same_v<Act, Tanh>) y = at::tanh(y);
    if constexpr (std::is_same_v<Act, Sigmoid>) y = at::sigmoid(y);
  });
  return y;
}

class LinearAct : public torch::autograd::Function<LinearAct> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, std::string_view activation, double negative_slope) {
    at::AutoDispatchBelowADInplaceOrView below;
    at::Tensor output = linear_act(input, weight, bias, activation, negative_slope);
    const bool keeps_output = activation != Identity::kName;
    context->save_for_backward({input, weight, keeps_output ? output : at::Tensor()});
    context->saved_data["activation"] = std::string(activation);
    context->saved_data["negative_slope"] = negative_slope;
    context->saved_data["has_bias"] = bias && bias->defined();
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &weight = saved[1], &output = saved[2];
    const std::string activation = context->saved_data["activation"].toStringRef();
    const double negative_slope = context->saved_data["negative_slope"].toDouble();
    const std::array<bool, 3> wanted = {context->needs_input_grad(0), context->needs_input_grad(1),
                                        context->saved_data["has_bias"].toBool() && context->needs_input_grad(2)};
    const Gradients gradients =
        at::GradMode::is_enabled()
            ? differentiable_backward(grads[0], output, input, weight, activation_index(activation), negative_slope,
                                      wanted)
            : linear_act_backward(grads[0], output.defined() ? std::optional(output) : std::nullopt, input, weight,
                                  activation, negative_slope, wanted);
    return {std::get<0>(gradients), std::get<1>(gradients), std::get<2>(gradients), {}, {}};
  }
};

at::Tensor linear_act_autograd(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                               std::string_view activation, double negative_slope) {
  const int index = check_linear_act(input, weight, bias, activation, negative_slope);
  const bool in_functorch = c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
  if (in_functorch) return composite_forward(input, weight, bias, index, negative_slope);
  return LinearAct::apply(input, weight, bias, activation, negative_slope);
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, Autograd, m) { m.impl("linear_act", linear_act_autograd); }

}  // namespace fused_gan
