// A chain on CUDA: one operator call, no synchronisation, scratch memory from torch's caching allocator, so that it can
// be captured in a graph. Backward, what leaves a layer's product is dz of the layer below, with its bias gradient. The
// weight gradients wait for dz, but nothing in the chain waits for them.
#include <torch/library.h>

#include "../checks.h"
#include "../layerwise.h"
#include "branch.h"
#include "layers.h"

namespace fused_gan {
namespace {

// Products of more rows fill a device by themselves. Assumed, not measured.
constexpr int64_t kBranchRows = 512;

// dz (rows, out), x (rows, in) -> (out, in), in the branch
at::Tensor weight_gradient(const at::Tensor& dz, const at::Tensor& x, cuda::Branch& branch) {
  at::Tensor gradient = at::empty({dz.size(1), x.size(1)}, dz.options());
  branch.run({dz, x}, [&] { at::mm_out(gradient, dz.t(), x); });
  return gradient;
}

std::vector<at::Tensor> mlp_forward_cuda(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                                         const lists::Names& activations, double negative_slope) {
  const Chain chain = lists::chain(weights, biases, activations, negative_slope);
  const std::vector<int> indices = check_mlp(input, chain);
  const cuda::Scope scope(input);
  std::vector<at::Tensor> outputs;
  at::Tensor x = as_matrix(input);
  for (size_t i = 0; i < chain.depth(); ++i) {
    const at::Tensor& weight = chain.weights[i];
    x = cuda::forward_layer({indices[i], negative_slope}, x, weight, chain.biases[i].value_or(at::Tensor()));
    outputs.push_back(input.dim() == 2 ? x : x.view(C10_AS_INTARRAYREF_SLOW(with_last(input, weight.size(0)))));
  }
  return outputs;
}

template <Spent spent>
std::vector<at::Tensor> mlp_backward_cuda(const at::Tensor& grad, at::TensorList outputs, const at::Tensor& input,
                                          at::TensorList weights, const lists::Names& activations,
                                          double negative_slope, bool input_wanted, const lists::Flags& weights_wanted,
                                          const lists::Flags& biases_wanted) {
  const Chain chain = lists::chain(weights, activations, negative_slope);
  const ChainWanted wanted{input_wanted, weights_wanted.vec(), biases_wanted.vec()};
  const std::vector<int> indices = check_mlp_backward(grad, outputs, input, chain, wanted);
  const cuda::Scope scope(grad);
  const size_t depth = chain.depth(), last = depth - 1;
  ChainGradients gradients{{}, std::vector<at::Tensor>(depth), std::vector<at::Tensor>(depth)};

  const at::Tensor y = chain.activations[last] == Identity::kName ? at::Tensor() : as_matrix(outputs[last]);
  cuda::Branch branch(as_matrix(grad).size(0) <= kBranchRows);
  cuda::LayerGradient gradient = cuda::gradient_layer({indices[last], negative_slope}, as_matrix(grad), y,
                                                      wanted.below(last) || wanted.weights[last], wanted.biases[last]);
  for (size_t i = last;; --i) {
    gradients.biases[i] = gradient.bias;
    const at::Tensor dz = gradient.dz, &weight = chain.weights[i];
    const at::Tensor x = as_matrix(i == 0 ? input : outputs[i - 1]);
    if (!wanted.below(i)) {
      if (wanted.weights[i]) gradients.weights[i] = at::mm(dz.t(), x);
      break;
    }
    if (wanted.weights[i]) gradients.weights[i] = weight_gradient(dz, x, branch);
    if (i == 0) {
      gradients.input = at::mm(dz, weight).view(input.sizes());
      break;
    }
    gradient = cuda::backward_layer({indices[i - 1], negative_slope}, dz, weight, x, wanted.biases[i - 1]);
    if (!branch.reads()) spend(outputs[i - 1], spent);
  }
  branch.join();
  return lists::pack(gradients);
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, CUDA, m) {
  m.impl("mlp_forward", mlp_forward_cuda);
  m.impl("mlp_backward", mlp_backward_cuda<Spent::kKept>);
  m.impl("mlp_backward_", mlp_backward_cuda<Spent::kReleased>);
}

}  // namespace fused_gan
