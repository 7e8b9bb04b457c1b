// Argument checks and output shapes, shared by CPU, CUDA and Meta. Every message names the argument, what was expected
// and what came. Sizes are symbolic, so the same checks serve torch.compile's dynamic shapes.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "activations.h"
#include "chain.h"

namespace fused_gan {

inline std::string activation_names() {
  std::string names;
  for (const char* name : Activations::kNames) names += (names.empty() ? "'" : ", '") + std::string(name) + "'";
  return names;
}

inline int activation_index(std::string_view name) {
  for (int i = 0; i < Activations::kCount; ++i)
    if (name == Activations::kNames[i]) return i;
  TORCH_CHECK_VALUE(false, "activation: expected one of ", activation_names(), ", got '", name, "'");
}

// `parameters`: kNumbers of them, or none for the activation's defaults. Refused is what has no meaning in any dtype.
// (The functions in Python refuse more: what PyTorch's refuse, and infinities.)
inline Activation check_activation(std::string_view name, at::ArrayRef<double> parameters) {
  Activation activation{activation_index(name), {}};
  const Parameter* known = Activations::kParameters[activation.index];
  if (parameters.empty()) {
    activation.parameters = {known[0].default_value, known[1].default_value};
    return activation;
  }
  TORCH_CHECK_VALUE(parameters.size() == Activation::kNumbers, "parameters: expected ", Activation::kNumbers,
                    " numbers for each activation, or none, got ", parameters.size());
  activation = Activation::of(activation.index, parameters.data());
  const auto [first, second] = activation.parameters;
  for (int i = 0; i < Activations::kParameterCounts[activation.index]; ++i)
    TORCH_CHECK_VALUE(!std::isnan(parameters[i]), known[i].name, ": expected a number, got NaN");
  if (activation.index == Activations::index_of<Hardtanh>())
    TORCH_CHECK_VALUE(first <= second, "min_val: expected at most max_val, ", second, ", got ", first);
  if (activation.index == Activations::index_of<Celu>())
    TORCH_CHECK_VALUE(first != 0, "alpha: expected a number other than 0 for 'celu', got 0");
  const auto [gain, limit] = activation.scale;
  TORCH_CHECK_VALUE(!std::isnan(gain), "gain: expected a number, got NaN");
  TORCH_CHECK_VALUE(limit >= 0, "clamp: expected a number of at least 0, got ", limit);
  return activation;
}

// By value: torch 2.11 returns temporaries, later ones views of constants.
inline std::string dtype_name(at::ScalarType dtype) { return std::string(c10::getDtypeNames(dtype).first); }

// An argument, or one place of a list, as messages call it. No text is made unless there is a message.
struct ArgumentName {
  const char* name;
  std::optional<size_t> place = {};
};
inline std::ostream& operator<<(std::ostream& stream, const ArgumentName& argument) {
  stream << argument.name;
  return argument.place ? stream << '[' << *argument.place << ']' : stream;
}

// `like`: the argument that dtype and device have to agree with.
inline void check_tensor(const at::Tensor& tensor, ArgumentName name, const at::Tensor& like,
                         ArgumentName like_name = {"input"}) {
  TORCH_CHECK_TYPE(tensor.defined(), name, ": expected a tensor, got None");
  TORCH_CHECK_TYPE(tensor.layout() == at::kStrided && !tensor.is_nested(), name,
                   ": expected a dense (strided) tensor, got ",
                   tensor.is_nested() ? "a nested tensor of layout " : "layout ", tensor.layout());
  const auto dtype = tensor.scalar_type();
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 || dtype == at::kHalf, name,
                   ": expected dtype float32, float64, bfloat16 or float16, got ", dtype_name(dtype));
  TORCH_CHECK_TYPE(dtype == like.scalar_type(), name, ": expected the dtype of ", like_name, ", ",
                   dtype_name(like.scalar_type()), ", got ", dtype_name(dtype));
  TORCH_CHECK(tensor.device() == like.device(), name, ": expected the device of ", like_name, ", ", like.device(),
              ", got ", tensor.device());
}

inline void check_input(const at::Tensor& input) {
  check_tensor(input, {"input"}, input);
  TORCH_CHECK_VALUE(input.dim() >= 1, "input: expected shape (..., in_features), got a scalar");
}

// One layer's parameters: weight (out, in), bias (out) or none. The names are for the messages.
inline void check_parameters(const at::Tensor& input, const at::Tensor& weight, ArgumentName weight_name,
                             const std::optional<at::Tensor>& bias, ArgumentName bias_name) {
  check_tensor(weight, weight_name, input);
  TORCH_CHECK_VALUE(weight.dim() == 2, weight_name, ": expected shape (out_features, in_features), got ",
                    weight.sym_sizes());
  if (bias && bias->defined()) {
    check_tensor(*bias, bias_name, input);
    TORCH_CHECK_VALUE(bias->dim() == 1 && bias->sym_size(0) == weight.sym_size(0), bias_name, ": expected shape (",
                      weight.sym_size(0), ",) (the weight's out_features), got ", bias->sym_sizes());
  }
}

// input (..., in), weight (out, in), bias (out) or none.
inline Activation check_linear_act(const at::Tensor& input, const at::Tensor& weight,
                                   const std::optional<at::Tensor>& bias, std::string_view name,
                                   at::ArrayRef<double> parameters) {
  const Activation activation = check_activation(name, parameters);
  check_input(input);
  check_parameters(input, weight, {"weight"}, bias, {"bias"});
  TORCH_CHECK_VALUE(input.sym_size(-1) == weight.sym_size(1), "input: expected last dimension ", weight.sym_size(1),
                    " (weight's in_features), got shape ", input.sym_sizes());
  return activation;
}

// Returns a chain from the dispatcher's lists. Its numbers of layers agree, and its activations are known.
inline Chain make_chain(at::TensorList weights, std::vector<std::optional<at::Tensor>> biases,
                        const lists::Names& activations, lists::Numbers parameters) {
  const size_t depth = weights.size();
  TORCH_CHECK_VALUE(depth > 0, "weights: expected at least one, got none");
  TORCH_CHECK_VALUE(biases.size() == depth, "biases: expected one (or None) for each of the ", depth, " weights, got ",
                    biases.size());
  TORCH_CHECK_VALUE(activations.size() == depth, "activations: expected one for each of the ", depth, " weights, got ",
                    activations.size());
  constexpr size_t kNumbers = Activation::kNumbers;
  TORCH_CHECK_VALUE(parameters.empty() || parameters.size() == kNumbers * depth, "parameters: expected ", kNumbers,
                    " numbers for each of the ", depth, " weights, or none, got ", parameters.size());
  Chain chain{weights.vec(), std::move(biases), {}};
  chain.activations.reserve(depth);
  for (size_t i = 0; i < depth; ++i)
    chain.activations.push_back(check_activation(
        activations.get(i), parameters.empty() ? parameters : parameters.slice(kNumbers * i, kNumbers)));
  return chain;
}

// The same as a backward sees it, without biases.
inline Chain make_chain(at::TensorList weights, const lists::Names& activations, lists::Numbers parameters) {
  return make_chain(weights, std::vector<std::optional<at::Tensor>>(weights.size()), activations, parameters);
}

// input (..., in), weights (out, in) one after the other, each with its bias or none.
inline void check_mlp(const at::Tensor& input, const Chain& chain) {
  check_input(input);
  c10::SymInt features = input.sym_size(-1);
  for (size_t i = 0; i < chain.depth(); ++i) {
    const at::Tensor& weight = chain.weights[i];
    const ArgumentName name{"weights", i};
    check_parameters(input, weight, name, chain.biases[i], {"biases", i});
    TORCH_CHECK_VALUE(weight.sym_size(1) == features, name, ": expected in_features ", features,
                      i == 0 ? " (input's last dimension)" : " (the out_features before it)", ", got shape ",
                      weight.sym_sizes());
    features = weight.sym_size(0);
  }
}

// From the dispatcher's flags, one a layer.
inline ChainKept make_kept(const Chain& chain, const lists::Flags& outputs, const lists::Flags& preactivations) {
  TORCH_CHECK_VALUE(outputs.size() == chain.depth() && preactivations.size() == chain.depth(),
                    "outputs_wanted and preactivations_wanted: expected ", chain.depth(), " flags each, got ",
                    outputs.size(), " and ", preactivations.size());
  return {outputs.vec(), preactivations.vec()};
}

// From the dispatcher's lists: every layer's output, of which the last may be left out where no gradient reads it, and
// the pre-activations of the layers whose gradients read those.
inline ChainOutputs make_outputs(const Chain& chain, at::TensorList outputs, at::TensorList preactivations) {
  const size_t depth = chain.depth();
  const bool needs_last = reads(chain.activations.back()) == Reads::kOutput;
  TORCH_CHECK_VALUE(outputs.size() == depth || (outputs.size() + 1 == depth && !needs_last), "outputs: expected ",
                    depth, ", one a layer, got ", outputs.size());
  const size_t expected = size_t(std::count_if(chain.activations.begin(), chain.activations.end(), reads_input));
  TORCH_CHECK_VALUE(preactivations.size() == expected, "preactivations: expected ", expected,
                    ", one for each activation whose gradient reads it, got ", preactivations.size());
  ChainOutputs made(depth);
  std::copy(outputs.begin(), outputs.end(), made.outputs.begin());
  for (size_t i = 0, next = 0; i < depth; ++i)
    if (reads_input(chain.activations[i])) made.preactivations[i] = preactivations[next++];
  return made;
}

// A tensor with the shape of a layer's output: the output itself, or its gradient.
inline void check_output(const at::Tensor& tensor, ArgumentName name, const at::Tensor& input,
                         const at::Tensor& weight) {
  check_tensor(tensor, name, input);
  TORCH_CHECK_VALUE(tensor.dim() == input.dim() && tensor.sym_size(-1) == weight.sym_size(0) &&
                        tensor.sym_sizes().slice(0, tensor.dim() - 1) == input.sym_sizes().slice(0, input.dim() - 1),
                    name, ": expected input's shape with last dimension ", weight.sym_size(0), ", got ",
                    tensor.sym_sizes());
}

inline bool present(const std::optional<at::Tensor>& tensor) { return tensor && tensor->defined(); }

// grad (..., out); kept the same, or none for identity, whose gradient reads none; input (..., in) where the weight's
// gradient is wanted; weight (out, in) where the input's is.
inline Activation check_linear_act_backward(const at::Tensor& grad, const std::optional<at::Tensor>& kept,
                                            const std::optional<at::Tensor>& input,
                                            const std::optional<at::Tensor>& weight, std::string_view name,
                                            at::ArrayRef<double> parameters, std::array<bool, 3> wanted) {
  const Activation activation = check_activation(name, parameters);
  check_tensor(grad, {"grad"}, grad);
  TORCH_CHECK_VALUE(grad.dim() >= 1, "grad: expected shape (..., out_features), got a scalar");
  const auto leading = [](const at::Tensor& tensor) { return tensor.sym_sizes().slice(0, tensor.dim() - 1); };
  if (!reads_nothing(activation)) {
    TORCH_CHECK_VALUE(present(kept), "kept: expected a tensor for activation '", name, "', got None");
    check_tensor(*kept, {"kept"}, grad, {"grad"});
    TORCH_CHECK_VALUE(kept->sym_sizes() == grad.sym_sizes(), "kept: expected grad's shape ", grad.sym_sizes(), ", got ",
                      kept->sym_sizes());
  }
  if (wanted[0]) {
    TORCH_CHECK_VALUE(present(weight), "weight: expected a tensor, as input's gradient is wanted, got None");
    check_tensor(*weight, {"weight"}, grad, {"grad"});
    TORCH_CHECK_VALUE(weight->dim() == 2 && weight->sym_size(0) == grad.sym_size(-1), "weight: expected shape (",
                      grad.sym_size(-1), ", in_features), got ", weight->sym_sizes());
  }
  if (wanted[1]) {
    TORCH_CHECK_VALUE(present(input), "input: expected a tensor, as weight's gradient is wanted, got None");
    check_tensor(*input, {"input"}, grad, {"grad"});
    TORCH_CHECK_VALUE(input->dim() == grad.dim() && leading(*input) == leading(grad),
                      "input: expected grad's leading dimensions, ", leading(grad), ", got shape ", input->sym_sizes());
    TORCH_CHECK_VALUE(!wanted[0] || input->sym_size(-1) == weight->sym_size(1), "input: expected last dimension ",
                      weight->sym_size(1), " (weight's in_features), got shape ", input->sym_sizes());
  }
  return activation;
}

inline void check_mlp_backward(const at::Tensor& grad, const ChainOutputs& outputs, const at::Tensor& input,
                               const Chain& chain, const ChainWanted& wanted) {
  check_mlp(input, chain);
  const size_t depth = chain.depth();
  TORCH_CHECK_VALUE(wanted.weights.size() == depth && wanted.biases.size() == depth,
                    "weights_wanted and biases_wanted: expected ", depth, " flags each, got ", wanted.weights.size(),
                    " and ", wanted.biases.size());
  check_output(grad, {"grad"}, input, chain.weights.back());
  for (size_t i = 0; i < depth; ++i) {
    if (i + 1 < depth || outputs.outputs[i].defined())
      check_output(outputs.outputs[i], {"outputs", i}, input, chain.weights[i]);
    if (reads_input(chain.activations[i]))
      check_output(outputs.preactivations[i], {"preactivations", i}, input, chain.weights[i]);
  }
}

// (..., anything) -> (..., features)
inline c10::SymDimVector with_last(const at::Tensor& tensor, const c10::SymInt& features) {
  c10::SymDimVector sizes(tensor.sym_sizes().begin(), tensor.sym_sizes().end());
  sizes.back() = features;
  return sizes;
}

// (..., in) -> (..., out)
inline c10::SymDimVector output_sizes(const at::Tensor& input, const at::Tensor& weight) {
  return with_last(input, weight.sym_size(0));
}

// (..., features) -> (rows, features), a view where strides allow. The rows are counted, because reshape cannot infer a
// dimension of -1 beside a size of 0.
inline at::Tensor as_matrix(const at::Tensor& tensor) {
  if (tensor.dim() == 2) return tensor;
  c10::SymInt rows = 1;
  for (int64_t i = 0; i + 1 < tensor.dim(); ++i) rows *= tensor.sym_size(i);
  return tensor.reshape_symint({rows, tensor.sym_size(-1)});
}

}  // namespace fused_gan
