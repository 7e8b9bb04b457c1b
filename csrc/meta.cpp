// Shapes and dtypes without data: what torch.compile and torch.export trace with.
#include <torch/library.h>

#include "checks.h"
#include "ops.h"

namespace fused_gan {
namespace {

at::Tensor linear_act_meta(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           std::string_view activation, double negative_slope) {
  check_linear_act(input, weight, bias, activation, negative_slope);
  return at::empty_symint(output_sizes(input, weight), input.options());
}

Gradients linear_act_backward_meta(const at::Tensor& grad, const std::optional<at::Tensor>& output,
                                   const at::Tensor& input, const at::Tensor& weight, std::string_view activation,
                                   double negative_slope, std::array<bool, 3> wanted) {
  check_linear_act_backward(grad, output, input, weight, activation, negative_slope);
  const auto empty = [&](bool asked, c10::SymIntArrayRef sizes) {
    return asked ? at::empty_symint(sizes, input.options()) : at::Tensor();
  };
  return {empty(wanted[0], input.sym_sizes()), empty(wanted[1], weight.sym_sizes()),
          empty(wanted[2], weight.sym_sizes().slice(0, 1))};
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, Meta, m) {
  m.impl("linear_act", linear_act_meta);
  m.impl("linear_act_backward", linear_act_backward_meta);
}

}  // namespace fused_gan
