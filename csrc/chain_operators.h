// The operators mlp_forward, mlp_backward and mlp_backward_ on a device's kernels, as the dispatcher calls them.
#pragma once

#include <torch/library.h>

#include "checks.h"

namespace fused_gan {

template <const ChainKernels& kernels> struct ChainOperators {
  static std::vector<at::Tensor> forward(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                                         const lists::Names& activations, lists::Numbers parameters,
                                         const lists::Flags& outputs, const lists::Flags& preactivations) {
    const Chain chain = make_chain(weights, biases.vec(), activations, parameters);
    check_mlp(input, chain);
    return lists::pack(kernels.forward(input, chain, make_kept(chain, outputs, preactivations)));
  }

  template <Spent spent>
  static std::vector<at::Tensor> backward(const at::Tensor& grad, at::TensorList outputs, at::TensorList preactivations,
                                          const at::Tensor& input, at::TensorList weights,
                                          const lists::Names& activations, lists::Numbers parameters, bool input_wanted,
                                          const lists::Flags& weights_wanted, const lists::Flags& biases_wanted) {
    const Chain chain = make_chain(weights, activations, parameters);
    const ChainOutputs made = make_outputs(chain, outputs, preactivations);
    const ChainWanted wanted{input_wanted, weights_wanted.vec(), biases_wanted.vec()};
    check_mlp_backward(grad, made, input, chain, wanted);
    return lists::pack(kernels.backward(grad, made, input, chain, wanted, spent));
  }

  static void register_in(torch::Library& m) {
    m.impl("mlp_forward", forward);
    m.impl("mlp_backward", backward<Spent::kKept>);
    m.impl("mlp_backward_", backward<Spent::kReleased>);
  }
};

}  // namespace fused_gan
