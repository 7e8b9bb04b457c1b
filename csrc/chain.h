// A chain of layers: the structs that the code works with, and the lists that the dispatcher passes in their place.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/List.h>

#include <optional>
#include <string>
#include <vector>

namespace fused_gan {

// A chain of layers as every operator on it sees it. Biases may be undefined.
struct Chain {
  std::vector<at::Tensor> weights;
  std::vector<std::optional<at::Tensor>> biases;
  std::vector<std::string> activations;
  double negative_slope;

  size_t depth() const { return weights.size(); }
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

}  // namespace fused_gan

namespace fused_gan::lists {

using Biases = c10::List<std::optional<at::Tensor>>;
using Names = c10::List<std::string>;
using Flags = c10::List<bool>;

using Mlp = at::Tensor(const at::Tensor&, at::TensorList, const Biases&, const Names&, double);
using MlpForward = std::vector<at::Tensor>(const at::Tensor&, at::TensorList, const Biases&, const Names&, double);
using MlpBackward = std::vector<at::Tensor>(const at::Tensor&, at::TensorList, const at::Tensor&, at::TensorList,
                                            const Names&, double, bool, const Flags&, const Flags&);

template <class T> c10::List<T> of(const std::vector<T>& values) {
  c10::List<T> list;
  list.reserve(values.size());
  for (const T& value : values) list.push_back(value);
  return list;
}

inline Chain chain(at::TensorList weights, const Biases& biases, const Names& activations, double negative_slope) {
  return {weights.vec(), biases.vec(), activations.vec(), negative_slope};
}

// As the backward sees it, without biases.
inline Chain chain(at::TensorList weights, const Names& activations, double negative_slope) {
  return {weights.vec(), std::vector<std::optional<at::Tensor>>(weights.size()), activations.vec(), negative_slope};
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
