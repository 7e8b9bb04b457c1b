// linear_act and its backward on CPU: checks and memory. layers.h spreads the work, kernels.inl does it.
#include <torch/library.h>

#include "../checks.h"
#include "products.h"

namespace fused_gan {
namespace {

using cpu::Activation;

at::Tensor linear_act_cpu(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                          std::string_view activation, double negative_slope) {
  const Activation act{check_linear_act(input, weight, bias, activation, negative_slope), negative_slope};
  const int64_t work = input.numel() * weight.size(0);
  const bool half = !plan::has_product(input.scalar_type()), dots = half && !plan::pairs(work);
  const cpu::PairedKernels* paired = cpu::paired_kernels_for(input.scalar_type(), work);
  const at::Tensor x = cpu::with_dense_rows(as_matrix(input));
  const at::Tensor b = bias && bias->defined() ? bias->contiguous() : at::Tensor();
  at::Tensor y = at::empty(C10_AS_INTARRAYREF_SLOW(output_sizes(input, weight)), input.options());
  const at::Tensor rows = y.view({x.size(0), weight.size(0)});
  cpu::with_storage(input.scalar_type(), [&](auto storage) {
    using S = decltype(storage);
    if constexpr (std::is_same_v<S, float> || std::is_same_v<S, double>) cpu::forward_layer<S>(act, x, weight, b, rows);
    else if (dots) cpu::forward_dot<S>(act, x, weight, b, rows);
    else if (paired) cpu::paired_forward(*paired, act, x, weight, b, rows);
    else cpu::widened_forward<S>(act, x, weight, b, rows);
  });
  return y;
}

Gradients linear_act_backward_cpu(const at::Tensor& grad, const std::optional<at::Tensor>& output,
                                  const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                                  std::string_view activation, double negative_slope, std::array<bool, 3> wanted) {
  const Activation act{check_linear_act_backward(grad, output, input, weight, activation, negative_slope, wanted),
                       negative_slope};
  const bool changes = activation != Identity::kName;  // otherwise dz is dy
  const at::Tensor dy = cpu::with_dense_rows(as_matrix(grad));
  const at::Tensor y = changes ? cpu::with_dense_rows(as_matrix(*output)) : at::Tensor();

  at::Tensor dz = changes && (wanted[0] || wanted[1]) ? at::empty(dy.sizes(), dy.options()) : at::Tensor();
  at::Tensor bias_gradient = wanted[2] ? at::empty({dy.size(1)}, dy.options()) : at::Tensor();
  if (dz.defined() || bias_gradient.defined())
    cpu::with_storage(dy.scalar_type(), [&](auto storage) {
      using S = decltype(storage);
      cpu::gradient_pass<S>(act, dy.size(0), dy.size(1), cpu::rows_of<S>(dy), cpu::rows_of<S>(y),
                            cpu::mutable_data<S>(dz), cpu::mutable_data<S>(bias_gradient));
    });
  if (!dz.defined()) dz = dy;
  Gradients gradients{{}, {}, bias_gradient};
  if (wanted[0])
    std::get<0>(gradients) = cpu::product(dz, *weight).view(C10_AS_INTARRAYREF_SLOW(with_last(grad, weight->size(1))));
  if (wanted[1]) std::get<1>(gradients) = cpu::weight_gradient(std::move(dz), as_matrix(*input));
  return gradients;
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, CPU, m) {
  m.impl("linear_act", linear_act_cpu);
  m.impl("linear_act_backward", linear_act_backward_cpu);
}

}  // namespace fused_gan
