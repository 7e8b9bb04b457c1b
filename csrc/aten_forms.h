// The forward and the derivatives in ATen operators, which are differentiable themselves. Every derivative that is
// differentiated again is computed here, and all of them under functorch and vmap.
#pragma once

#include <ATen/ATen.h>

#include "checks.h"
#include "ops.h"

namespace fused_gan {

// The structs of activations.h in ATen operators: y = forward(z, slope), and dz = gradient(dy, y, slope),
// differentiable in dy and in y. An activation that is missing here does not compile.
template <class Act> struct Aten;
template <> struct Aten<Identity> {
  static at::Tensor forward(const at::Tensor& z, double) { return z; }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor&, double) { return dy; }
};
template <> struct Aten<Relu> {
  static at::Tensor forward(const at::Tensor& z, double) { return at::relu(z); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& y, double) {
    return at::threshold_backward(dy, y, 0);
  }
};
template <> struct Aten<LeakyRelu> {
  static at::Tensor forward(const at::Tensor& z, double slope) { return at::leaky_relu(z, slope); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& y, double slope) {
    return at::leaky_relu_backward(dy, y, slope, /*self_is_result=*/true);
  }
};
template <> struct Aten<Tanh> {
  static at::Tensor forward(const at::Tensor& z, double) { return at::tanh(z); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& y, double) { return at::tanh_backward(dy, y); }
};
template <> struct Aten<Sigmoid> {
  static at::Tensor forward(const at::Tensor& z, double) { return at::sigmoid(z); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& y, double) { return at::sigmoid_backward(dy, y); }
};

inline Gradients differentiable_backward(const at::Tensor& dy, const at::Tensor& y, const at::Tensor& input,
                                         const at::Tensor& weight, int index, double negative_slope,
                                         std::array<bool, 3> wanted) {
  at::Tensor dz;
  Activations::visit(index, [&](auto act) { dz = Aten<decltype(act)>::gradient(dy, y, negative_slope); });
  Gradients gradients;
  if (wanted[0]) std::get<0>(gradients) = dz.matmul(weight);
  if (wanted[1]) std::get<1>(gradients) = as_matrix(dz).t().matmul(as_matrix(input));
  if (wanted[2]) std::get<2>(gradients) = as_matrix(dz).sum(0);
  return gradients;
}

// act(input · weightᵀ + bias), for functorch transforms (torch.func.grad, vmap, jvp), which refuse C++ Functions.
inline at::Tensor composite_forward(const at::Tensor& input, const at::Tensor& weight,
                                    const std::optional<at::Tensor>& bias, int index, double negative_slope) {
  at::Tensor y = at::linear(input, weight, bias);
  Activations::visit(index, [&](auto act) { y = Aten<decltype(act)>::forward(y, negative_slope); });
  return y;
}

}  // namespace fused_gan
