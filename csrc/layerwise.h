// A chain layer by layer through linear_act.
#pragma once

#include "chain.h"

namespace fused_gan {

std::vector<at::Tensor> mlp_forward_layerwise(const at::Tensor& input, const Chain& chain);

// `grads`: of every layer's output, undefined where there is none. Only what the gradients asked for read must be
// there.
ChainGradients mlp_backward_layerwise(const std::vector<at::Tensor>& grads, const std::vector<at::Tensor>& outputs,
                                      const at::Tensor& input, const Chain& chain, const ChainWanted& wanted,
                                      Spent spent = Spent::kKept);

// `grad`: of the last output alone.
ChainGradients mlp_backward_layerwise(const at::Tensor& grad, const std::vector<at::Tensor>& outputs,
                                      const at::Tensor& input, const Chain& chain, const ChainWanted& wanted,
                                      Spent spent = Spent::kKept);

}  // namespace fused_gan
