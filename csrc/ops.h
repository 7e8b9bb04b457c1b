// The operators as C++ calls them; ops.cpp has their schemas. A call goes through the dispatcher, except on a chain for
// which the dispatcher would only call the next function.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "chain.h"

namespace fused_gan {

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // of input, weight, bias; undefined where not asked

// act(input · weightᵀ + bias): (..., in), (out, in), (out) -> (..., out)
at::Tensor linear_act(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                      const Activation& activation);

// First derivatives. `wanted`: those of input, weight, bias. `kept` is what the activation's gradient reads, the output
// or the pre-activation, needed for every activation but identity. The weight is needed for the input's gradient, the
// input for the weight's gradient. The others may be missing.
Gradients linear_act_backward(const at::Tensor& grad, const std::optional<at::Tensor>& kept,
                              const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                              const Activation& activation, std::array<bool, 3> wanted);

// The chain's result.
at::Tensor mlp(const at::Tensor& input, const Chain& chain);

// Whether a hook takes a parameter's gradient as soon as it is there, as an optimizer that steps during backward does,
// and frees it then. So the gradients have to come one layer after the other, not all at the end of one node.
bool wants_gradients_by_layer(const Chain& chain);

// What mlp does at the Autograd key (autograd.cpp).
at::Tensor mlp_autograd(const at::Tensor& input, const Chain& chain);

// The functions below take arguments that check_mlp and check_mlp_backward have let through: where they call a device's
// kernels directly, nobody checks again.

// What is asked for of the layers' outputs and pre-activations. An output that is not is freed as soon as it was read.
ChainOutputs mlp_forward(const at::Tensor& input, const Chain& chain, const ChainKept& kept);

// First derivatives, from the outputs and pre-activations of mlp_forward. The chain's biases are not looked at.
ChainGradients mlp_backward(const at::Tensor& grad, const ChainOutputs& outputs, const at::Tensor& input,
                            const Chain& chain, const ChainWanted& wanted);

// The same, but frees the memory of each pre-activation and inner output as soon as no gradient reads it any more.
ChainGradients mlp_backward_(const at::Tensor& grad, const ChainOutputs& outputs, const at::Tensor& input,
                             const Chain& chain, const ChainWanted& wanted);

}  // namespace fused_gan
