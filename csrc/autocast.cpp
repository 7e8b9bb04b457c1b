// Under autocast the arguments are cast as those of F.linear are. The cast of a weight is kept for the whole region.
// Without these kernels the operators would compute in float32, or raise for arguments of two dtypes.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "checks.h"
#include "ops.h"

namespace fused_gan {
namespace {

// Runs f(cast) below autocast, where cast(tensor) gives the region's dtype.
template <c10::DeviceType kDevice, class F> at::Tensor with_cast(const F& f) {
  const auto key = at::autocast::get_autocast_dispatch_key_from_device_type(kDevice);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::DispatchKeySet(key)};
  const auto dtype = at::autocast::get_autocast_dtype(kDevice);
  return f([&](const at::Tensor& tensor) { return at::autocast::cached_cast(dtype, tensor, kDevice); });
}

template <c10::DeviceType kDevice>
at::Tensor linear_act_autocast(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                               const Activation& activation) {
  return with_cast<kDevice>([&](const auto& cast) {
    return linear_act(cast(input), cast(weight), bias ? std::optional(cast(*bias)) : std::nullopt, activation);
  });
}
template <c10::DeviceType kDevice>
at::Tensor linear_act_by_name(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                              std::string_view activation, lists::Numbers parameters) {
  return linear_act_autocast<kDevice>(input, weight, bias, check_activation(activation, parameters));
}

template <c10::DeviceType kDevice>
at::Tensor mlp_autocast(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                        const lists::Names& activations, lists::Numbers parameters) {
  Chain chain = make_chain(weights, biases.vec(), activations, parameters);
  if (wants_gradients_by_layer(chain)) {  // the casts, which autograd will see, have no hooks
    at::Tensor y = input;
    for (size_t i = 0; i < chain.depth(); ++i)
      y = linear_act_autocast<kDevice>(y, chain.weights[i], chain.biases[i], chain.activations[i]);
    return y;
  }
  return with_cast<kDevice>([&](const auto& cast) {
    for (auto& weight : chain.weights) weight = cast(weight);
    for (auto& bias : chain.biases)
      if (bias) bias = cast(*bias);
    return mlp(cast(input), chain);
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, AutocastCPU, m) {
  m.impl("linear_act", linear_act_by_name<at::kCPU>);
  m.impl("mlp", mlp_autocast<at::kCPU>);
}
TORCH_LIBRARY_IMPL(fused_gan, AutocastCUDA, m) {
  m.impl("linear_act", linear_act_by_name<at::kCUDA>);
  m.impl("mlp", mlp_autocast<at::kCUDA>);
}

}  // namespace fused_gan
