// A chain layer by layer through linear_act.
#pragma once

#include "ops.h"

namespace fused_gan {

// What mlp_backward and mlp_backward_ do with an inner output that no gradient reads any more. The tensor that is
// released stays, with no memory behind it.
enum class Spent { kKept, kReleased };
inline void spend(const at::Tensor& output, Spent spent) {
  if (spent == Spent::kKept) return;
  output.storage().set_data_ptr_noswap(at::DataPtr(nullptr, output.device()));
  output.storage().set_nbytes(0);
}

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
