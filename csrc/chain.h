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
  std::vector<int64_t> activations;               // indices into Activations
  double negative_slope;

  size_t depth() const { return weights.size(); }
  Activation activation(size_t i) const { return {int(activations[i]), negative_slope}; }
  const char* activation_name(size_t i) const { return Activations::kNames[activations[i]]; }
  bool is_identity(size_t i) const { return activations[i] == Activations::index_of<Identity>(); }
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

// What mlp_backward and mlp_backward_ do with an inner output that no gradient reads any more. The tensor that is
// released stays, with no memory behind it.
enum class Spent { kKept, kReleased };
inline void spend(const at::Tensor& output, Spent spent) {
  if (spent == Spent::kKept) return;
  output.storage().set_data_ptr_noswap(at::DataPtr(nullptr, output.device()));
  output.storage().set_nbytes(0);
}

// A device's way to compute a whole chain, from arguments that check_mlp and check_mlp_backward have let through.
struct ChainKernels {
  // Returns the outputs of the layers from `first` on, the result last.
  std::vector<at::Tensor> (*forward)(const at::Tensor& input, const Chain& chain, size_t first);
  // Returns the first derivatives, from forward's outputs. The chain's biases are not looked at.
  ChainGradients (*backward)(const at::Tensor& grad, const std::vector<at::Tensor>& outputs, const at::Tensor& input,
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
using Flags = c10::List<bool>;

using Mlp = at::Tensor(const at::Tensor&, at::TensorList, const Biases&, const Names&, double);
using MlpForward = std::vector<at::Tensor>(const at::Tensor&, at::TensorList, const Biases&, const Names&, double,
                                           int64_t);
using MlpBackward = std::vector<at::Tensor>(const at::Tensor&, at::TensorList, const at::Tensor&, at::TensorList,
                                            const Names&, double, bool, const Flags&, const Flags&);

template <class T> c10::List<T> of(const std::vector<T>& values) {
  c10::List<T> list;
  list.reserve(values.size());
  for (const T& value : values) list.push_back(value);
  return list;
}

inline Names names(const Chain& chain) {
  Names names;
  names.reserve(chain.depth());
  for (size_t i = 0; i < chain.depth(); ++i) names.push_back(chain.activation_name(i));
  return names;
}

// Only what was asked for travels: a list cannot hold undefined tensors.
inline std::vector<at::Tensor> pack(const ChainGradients& gradients) {
  std::vector<at::Tensor> packed;
  const auto add = [&](const at::Tensor& tensor) {
    if (tensor.defined()) packed.push_back(tensor);
  };
  add(gradients.input);
  for (const auto& tensor : gradients.weights) add(tensor);
  for (const auto& tensor : gradients.biases) add(tensor);
  return packed;
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
