// The forward and the derivatives in ATen operators, which are differentiable themselves. Every derivative that is
// differentiated again is computed here, and all of them under functorch and vmap.
#pragma once

#include <ATen/ATen.h>

#include "checks.h"
#include "ops.h"

namespace fused_gan {

// The structs of activations.h in ATen operators: y = forward(z, parameters), and dz = gradient(dy, x, parameters),
// differentiable in dy and in x to any order, where x is what the activation's gradient reads. Where ATen's operator is
// not (hardsigmoid, silu and mish have no derivative there, the third one of gelu's tanh form is NaN for large numbers)
// the formula is written out. An activation that is missing here does not compile.
using Numbers = Parameters<double>;
template <class Act> struct Aten;
template <> struct Aten<Identity> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return z; }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor&, Numbers) { return dy; }
};
template <> struct Aten<Relu> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return at::relu(z); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& y, Numbers) {
    return at::threshold_backward(dy, y, 0);
  }
};
template <> struct Aten<LeakyRelu> {
  static at::Tensor forward(const at::Tensor& z, Numbers p) { return at::leaky_relu(z, p.first); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& x, Numbers p) {
    return at::leaky_relu_backward(dy, x, p.first, /*self_is_result=*/false);  // which, with a slope ≥ 0, is the same
  }
};
template <> struct Aten<Tanh> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return at::tanh(z); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& y, Numbers) { return at::tanh_backward(dy, y); }
};
template <> struct Aten<Sigmoid> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return at::sigmoid(z); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& y, Numbers) { return at::sigmoid_backward(dy, y); }
};
template <> struct Aten<Relu6> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return at::hardtanh(z, 0, 6); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers) {
    return at::hardtanh_backward(dy, z, 0, 6);
  }
};
template <> struct Aten<Hardtanh> {
  static at::Tensor forward(const at::Tensor& z, Numbers p) { return at::hardtanh(z, p.first, p.second); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers p) {
    return at::hardtanh_backward(dy, z, p.first, p.second);
  }
};
template <> struct Aten<Hardsigmoid> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return at::hardtanh(z + 3, 0, 6) / 6; }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers) {
    return at::where((z > -3).logical_and(z < 3), dy * (1. / 6), at::zeros({}, dy.options()));
  }
};
template <> struct Aten<Elu> {
  static at::Tensor forward(const at::Tensor& z, Numbers p) { return at::elu(z, p.first); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers p) {
    return at::elu_backward(dy, p.first, 1, 1, /*is_result=*/false, z);
  }
};
template <> struct Aten<Selu> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return at::selu(z); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers) {
    return at::elu_backward(dy, Selu::kAlpha, Selu::kScale, 1, /*is_result=*/false, z);
  }
};
template <> struct Aten<Celu> {
  static at::Tensor forward(const at::Tensor& z, Numbers p) { return at::celu(z, p.first); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers p) {
    return at::elu_backward(dy, p.first, 1, 1 / p.first, /*is_result=*/false, z);
  }
};
template <> struct Aten<Softplus> {
  static at::Tensor forward(const at::Tensor& z, Numbers p) { return at::softplus(z, p.first, p.second); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers p) {
    return at::softplus_backward(dy, z, p.first, p.second);
  }
};
template <> struct Aten<Gelu> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return at::gelu(z); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers) { return at::gelu_backward(dy, z); }
};
template <> struct Aten<GeluTanh> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return at::gelu(z, "tanh"); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers) {
    // A square in float16 is infinite from 256 on.
    const at::Tensor x = at::isReducedFloatingType(z.scalar_type()) ? z.to(at::kFloat) : z, square = x * x;
    const at::Tensor u = x * (1 + square * GeluTanh::kCube) * GeluTanh::kTwice, s = at::sigmoid(u);
    const at::Tensor inner = (1 + square * (3 * GeluTanh::kCube)) * GeluTanh::kTwice;
    return (dy * (s + x * (s * at::sigmoid(-u)) * inner)).to(z.scalar_type());
  }
};
template <> struct Aten<Silu> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return at::silu(z); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers) {
    return dy * (at::sigmoid(z) * (1 + z * at::sigmoid(-z)));
  }
};
template <> struct Aten<Mish> {
  static at::Tensor forward(const at::Tensor& z, Numbers) { return at::mish(z); }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers) {
    const at::Tensor t = at::tanh(at::softplus(z));
    return dy * (t + z * at::sigmoid(z) * (1 - t * t));
  }
};

// The same of an activation with a gain and a limit behind it.
template <class Act> struct Aten<Scaled<Act>> {
  static at::Tensor forward(const at::Tensor& z, Numbers p, Scale<double> s) {
    const at::Tensor y = Aten<Act>::forward(z, p) * s.gain;
    return s.limit == kUnscaled.limit ? y : at::clamp(y, -s.limit, s.limit);
  }
  static at::Tensor gradient(const at::Tensor& dy, const at::Tensor& z, Numbers p, Scale<double> s) {
    constexpr bool kOfOutput = Scaled<Act>::kOfOutput;
    const at::Tensor x = kOfOutput || s.limit != kUnscaled.limit ? Aten<Act>::forward(z, p) : z;
    at::Tensor da = dy;
    if (s.limit != kUnscaled.limit) da = at::where((x * s.gain).abs() <= s.limit, dy, at::zeros({}, dy.options()));
    return Aten<Act>::gradient(da * s.gain, kOfOutput ? x : z, p);
  }
};

inline at::Tensor aten_forward(const Activation& activation, const at::Tensor& z) {
  at::Tensor y;
  Activations::visit(activation.index, [&](auto act) {
    using Act = decltype(act);
    y = is_scaled(activation) ? Aten<Scaled<Act>>::forward(z, activation.parameters, activation.scale)
                              : Aten<Act>::forward(z, activation.parameters);
  });
  return y;
}
inline at::Tensor aten_gradient(const Activation& activation, const at::Tensor& dy, const at::Tensor& kept) {
  at::Tensor dz;
  Activations::visit(activation.index, [&](auto act) {
    using Act = decltype(act);
    dz = is_scaled(activation) ? Aten<Scaled<Act>>::gradient(dy, kept, activation.parameters, activation.scale)
                               : Aten<Act>::gradient(dy, kept, activation.parameters);
  });
  return dz;
}

inline Gradients differentiable_backward(const at::Tensor& dy, const at::Tensor& kept, const at::Tensor& input,
                                         const at::Tensor& weight, const Activation& activation,
                                         std::array<bool, 3> wanted) {
  const at::Tensor dz = aten_gradient(activation, dy, kept);
  Gradients gradients;
  if (wanted[0]) std::get<0>(gradients) = dz.matmul(weight);
  if (wanted[1]) std::get<1>(gradients) = as_matrix(dz).t().matmul(as_matrix(input));
  if (wanted[2]) std::get<2>(gradients) = as_matrix(dz).sum(0);
  return gradients;
}

// act(input · weightᵀ + bias), for functorch transforms (torch.func.grad, vmap, jvp), which refuse C++ Functions.
inline at::Tensor composite_forward(const at::Tensor& input, const at::Tensor& weight,
                                    const std::optional<at::Tensor>& bias, const Activation& activation) {
  return aten_forward(activation, at::linear(input, weight, bias));
}

}  // namespace fused_gan
