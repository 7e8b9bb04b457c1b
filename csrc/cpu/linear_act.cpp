// linear_act and its backward on CPU: checks and memory. layers.h spreads the work, the kernels of kernel_table.h do
// it.
#include <torch/library.h>

#include "../checks.h"
#include "../ops.h"
#include "layer_forward.h"

namespace fused_gan {
namespace {

at::Tensor linear_act_cpu(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                          std::string_view name, lists::Numbers parameters) {
  const Activation activation = check_linear_act(input, weight, bias, name, parameters);
  const at::Tensor x = cpu::with_dense_rows(as_matrix(input));
  const at::Tensor b = bias && bias->defined() ? bias->contiguous() : at::Tensor();
  at::Tensor y = at::empty(C10_AS_INTARRAYREF_SLOW(output_sizes(input, weight)), input.options());
  const at::Tensor rows = y.view({x.size(0), weight.size(0)});
  cpu::with_storage(input.scalar_type(), [&](auto storage) {
    using S = decltype(storage);
    const cpu::Kernel kernel = cpu::kernel_for<S>(cpu::Direction::kForward, x.size(0), x.size(1), weight.size(0));
    cpu::forward<S>(kernel, activation, x, weight, b, rows);
  });
  return y;
}

Gradients linear_act_backward_cpu(const at::Tensor& grad, const std::optional<at::Tensor>& kept,
                                  const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                                  std::string_view name, lists::Numbers parameters, std::array<bool, 3> wanted) {
  const Activation activation = check_linear_act_backward(grad, kept, input, weight, name, parameters, wanted);
  const bool changes = !is_identity(activation);  // otherwise dz is dy
  const at::Tensor dy = cpu::with_dense_rows(as_matrix(grad));
  const at::Tensor read = reads_nothing(activation) ? at::Tensor() : cpu::with_dense_rows(as_matrix(*kept));

  at::Tensor dz = changes && (wanted[0] || wanted[1]) ? at::empty(dy.sizes(), dy.options()) : at::Tensor();
  at::Tensor bias_gradient = wanted[2] ? at::empty({dy.size(1)}, dy.options()) : at::Tensor();
  if (dz.defined() || bias_gradient.defined())
    cpu::with_storage(dy.scalar_type(), [&](auto storage) {
      using S = decltype(storage);
      cpu::gradient_pass<S>(activation, dy.size(0), dy.size(1), cpu::rows_of<S>(dy), cpu::rows_of<S>(read),
                            cpu::mutable_data<S>(dz), cpu::mutable_data<S>(bias_gradient));
    });
  if (!dz.defined()) dz = dy;
  Gradients gradients{{}, {}, bias_gradient};
  auto& [dx, weight_gradient, _] = gradients;
  cpu::with_storage(dz.scalar_type(), [&](auto storage) {
    cpu::backward<decltype(storage)>(std::move(dz), wanted[0] ? *weight : at::Tensor(),
                                     wanted[1] ? as_matrix(*input) : at::Tensor(), dx, weight_gradient);
  });
  if (wanted[0]) dx = dx.view(C10_AS_INTARRAYREF_SLOW(with_last(grad, weight->size(1))));
  return gradients;
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, CPU, m) {
  m.impl("linear_act", linear_act_cpu);
  m.impl("linear_act_backward", linear_act_backward_cpu);
}

}  // namespace fused_gan
