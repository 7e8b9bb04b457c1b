// Between the lists that the dispatcher passes and the structs that the code works with.
#pragma once

#include <ATen/core/List.h>

#include "ops.h"

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

inline ChainGradients spread(const std::vector<at::Tensor>& packed, const ChainWanted& wanted) {
  ChainGradients gradients;
  auto next = packed.begin();
  const auto take = [&](bool asked) { return asked ? *next++ : at::Tensor(); };
  gradients.input = take(wanted.input);
  for (const bool asked : wanted.weights) gradients.weights.push_back(take(asked));
  for (const bool asked : wanted.biases) gradients.biases.push_back(take(asked));
  return gradients;
}

}  // namespace fused_gan::lists
