// A chain layer by layer through linear_act, on any device and in any dtype. Meta tensors are traced with it. CPU and
// CUDA have kernels for a whole chain (cpu/chain.cpp, cuda/chain.cpp), which the dispatcher prefers.
#include "layerwise.h"

#include <c10/core/impl/LocalDispatchKeySet.h>

#include "chain_operators.h"
#include "ops.h"

namespace fused_gan {

std::vector<at::Tensor> mlp_forward_layerwise(const at::Tensor& input, const Chain& chain, size_t first) {
  // Autocast has cast the arguments of mlp already.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::autocast_dispatch_keyset};
  std::vector<at::Tensor> outputs;
  at::Tensor y = input;
  for (size_t i = 0; i < chain.depth(); ++i) {
    y = linear_act(y, chain.weights[i], chain.biases[i], chain.activation_name(i), chain.negative_slope);
    if (i >= first) outputs.push_back(y);
  }
  return outputs;
}

ChainGradients mlp_backward_layerwise(const std::vector<at::Tensor>& grads, const std::vector<at::Tensor>& outputs,
                                      const at::Tensor& input, const Chain& chain, const ChainWanted& wanted,
                                      Spent spent) {
  ChainGradients gradients{{}, std::vector<at::Tensor>(chain.depth()), std::vector<at::Tensor>(chain.depth())};
  at::Tensor dy;
  for (size_t i = chain.depth(); i-- > 0;) {
    const bool below = wanted.below(i);
    if (!below && !wanted.weights[i] && !wanted.biases[i]) break;
    if (grads[i].defined()) dy = dy.defined() ? dy + grads[i] : grads[i];
    if (!dy.defined()) continue;
    std::tie(dy, gradients.weights[i], gradients.biases[i]) = linear_act_backward(
        dy, i < outputs.size() ? std::optional(outputs[i]) : std::nullopt, i == 0 ? input : outputs[i - 1],
        chain.weights[i], chain.activation_name(i), chain.negative_slope, {below, wanted.weights[i], wanted.biases[i]});
    if (i + 1 < chain.depth()) spend(outputs[i], spent);
  }
  if (wanted.input) gradients.input = dy;
  return gradients;
}

ChainGradients mlp_backward_layerwise(const at::Tensor& grad, const std::vector<at::Tensor>& outputs,
                                      const at::Tensor& input, const Chain& chain, const ChainWanted& wanted,
                                      Spent spent) {
  std::vector<at::Tensor> grads(chain.depth());
  grads.back() = grad;
  return mlp_backward_layerwise(grads, outputs, input, chain, wanted, spent);
}

static at::Tensor mlp_last(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                           const lists::Names& activations, double negative_slope) {
  const Chain chain = make_chain(weights, biases.vec(), activations, negative_slope);
  check_mlp(input, chain);
  return mlp_forward(input, chain, chain.depth() - 1).back();
}

static constexpr ChainKernels kLayerwise{mlp_forward_layerwise, mlp_backward_layerwise};

TORCH_LIBRARY_IMPL(fused_gan, CompositeExplicitAutograd, m) {
  m.impl("mlp", mlp_last);
  ChainOperators<kLayerwise>::register_in(m);
}

}  // namespace fused_gan
