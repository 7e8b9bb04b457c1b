// Every operator schema. The kernels register themselves beside their code: cpu/linear_act.cpp, cuda/linear_act.cpp,
// meta.cpp, autograd.cpp, autocast.cpp.
#include "ops.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace fused_gan {

TORCH_LIBRARY(fused_gan, m) {
  m.def("linear_act(Tensor input, Tensor weight, Tensor? bias, str activation, float negative_slope=0.01) -> Tensor",
        {at::Tag::pt2_compliant_tag});
  m.def(
      "linear_act_backward(Tensor grad, Tensor? output, Tensor input, Tensor weight, str activation, "
      "float negative_slope, bool[3] wanted) -> (Tensor, Tensor, Tensor)",
      {at::Tag::pt2_compliant_tag});
}

at::Tensor linear_act(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                      std::string_view activation, double negative_slope) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("fused_gan::linear_act", "").typed<decltype(linear_act)>();
  return op.call(input, weight, bias, activation, negative_slope);
}

Gradients linear_act_backward(const at::Tensor& grad, const std::optional<at::Tensor>& output, const at::Tensor& input,
                              const at::Tensor& weight, std::string_view activation, double negative_slope,
                              std::array<bool, 3> wanted) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("fused_gan::linear_act_backward", "")
                             .typed<decltype(linear_act_backward)>();
  return op.call(grad, output, input, weight, activation, negative_slope, wanted);
}

}  // namespace fused_gan
