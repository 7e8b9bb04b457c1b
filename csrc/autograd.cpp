// The autograd Functions: what forward keeps and what backward asks for.
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "checks.h"
#include "differentiable.h"
#include "lists.h"

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
    const bool has_bias = context->saved_data["has_bias"].toBool();
    const std::array<bool, 3> wanted = {context->needs_input_grad(0), context->needs_input_grad(1),
                                        has_bias && context->needs_input_grad(2)};
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
  if (in_functorch()) return composite_forward(input, weight, bias, index, negative_slope);
  return LinearAct::apply(input, weight, bias, activation, negative_slope);
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
    const ChainGradients gradients = at::GradMode::is_enabled()
                                         ? differentiable(grads[0], saved[0], chain, wanted)
                                         : mlp_backward(grads[0], outputs, saved[0], chain, wanted);
    variable_list result = {gradients.input};
    result.insert(result.end(), gradients.weights.begin(), gradients.weights.end());
    for (size_t i = 0; i < depth; ++i)
      if (has_bias[i]) result.push_back(gradients.biases[i]);
    result.emplace_back();  // of the chain itself
    return result;
  }

 private:
  static ChainGradients differentiable(const at::Tensor& grad, const at::Tensor& input, const Chain& chain,
                                       const ChainWanted& wanted) {
    std::vector<at::Tensor> outputs;
    for (size_t i = 0; i < chain.depth(); ++i)
      outputs.push_back(linear_act(i == 0 ? input : outputs.back(), chain.weights[i], chain.biases[i],
                                   chain.activations[i], chain.negative_slope));
    ChainGradients gradients{{}, std::vector<at::Tensor>(chain.depth()), std::vector<at::Tensor>(chain.depth())};
    at::Tensor dy = grad;
    for (size_t i = chain.depth(); i-- > 0;)
      std::tie(dy, gradients.weights[i], gradients.biases[i]) = differentiable_backward(
          dy, outputs[i], i == 0 ? input : outputs[i - 1], chain.weights[i], activation_index(chain.activations[i]),
          chain.negative_slope, {i > 0 || wanted.input, wanted.weights[i], wanted.biases[i]});
    gradients.input = dy;
    return gradients;
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

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, Autograd, m) {
  m.impl("linear_act", linear_act_autograd);
  m.impl("mlp", mlp_autograd);
}

}  // namespace fused_gan
