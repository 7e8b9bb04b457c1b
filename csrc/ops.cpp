// Every operator schema, and the operators as functions. The kernels register themselves beside their code:
// cpu/*.cpp, cuda/linear_act.cpp, meta.cpp, layerwise.cpp, autograd.cpp, autocast.cpp.
#include "ops.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

namespace fused_gan {

TORCH_LIBRARY(fused_gan, m) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};
  m.def("linear_act(Tensor input, Tensor weight, Tensor? bias, str activation, float negative_slope=0.01) -> Tensor",
        tags);
  m.def(
      "linear_act_backward(Tensor grad, Tensor? output, Tensor? input, Tensor? weight, str activation, "
      "float negative_slope, bool[3] wanted) -> (Tensor, Tensor, Tensor)",
      tags);
  m.def("mlp(Tensor input, Tensor[] weights, Tensor?[] biases, str[] activations, float negative_slope=0.01) -> Tensor",
        tags);
  m.def(
      "mlp_forward(Tensor input, Tensor[] weights, Tensor?[] biases, str[] activations, float negative_slope) -> "
      "Tensor[]",
      tags);
  // The gradients asked for, in the order input, weights, biases.
  m.def(
      "mlp_backward(Tensor grad, Tensor[] outputs, Tensor input, Tensor[] weights, str[] activations, "
      "float negative_slope, bool input_wanted, bool[] weights_wanted, bool[] biases_wanted) -> Tensor[]",
      tags);
  // The same, but each inner output that a gradient reads is given back to the allocator as soon as none does any more:
  // nothing is left of it.
  m.def(
      "mlp_backward_(Tensor grad, Tensor(a!)[] outputs, Tensor input, Tensor[] weights, str[] activations, "
      "float negative_slope, bool input_wanted, bool[] weights_wanted, bool[] biases_wanted) -> Tensor[]");
}

template <class Signature> static c10::TypedOperatorHandle<Signature> find(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

at::Tensor linear_act(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                      std::string_view activation, double negative_slope) {
  static const auto op = find<decltype(linear_act)>("fused_gan::linear_act");
  return op.call(input, weight, bias, activation, negative_slope);
}

Gradients linear_act_backward(const at::Tensor& grad, const std::optional<at::Tensor>& output,
                              const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                              std::string_view activation, double negative_slope, std::array<bool, 3> wanted) {
  static const auto op = find<decltype(linear_act_backward)>("fused_gan::linear_act_backward");
  return op.call(grad, output, input, weight, activation, negative_slope, wanted);
}

at::Tensor mlp(const at::Tensor& input, const Chain& chain) {
  static const auto op = find<lists::Mlp>("fused_gan::mlp");
  return op.call(input, chain.weights, lists::of(chain.biases), lists::of(chain.activations), chain.negative_slope);
}

std::vector<at::Tensor> mlp_forward(const at::Tensor& input, const Chain& chain) {
  static const auto op = find<lists::MlpForward>("fused_gan::mlp_forward");
  return op.call(input, chain.weights, lists::of(chain.biases), lists::of(chain.activations), chain.negative_slope);
}

static ChainGradients call_backward(const c10::TypedOperatorHandle<lists::MlpBackward>& op, const at::Tensor& grad,
                                    const std::vector<at::Tensor>& outputs, const at::Tensor& input, const Chain& chain,
                                    const ChainWanted& wanted) {
  return lists::unpack(op.call(grad, outputs, input, chain.weights, lists::of(chain.activations), chain.negative_slope,
                               wanted.input, lists::of(wanted.weights), lists::of(wanted.biases)),
                       wanted);
}

ChainGradients mlp_backward(const at::Tensor& grad, const std::vector<at::Tensor>& outputs, const at::Tensor& input,
                            const Chain& chain, const ChainWanted& wanted) {
  static const auto op = find<lists::MlpBackward>("fused_gan::mlp_backward");
  return call_backward(op, grad, outputs, input, chain, wanted);
}

ChainGradients mlp_backward_(const at::Tensor& grad, const std::vector<at::Tensor>& outputs, const at::Tensor& input,
                             const Chain& chain, const ChainWanted& wanted) {
  static const auto op = find<lists::MlpBackward>("fused_gan::mlp_backward_");
  return call_backward(op, grad, outputs, input, chain, wanted);
}

}  // namespace fused_gan
