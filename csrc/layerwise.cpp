// A chain layer by layer through linear_act, on any device and in any dtype. Meta tensors are traced with it. CPU and
// CUDA have kernels for a whole chain (cpu/chain.cpp, cuda/chain.cpp), which the dispatcher prefers.
#include "layerwise.h"

#include <c10/core/impl/LocalDispatchKeySet.h>

#include "aten_forms.h"
#include "chain_operators.h"
#include "ops.h"

namespace fused_gan {

ChainOutputs mlp_forward_layerwise(const at::Tensor& input, const Chain& chain, const ChainKept& kept) {
  // Autocast has cast the arguments of mlp already.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::autocast_dispatch_keyset};
  ChainOutputs outputs(chain.depth());
  at::Tensor y = input;
  for (size_t i = 0; i < chain.depth(); ++i) {
    const Activation& activation = chain.activations[i];
    const bool in_two = kept.preactivations[i];
    y = linear_act(y, chain.weights[i], chain.biases[i], in_two ? kIdentity : activation);
    if (in_two) {
      outputs.preactivations[i] = y;
      y = aten_forward(activation, y);
    }
    if (kept.outputs[i]) outputs.outputs[i] = y;
  }
  return outputs;
}

ChainGradients mlp_backward_layerwise(const ChainOutputs& grads, const ChainOutputs& outputs, const at::Tensor& input,
                                      const Chain& chain, const ChainWanted& wanted, Spent spent) {
  ChainGradients gradients{{}, std::vector<at::Tensor>(chain.depth()), std::vector<at::Tensor>(chain.depth())};
  at::Tensor dy;
  for (size_t i = chain.depth(); i-- > 0;) {
    const bool below = wanted.below(i);
    if (!below && !wanted.weights[i] && !wanted.biases[i]) break;
    if (const at::Tensor& own = grads.outputs[i]; own.defined()) dy = dy.defined() ? dy + own : own;
    Activation activation = chain.activations[i];
    at::Tensor kept = outputs.read_by(activation, i);
    if (const at::Tensor& own = grads.preactivations[i]; own.defined()) {  // dy becomes dz
      dy = dy.defined() ? aten_gradient(activation, dy, kept) + own : own;
      activation = kIdentity;
      kept = at::Tensor();
    }
    if (!dy.defined()) continue;
    std::tie(dy, gradients.weights[i], gradients.biases[i]) =
        linear_act_backward(dy, kept, i == 0 ? input : outputs.outputs[i - 1], chain.weights[i], activation,
                            {below, wanted.weights[i], wanted.biases[i]});
    spend(outputs.preactivations[i], spent);
    if (i + 1 < chain.depth()) spend(outputs.outputs[i], spent);
  }
  if (wanted.input) gradients.input = dy;
  return gradients;
}

ChainGradients mlp_backward_layerwise(const at::Tensor& grad, const ChainOutputs& outputs, const at::Tensor& input,
                                      const Chain& chain, const ChainWanted& wanted, Spent spent) {
  ChainOutputs grads(chain.depth());
  grads.outputs.back() = grad;
  return mlp_backward_layerwise(grads, outputs, input, chain, wanted, spent);
}

static at::Tensor mlp_last(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                           const lists::Names& activations, lists::Numbers parameters) {
  const Chain chain = make_chain(weights, biases.vec(), activations, parameters);
  check_mlp(input, chain);
  return mlp_forward(input, chain, ChainKept::result(chain.depth())).outputs.back();
}

static constexpr ChainKernels kLayerwise{mlp_forward_layerwise, mlp_backward_layerwise};

TORCH_LIBRARY_IMPL(fused_gan, CompositeExplicitAutograd, m) {
  m.impl("mlp", mlp_last);
  ChainOperators<kLayerwise>::register_in(m);
}

}  // namespace fused_gan
