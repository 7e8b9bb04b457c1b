// A chain of layers: the structs that the code works with, and the lists that the dispatcher passes in their place.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/List.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "activations.h"

namespace fused_gan {

// make_chain (checks.h) makes one from the dispatcher's lists.
struct Chain {
  std::vector<at::Tensor> weights;
  std::vector<std::optional<at::Tensor>> biases;  // may be undefined
  std::vector<Activation> activations;

  size_t depth() const { return weights.size(); }
};

// Which of the tensors that forward computes it has to return: outputs of layers, and pre-activations.
struct ChainKept {
  std::vector<bool> outputs, preactivations;

  // The last output alone: nothing is kept for a backward.
  static ChainKept result(size_t depth) {
    ChainKept kept{std::vector<bool>(depth), std::vector<bool>(depth)};
    kept.outputs.back() = true;
    return kept;
  }
};

// A layer has undefined tensors where they were not asked for, or are not there.
struct ChainOutputs {
  std::vector<at::Tensor> outputs, preactivations;

  explicit ChainOutputs(size_t depth) : outputs(depth), preactivations(depth) {}
  // What the gradient of layer i's activation reads.
  const at::Tensor& read_by(const Activation& activation, size_t i) const {
    return reads_input(activation) ? preactivations[i] : outputs[i];
  }
};

// Which gradients of a chain are asked for.
struct ChainWanted {
  bool input;
  std::vector<bool> weights, biases;

  // Whether layer i's input gradient leads to anything asked for.
  bool below(size_t i) const {
    bool any = input;
    for (size_t j = 0; j < i; ++j) any = any || weights[j] || biases[j];
    return any;
  }
};

// Undefined where not asked for.
struct ChainGradients {
  at::Tensor input;
  std::vector<at::Tensor> weights, biases;
};

// What mlp_backward and mlp_backward_ do with a pre-activation or an inner output that no gradient reads any more. The
// tensor that is released stays, with no memory behind it.
enum class Spent { kKept, kReleased };
inline void spend(const at::Tensor& tensor, Spent spent) {
  if (spent == Spent::kKept || !tensor.defined()) return;
  tensor.storage().set_data_ptr_noswap(at::DataPtr(nullptr, tensor.device()));
  tensor.storage().set_nbytes(0);
}

// A device's way to compute a whole chain, from arguments that check_mlp and check_mlp_backward have let through.
struct ChainKernels {
  ChainOutputs (*forward)(const at::Tensor& input, const Chain& chain, const ChainKept& kept);
  // Returns the first derivatives, from forward's outputs. The chain's biases are not looked at.
  ChainGradients (*backward)(const at::Tensor& grad, const ChainOutputs& outputs, const at::Tensor& input,
                             const Chain& chain, const ChainWanted& wanted, Spent spent);
};
namespace cpu {
extern const ChainKernels kChainKernels;  // cpu/chain.cpp
}
namespace cuda {
extern const ChainKernels kChainKernels;  // cuda/chain.cpp, in builds with CUDA
}

}  // namespace fused_gan

namespace fused_gan::lists {

using Biases = c10::List<std::optional<at::Tensor>>;
using Names = c10::List<std::string>;
using Numbers = at::ArrayRef<double>;
using Flags = c10::List<bool>;

using Mlp = at::Tensor(const at::Tensor&, at::TensorList, const Biases&, const Names&, Numbers);
using MlpForward = std::vector<at::Tensor>(const at::Tensor&, at::TensorList, const Biases&, const Names&, Numbers,
                                           const Flags&, const Flags&);
using MlpBackward = std::vector<at::Tensor>(const at::Tensor&, at::TensorList, at::TensorList, const at::Tensor&,
                                            at::TensorList, const Names&, Numbers, bool, const Flags&, const Flags&);

template <class T> c10::List<T> of(const std::vector<T>& values) {
  c10::List<T> list;
  list.reserve(values.size());
  for (const T& value : values) list.push_back(value);
  return list;
}

inline Names names(const Chain& chain) {
  Names names;
  names.reserve(chain.depth());
  for (const Activation& activation : chain.activations) names.push_back(Activations::kNames[activation.index]);
  return names;
}

// Activation::kNumbers for each layer.
inline std::vector<double> parameters(const std::vector<Activation>& activations) {
  std::vector<double> numbers(Activation::kNumbers * activations.size());
  for (size_t i = 0; i < activations.size(); ++i) activations[i].write_numbers(&numbers[Activation::kNumbers * i]);
  return numbers;
}

// Only what is there travels: a list cannot hold undefined tensors.
inline void add(std::vector<at::Tensor>& packed, const std::vector<at::Tensor>& tensors) {
  for (const at::Tensor& tensor : tensors)
    if (tensor.defined()) packed.push_back(tensor);
}
inline std::vector<at::Tensor> pack(const ChainGradients& gradients) {
  std::vector<at::Tensor> packed;
  add(packed, {gradients.input});
  add(packed, gradients.weights);
  add(packed, gradients.biases);
  return packed;
}

inline std::vector<at::Tensor> pack(const ChainOutputs& outputs) {
  std::vector<at::Tensor> packed;
  add(packed, outputs.outputs);
  add(packed, outputs.preactivations);
  return packed;
}

inline ChainOutputs unpack(const std::vector<at::Tensor>& packed, const ChainKept& kept) {
  ChainOutputs outputs(kept.outputs.size());
  auto next = packed.begin();
  for (size_t i = 0; i < kept.outputs.size(); ++i)
    if (kept.outputs[i]) outputs.outputs[i] = *next++;
  for (size_t i = 0; i < kept.outputs.size(); ++i)
    if (kept.preactivations[i]) outputs.preactivations[i] = *next++;
  return outputs;
}

inline ChainGradients unpack(const std::vector<at::Tensor>& packed, const ChainWanted& wanted) {
  ChainGradients gradients;
  auto next = packed.begin();
  const auto take = [&](bool asked) { return asked ? *next++ : at::Tensor(); };
  gradients.input = take(wanted.input);
  for (const bool asked : wanted.weights) gradients.weights.push_back(take(asked));
  for (const bool asked : wanted.biases) gradients.biases.push_back(take(asked));
  return gradients;
}

}  // namespace fused_gan::lists
