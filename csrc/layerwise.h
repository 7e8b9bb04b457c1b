// A chain layer by layer through linear_act.
#pragma once

#include "chain.h"

namespace fused_gan {

ChainOutputs mlp_forward_layerwise(const at::Tensor& input, const Chain& chain, const ChainKept& kept);

// `grads`: the gradients of the outputs and pre-activations, each undefined where there is none. A tensor that no
// gradient asked for reads may be undefined.
ChainGradients mlp_backward_layerwise(const ChainOutputs& grads, const ChainOutputs& outputs, const at::Tensor& input,
                                      const Chain& chain, const ChainWanted& wanted, Spent spent = Spent::kKept);

// `grad`: the gradient of the last output. The others have none.
ChainGradients mlp_backward_layerwise(const at::Tensor& grad, const ChainOutputs& outputs, const at::Tensor& input,
                                      const Chain& chain, const ChainWanted& wanted, Spent spent = Spent::kKept);

}  // namespace fused_gan
