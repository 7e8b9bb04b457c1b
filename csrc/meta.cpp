// Shapes and dtypes without data: what torch.compile and torch.export trace with.
#include <torch/library.h>

#include "checks.h"
#include "ops.h"

namespace fused_gan {
namespace {

at::Tensor linear_act_meta(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           std::string_view activation, lists::Numbers parameters) {
  check_linear_act(input, weight, bias, activation, parameters);
  return at::empty_symint(output_sizes(input, weight), input.options());
}

Gradients linear_act_backward_meta(const at::Tensor& grad, const std::optional<at::Tensor>& kept,
                                   const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                                   std::string_view activation, lists::Numbers parameters, std::array<bool, 3> wanted) {
  check_linear_act_backward(grad, kept, input, weight, activation, parameters, wanted);
  const auto empty = [&](c10::SymIntArrayRef sizes) { return at::empty_symint(sizes, grad.options()); };
  Gradients gradients;
  if (wanted[0]) std::get<0>(gradients) = empty(with_last(grad, weight->sym_size(1)));
  if (wanted[1]) std::get<1>(gradients) = empty({grad.sym_size(-1), input->sym_size(-1)});
  if (wanted[2]) std::get<2>(gradients) = empty({grad.sym_size(-1)});
  return gradients;
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, Meta, m) {
  m.impl("linear_act", linear_act_meta);
  m.impl("linear_act_backward", linear_act_backward_meta);
}

}  // namespace fused_gan
