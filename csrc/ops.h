// The operators as C++ calls them; ops.cpp has their schemas. Each call goes through the dispatcher.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace fused_gan {

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // of input, weight, bias; undefined where not asked

// act(input · weightᵀ + bias): (..., in), (out, in), (out) -> (..., out)
at::Tensor linear_act(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                      std::string_view activation, double negative_slope);

// First derivatives, from the output. `wanted`: of input, weight, bias. Only what is needed must be there: the output
// for every activation but identity, the weight for the input's gradient, the input for the weight's.
Gradients linear_act_backward(const at::Tensor& grad, const std::optional<at::Tensor>& output,
                              const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                              std::string_view activation, double negative_slope, std::array<bool, 3> wanted);

// A chain of layers as every operator on it sees it. Biases may be undefined.
struct Chain {
  std::vector<at::Tensor> weights;
  std::vector<std::optional<at::Tensor>> biases;
  std::vector<std::string> activations;
  double negative_slope;

  size_t depth() const { return weights.size(); }
};

// Which gradients of a chain are asked for.
struct ChainWanted {
  bool input;
  std::vector<bool> weights, biases;

  // Whether layer i's input gradient leads to anything asked for.
  bool below(size_t i) const {
    bool any = input;
    for (size_t j = 0; j < i; ++j) any = any || weights[j] || biases[j];
    return any;
  }
};

// Undefined where not asked for.
struct ChainGradients {
  at::Tensor input;
  std::vector<at::Tensor> weights, biases;
};

// The chain's result.
at::Tensor mlp(const at::Tensor& input, const Chain& chain);

// Every layer's output, the result last.
std::vector<at::Tensor> mlp_forward(const at::Tensor& input, const Chain& chain);

// First derivatives, from the outputs of mlp_forward. The chain's biases are not looked at.
ChainGradients mlp_backward(const at::Tensor& grad, const std::vector<at::Tensor>& outputs, const at::Tensor& input,
                            const Chain& chain, const ChainWanted& wanted);

// The same, but gives the memory of each inner output back as soon as no gradient reads it any more.
ChainGradients mlp_backward_(const at::Tensor& grad, const std::vector<at::Tensor>& outputs, const at::Tensor& input,
                             const Chain& chain, const ChainWanted& wanted);

}  // namespace fused_gan
