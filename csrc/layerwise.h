// A chain layer by layer through linear_act.
#pragma once

#include "chain.h"

namespace fused_gan {

std::vector<at::Tensor> mlp_forward_layerwise(const at::Tensor& input, const Chain& chain, size_t first);

// `grads`: the gradients of every layer's output, each undefined where there is none. A tensor that no gradient asked
// for reads may be undefined.
ChainGradients mlp_backward_layerwise(const std::vector<at::Tensor>& grads, const std::vector<at::Tensor>& outputs,
                                      const at::Tensor& input, const Chain& chain, const ChainWanted& wanted,
                                      Spent spent = Spent::kKept);

// `grad`: the gradient of the last output. The inner outputs have none.
ChainGradients mlp_backward_layerwise(const at::Tensor& grad, const std::vector<at::Tensor>& outputs,
                                      const at::Tensor& input, const Chain& chain, const ChainWanted& wanted,
                                      Spent spent = Spent::kKept);

}  // namespace fused_gan
