// Under autocast the arguments are cast as F.linear's are (weights once, the cast kept for the region). An operator
// without such a kernel would stay in float32, or meet arguments of two dtypes and raise.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

#include "ops.h"

namespace fused_gan {
namespace {

template <c10::DeviceType kDevice>
at::Tensor linear_act_autocast(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                               std::string_view activation, double negative_slope) {
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(
      c10::DispatchKeySet(at::autocast::get_autocast_dispatch_key_from_device_type(kDevice)));
  const auto dtype = at::autocast::get_autocast_dtype(kDevice);
  const auto cast = [&](const at::Tensor& tensor) { return at::autocast::cached_cast(dtype, tensor, kDevice); };
  return linear_act(cast(input), cast(weight), bias ? std::optional(cast(*bias)) : std::nullopt, activation,
                    negative_slope);
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, AutocastCPU, m) { m.impl("linear_act", linear_act_autocast<at::kCPU>); }
TORCH_LIBRARY_IMPL(fused_gan, AutocastCUDA, m) { m.impl("linear_act", linear_act_autocast<at::kCUDA>); }

}  // namespace fused_gan
