// The derivatives and the forward in ATen operators, each differentiable again: the second order goes through here,
// and every order above it. One row per activation of the list in each of the two functions.
#pragma once

#include <ATen/ATen.h>

#include <type_traits>

#include "checks.h"

namespace fused_gan {

// dz = dy ⊙ act'(y), differentiable in dy and in y.
inline at::Tensor differentiable_gradient(int index, const at::Tensor& dy, const at::Tensor& y, double negative_slope) {
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

inline Gradients differentiable_backward(const at::Tensor& dy, const at::Tensor& y, const at::Tensor& input,
                                         const at::Tensor& weight, int index, double negative_slope,
                                         std::array<bool, 3> wanted) {
  const at::Tensor dz = differentiable_gradient(index, dy, y, negative_slope);
  const auto rows = [](const at::Tensor& tensor) {
    return tensor.dim() == 1 ? tensor.unsqueeze(0) : tensor.flatten(0, -2);
  };
  Gradients gradients;
  if (wanted[0]) std::get<0>(gradients) = dz.matmul(weight);
  if (wanted[1]) std::get<1>(gradients) = rows(dz).t().matmul(rows(input));
  if (wanted[2]) std::get<2>(gradients) = rows(dz).sum(0);
  return gradients;
}

// The same for a chain, from every layer's output; the last may be left out where its activation is identity.
inline ChainGradients differentiable_backward(const at::Tensor& grad, const std::vector<at::Tensor>& outputs,
                                              const at::Tensor& input, const Chain& chain, const ChainWanted& wanted) {
  ChainGradients gradients{{}, std::vector<at::Tensor>(chain.depth()), std::vector<at::Tensor>(chain.depth())};
  at::Tensor dy = grad;
  for (size_t i = chain.depth(); i-- > 0;)
    std::tie(dy, gradients.weights[i], gradients.biases[i]) =
        differentiable_backward(dy, i < outputs.size() ? outputs[i] : at::Tensor(), i == 0 ? input : outputs[i - 1],
                                chain.weights[i], activation_index(chain.activations[i]), chain.negative_slope,
                                {i > 0 || wanted.input, wanted.weights[i], wanted.biases[i]});
  gradients.input = dy;
  return gradients;
}

// act(input · weightᵀ + bias), for functorch transforms (torch.func.grad, vmap, jvp), which refuse C++ Functions.
inline at::Tensor composite_forward(const at::Tensor& input, const at::Tensor& weight,
                                    const std::optional<at::Tensor>& bias, int index, double negative_slope) {
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

}  // namespace fused_gan
