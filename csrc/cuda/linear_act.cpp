// linear_act and its backward on CUDA: checks and shapes. layers.cpp does the work.
#include <torch/library.h>

#include "../checks.h"
#include "../ops.h"
#include "layers.h"

namespace fused_gan {
namespace {

// input (..., in), weight (out, in), bias (out) or none -> (..., out)
at::Tensor linear_act_cuda(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           std::string_view name, lists::Numbers parameters) {
  const Activation act = check_linear_act(input, weight, bias, name, parameters);
  const cuda::Scope scope(input);
  const at::Tensor y = cuda::forward_layer(act, as_matrix(input), weight, bias.value_or(at::Tensor()), false).y;
  return input.dim() == 2 ? y : y.view(C10_AS_INTARRAYREF_SLOW(output_sizes(input, weight)));
}

// grad, kept (..., out); input (..., in); weight (out, in). kept may be none for identity.
Gradients linear_act_backward_cuda(const at::Tensor& grad, const std::optional<at::Tensor>& kept,
                                   const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                                   std::string_view name, lists::Numbers parameters, std::array<bool, 3> wanted) {
  const Activation act = check_linear_act_backward(grad, kept, input, weight, name, parameters, wanted);
  const cuda::Scope scope(grad);
  const at::Tensor read = reads_nothing(act) ? at::Tensor() : as_matrix(*kept);
  const auto [dz, bias_gradient] = cuda::gradient_layer(act, as_matrix(grad), read, wanted[0] || wanted[1], wanted[2]);
  return {
      wanted[0] ? at::mm(dz, *weight).view(C10_AS_INTARRAYREF_SLOW(with_last(grad, weight->size(1)))) : at::Tensor(),
      wanted[1] ? at::mm(dz.t(), as_matrix(*input)) : at::Tensor(), bias_gradient};
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, CUDA, m) {
  m.impl("linear_act", linear_act_cuda);
  m.impl("linear_act_backward", linear_act_backward_cuda);
}

}  // namespace fused_gan
