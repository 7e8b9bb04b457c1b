// The operators mlp_forward, mlp_backward and mlp_backward_ on a device's kernels, as the dispatcher calls them.
#pragma once

#include <torch/library.h>

#include "checks.h"

namespace fused_gan {

template <const ChainKernels& kernels> struct ChainOperators {
  static std::vector<at::Tensor> forward(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                                         const lists::Names& activations, double negative_slope, int64_t first) {
    const Chain chain = make_chain(weights, biases.vec(), activations, negative_slope);
    check_mlp(input, chain);
    return kernels.forward(input, chain, check_first(first, chain));
  }

  template <Spent spent>
  static std::vector<at::Tensor> backward(const at::Tensor& grad, at::TensorList outputs, const at::Tensor& input,
                                          at::TensorList weights, const lists::Names& activations,
                                          double negative_slope, bool input_wanted, const lists::Flags& weights_wanted,
                                          const lists::Flags& biases_wanted) {
    const Chain chain = make_chain(weights, activations, negative_slope);
    const ChainWanted wanted{input_wanted, weights_wanted.vec(), biases_wanted.vec()};
    check_mlp_backward(grad, outputs, input, chain, wanted);
    return lists::pack(kernels.backward(grad, outputs.vec(), input, chain, wanted, spent));
  }

  static void register_in(torch::Library& m) {
    m.impl("mlp_forward", forward);
    m.impl("mlp_backward", backward<Spent::kKept>);
    m.impl("mlp_backward_", backward<Spent::kReleased>);
  }
};

}  // namespace fused_gan
