// A chain on CUDA. It never synchronises, and its scratch memory comes from torch's caching allocator, so a graph can
// capture it. Backward, each layer's product leaves dz of the layer below and that layer's bias gradient. A weight
// gradient waits for its dz, but nothing in the chain waits for a weight gradient.
#include "../chain.h"

#include "../chain_operators.h"
#include "branch.h"
#include "layers.h"

namespace fused_gan {
namespace {

// Products of more rows fill a device by themselves, and a branch gains nothing. Assumed, not measured.
constexpr int64_t kBranchRows = 512;

// dz (rows, out), x (rows, in) -> (out, in), in the branch
at::Tensor weight_gradient(const at::Tensor& dz, const at::Tensor& x, cuda::Branch& branch) {
  at::Tensor gradient = at::empty({dz.size(1), x.size(1)}, dz.options());
  branch.run({dz, x}, [&] { at::mm_out(gradient, dz.t(), x); });
  return gradient;
}

ChainOutputs forward(const at::Tensor& input, const Chain& chain, const ChainKept& kept) {
  const cuda::Scope scope(input);
  ChainOutputs outputs(chain.depth());
  at::Tensor x = as_matrix(input);
  for (size_t i = 0; i < chain.depth(); ++i) {
    const at::Tensor& weight = chain.weights[i];
    const auto as_output = [&](const at::Tensor& rows) {
      return input.dim() == 2 ? rows : rows.view(C10_AS_INTARRAYREF_SLOW(with_last(input, weight.size(0))));
    };
    const auto [y, z] = cuda::forward_layer(chain.activations[i], x, weight, chain.biases[i].value_or(at::Tensor()),
                                            kept.preactivations[i]);
    if (kept.outputs[i]) outputs.outputs[i] = as_output(y);
    if (kept.preactivations[i]) outputs.preactivations[i] = as_output(z);
    x = y;
  }
  return outputs;
}

ChainGradients backward(const at::Tensor& grad, const ChainOutputs& outputs, const at::Tensor& input,
                        const Chain& chain, const ChainWanted& wanted, Spent spent) {
  const cuda::Scope scope(grad);
  const size_t depth = chain.depth(), last = depth - 1;
  ChainGradients gradients{{}, std::vector<at::Tensor>(depth), std::vector<at::Tensor>(depth)};
  const auto read_by_gradient = [&](size_t i) {
    const Activation& activation = chain.activations[i];
    return reads_nothing(activation) ? at::Tensor() : as_matrix(outputs.read_by(activation, i));
  };

  cuda::Branch branch(as_matrix(grad).size(0) <= kBranchRows);
  cuda::LayerGradient gradient = cuda::gradient_layer(chain.activations[last], as_matrix(grad), read_by_gradient(last),
                                                      wanted.below(last) || wanted.weights[last], wanted.biases[last]);
  spend(outputs.preactivations[last], spent);
  for (size_t i = last;; --i) {
    gradients.biases[i] = gradient.bias;
    const at::Tensor dz = gradient.dz, &weight = chain.weights[i];
    const at::Tensor x = as_matrix(i == 0 ? input : outputs.outputs[i - 1]);
    if (!wanted.below(i)) {
      if (wanted.weights[i]) gradients.weights[i] = at::mm(dz.t(), x);
      break;
    }
    if (wanted.weights[i]) gradients.weights[i] = weight_gradient(dz, x, branch);
    if (i == 0) {
      gradients.input = at::mm(dz, weight).view(input.sizes());
      break;
    }
    gradient =
        cuda::backward_layer(chain.activations[i - 1], dz, weight, read_by_gradient(i - 1), wanted.biases[i - 1]);
    // The branch reads outputs; pre-activations are read by the main stream alone.
    if (!branch.reads()) spend(outputs.outputs[i - 1], spent);
    spend(outputs.preactivations[i - 1], spent);
  }
  branch.join();
  return gradients;
}

}  // namespace

constexpr ChainKernels cuda::kChainKernels{forward, backward};

TORCH_LIBRARY_IMPL(fused_gan, CUDA, m) { ChainOperators<cuda::kChainKernels>::register_in(m); }

}  // namespace fused_gan
