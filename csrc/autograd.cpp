// The autograd Functions: what forward keeps and what backward asks for.
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "checks.h"
#include "differentiable.h"
#include "lists.h"
#include "mlp.h"

namespace fused_gan {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool in_functorch() {
  return c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
}

// ---- linear_act ----
class LinearAct : public torch::autograd::Function<LinearAct> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, std::string_view activation, double negative_slope) {
    at::AutoDispatchBelowADInplaceOrView below;
    at::Tensor output = linear_act(input, weight, bias, activation, negative_slope);
    // Only what backward will read, as in stock PyTorch: what is not kept may change or go.
    const auto keep = [](bool needed, const at::Tensor& tensor) { return needed ? tensor : at::Tensor(); };
    context->save_for_backward({keep(weight.requires_grad(), input), keep(input.requires_grad(), weight),
                                keep(activation != Identity::kName, output)});
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
    const bool has_bias = context->saved_data["has_bias"].toBool();
    const std::array<bool, 3> wanted = {context->needs_input_grad(0), context->needs_input_grad(1),
                                        has_bias && context->needs_input_grad(2)};
    const Gradients gradients =
        linear_act_backward(grads[0], output, input, weight, activation, negative_slope, wanted);
    return {std::get<0>(gradients), std::get<1>(gradients), std::get<2>(gradients), {}, {}};
  }
};

at::Tensor linear_act_autograd(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                               std::string_view activation, double negative_slope) {
  const int index = check_linear_act(input, weight, bias, activation, negative_slope);
  if (in_functorch()) return composite_forward(input, weight, bias, index, negative_slope);
  return LinearAct::apply(input, weight, bias, activation, negative_slope);
}

// The derivative as an operator has derivatives too.
Gradients linear_act_backward_autograd(const at::Tensor& grad, const std::optional<at::Tensor>& output,
                                       const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                                       std::string_view activation, double negative_slope, std::array<bool, 3> wanted) {
  if (at::GradMode::is_enabled()) {
    const int index = check_linear_act_backward(grad, output, input, weight, activation, negative_slope, wanted);
    const auto given = [](const std::optional<at::Tensor>& tensor) { return tensor.value_or(at::Tensor()); };
    return differentiable_backward(grad, given(output), given(input), given(weight), index, negative_slope, wanted);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return linear_act_backward(grad, output, input, weight, activation, negative_slope, wanted);
}

// ---- mlp ----
// The inner outputs are saved though they are no outputs of the Function: right for the first order, where they are
// constants. A graph through them would miss how they depend on the parameters, so the differentiable path computes
// them again, with a graph.
class Mlp : public torch::autograd::Function<Mlp> {
 public:
  // `tensors`: the input, the weights, the biases that exist.
  static at::Tensor forward(AutogradContext* context, at::TensorList tensors, const Chain& chain) {
    at::AutoDispatchBelowADInplaceOrView below;
    const std::vector<at::Tensor> outputs = mlp_forward(tensors[0], chain);
    variable_list saved = tensors.vec();
    saved.insert(saved.end(), outputs.begin(), outputs.end());
    if (chain.activations.back() == Identity::kName) saved.pop_back();
    context->save_for_backward(std::move(saved));
    std::vector<bool> has_bias;
    for (const auto& bias : chain.biases) has_bias.push_back(bias && bias->defined());
    context->saved_data["activations"] = lists::of(chain.activations);
    context->saved_data["has_bias"] = lists::of(has_bias);
    context->saved_data["negative_slope"] = chain.negative_slope;
    return outputs.back();
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const auto has_bias = context->saved_data["has_bias"].toBoolList();
    const size_t depth = has_bias.size();
    Chain chain;
    for (const auto& name : context->saved_data["activations"].toListRef())
      chain.activations.push_back(name.toStringRef());
    chain.negative_slope = context->saved_data["negative_slope"].toDouble();
    ChainWanted wanted{context->needs_input_grad(0), {}, {}};
    size_t next = 1;
    for (size_t i = 0; i < depth; ++i) {
      wanted.weights.push_back(context->needs_input_grad(next));
      chain.weights.push_back(saved[next++]);
    }
    for (size_t i = 0; i < depth; ++i) {
      wanted.biases.push_back(has_bias[i] && context->needs_input_grad(next));
      chain.biases.push_back(has_bias[i] ? std::optional(saved[next++]) : std::nullopt);
    }
    const std::vector<at::Tensor> outputs(saved.begin() + next, saved.end());
    const ChainGradients gradients =
        at::GradMode::is_enabled()
            ? differentiable_backward(grads[0], mlp_forward_layerwise(saved[0], chain), saved[0], chain, wanted)
            : mlp_backward(grads[0], outputs, saved[0], chain, wanted);
    variable_list result = {gradients.input};
    result.insert(result.end(), gradients.weights.begin(), gradients.weights.end());
    for (size_t i = 0; i < depth; ++i)
      if (has_bias[i]) result.push_back(gradients.biases[i]);
    result.emplace_back();  // of the chain itself
    return result;
  }
};

at::Tensor mlp_autograd(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                        const lists::Names& activations, double negative_slope) {
  const Chain chain = lists::chain(weights, biases, activations, negative_slope);
  const std::vector<int> indices = check_mlp(input, chain);
  if (in_functorch()) {
    at::Tensor y = input;
    for (size_t i = 0; i < chain.depth(); ++i)
      y = composite_forward(y, chain.weights[i], chain.biases[i], indices[i], negative_slope);
    return y;
  }
  std::vector<at::Tensor> tensors = {input};
  tensors.insert(tensors.end(), chain.weights.begin(), chain.weights.end());
  for (const auto& bias : chain.biases)
    if (bias && bias->defined()) tensors.push_back(*bias);
  return Mlp::apply(at::TensorList(tensors), chain);
}

std::vector<at::Tensor> mlp_forward_autograd(const at::Tensor& input, at::TensorList weights,
                                             const lists::Biases& biases, const lists::Names& activations,
                                             double negative_slope) {
  const Chain chain = lists::chain(weights, biases, activations, negative_slope);
  check_mlp(input, chain);
  if (at::GradMode::is_enabled()) return mlp_forward_layerwise(input, chain);
  at::AutoDispatchBelowADInplaceOrView below;
  return mlp_forward(input, chain);
}

std::vector<at::Tensor> mlp_backward_autograd(const at::Tensor& grad, at::TensorList outputs, const at::Tensor& input,
                                              at::TensorList weights, const lists::Names& activations,
                                              double negative_slope, bool input_wanted,
                                              const lists::Flags& weights_wanted, const lists::Flags& biases_wanted) {
  const Chain chain = lists::chain(weights, activations, negative_slope);
  const ChainWanted wanted{input_wanted, weights_wanted.vec(), biases_wanted.vec()};
  check_mlp_backward(grad, outputs, input, chain, wanted);
  if (at::GradMode::is_enabled())
    return lists::pack(differentiable_backward(grad, outputs.vec(), input, chain, wanted));
  at::AutoDispatchBelowADInplaceOrView below;
  return lists::pack(mlp_backward(grad, outputs.vec(), input, chain, wanted));
}

at::Tensor linear_act_batched(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                              std::string_view activation, double negative_slope) {
  return composite_forward(input, weight, bias, check_activation(activation, negative_slope), negative_slope);
}

at::Tensor mlp_batched(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                       const lists::Names& activations, double negative_slope) {
  at::Tensor y = input;
  for (size_t i = 0; i < weights.size(); ++i)
    y = linear_act_batched(y, weights[i], biases.get(i), activations.get(i), negative_slope);
  return y;
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, Autograd, m) {
  m.impl("linear_act", linear_act_autograd);
  m.impl("linear_act_backward", linear_act_backward_autograd);
  m.impl("mlp", mlp_autograd);
  m.impl("mlp_forward", mlp_forward_autograd);
  m.impl("mlp_backward", mlp_backward_autograd);
}

TORCH_LIBRARY_IMPL(fused_gan, FuncTorchBatched, m) {
  m.impl("linear_act", linear_act_batched);
  m.impl("mlp", mlp_batched);
}

}  // namespace fused_gan
