// The operators as C++ calls them; ops.cpp has their schemas. Each call goes through the dispatcher.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <optional>
#include <string_view>
#include <tuple>

namespace fused_gan {

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // of input, weight, bias; undefined where not asked

// act(input · weightᵀ + bias): (..., in), (out, in), (out) -> (..., out)
at::Tensor linear_act(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                      std::string_view activation, double negative_slope);

// First derivatives, from the output. `wanted`: of input, weight, bias.
Gradients linear_act_backward(const at::Tensor& grad, const std::optional<at::Tensor>& output, const at::Tensor& input,
                              const at::Tensor& weight, std::string_view activation, double negative_slope,
                              std::array<bool, 3> wanted);

}  // namespace fused_gan
