// The autograd Functions: what forward saves, and which gradients backward computes.
#include <ATen/SavedTensorHooks.h>
#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/library.h>

#include <algorithm>

#include "aten_forms.h"
#include "checks.h"
#include "layerwise.h"
#include "ops.h"

namespace fused_gan {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool in_functorch() {
  return c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
}

// Whether autograd has to record what is computed from these tensors: for the next backward, or for a tangent in
// forward mode. ATen's operators and the Functions record it, the kernels do not.
bool has_tangent(const at::Tensor& tensor) { return tensor.defined() && tensor._fw_grad(/*level=*/0).defined(); }
bool has_tangent(const std::optional<at::Tensor>& tensor) { return tensor && has_tangent(*tensor); }
bool is_differentiated(const at::Tensor& tensor) {
  return tensor.defined() && ((at::GradMode::is_enabled() && tensor.requires_grad()) || has_tangent(tensor));
}
bool is_differentiated(const std::optional<at::Tensor>& tensor) { return tensor && is_differentiated(*tensor); }
// A Function has no forward mode, ATen's operators have.
template <class... Lists> bool any_has_tangent(const Lists&... lists) {
  const auto asks = [](const auto& tensor) { return has_tangent(tensor); };
  return (std::any_of(lists.begin(), lists.end(), asks) || ...);
}
template <class... Lists> bool any_is_differentiated(const Lists&... lists) {
  const auto asks = [](const auto& tensor) { return is_differentiated(tensor); };
  return in_functorch() || (std::any_of(lists.begin(), lists.end(), asks) || ...);
}

bool requires_grad(const std::optional<at::Tensor>& tensor) { return present(tensor) && tensor->requires_grad(); }

at::Tensor given(const std::optional<at::Tensor>& tensor) { return tensor.value_or(at::Tensor()); }

// A tensor that backward will not read is not saved, as in stock PyTorch. The user may change it or free it.
at::Tensor keep(bool needed, const at::Tensor& tensor) { return needed ? tensor : at::Tensor(); }

// ---- linear_act ----
// For activations whose gradient reads the output. The others go through Mlp, as a chain of one layer.
class LinearAct : public torch::autograd::Function<LinearAct> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, const Activation& activation) {
    at::AutoDispatchBelowADInplaceOrView below;
    at::Tensor output = linear_act(input, weight, bias, activation);
    context->save_for_backward({keep(weight.requires_grad(), input), keep(input.requires_grad(), weight),
                                keep(!reads_nothing(activation), output)});
    remember(context, {activation});
    context->saved_data["has_bias"] = bias && bias->defined();
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &weight = saved[1], &output = saved[2];
    const bool has_bias = context->saved_data["has_bias"].toBool();
    const std::array<bool, 3> wanted = {context->needs_input_grad(0), context->needs_input_grad(1),
                                        has_bias && context->needs_input_grad(2)};
    const Gradients gradients =
        linear_act_backward(grads[0], output, input, weight, remembered(context).front(), wanted);
    return {std::get<0>(gradients), std::get<1>(gradients), std::get<2>(gradients), {}};
  }

  // Activations in a form that a context can hold.
  static void remember(AutogradContext* context, const std::vector<Activation>& activations) {
    std::vector<int64_t> indices;
    for (const Activation& activation : activations) indices.push_back(activation.index);
    context->saved_data["activations"] = std::move(indices);
    context->saved_data["parameters"] = lists::parameters(activations);
  }
  static std::vector<Activation> remembered(AutogradContext* context) {
    const std::vector<int64_t> indices = context->saved_data["activations"].toIntVector();
    const std::vector<double> numbers = context->saved_data["parameters"].toDoubleVector();
    std::vector<Activation> activations;
    for (size_t i = 0; i < indices.size(); ++i)
      activations.push_back(Activation::of(int(indices[i]), &numbers[Activation::kNumbers * i]));
    return activations;
  }
};

at::Tensor linear_act_autograd(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                               std::string_view name, lists::Numbers parameters) {
  const Activation activation = check_linear_act(input, weight, bias, name, parameters);
  const std::array<at::Tensor, 3> tensors = {input, weight, given(bias)};
  if (in_functorch() || any_has_tangent(tensors)) return composite_forward(input, weight, bias, activation);
  if (any_is_differentiated(tensors)) {
    if (reads_input(activation)) return mlp_autograd(input, {{weight}, {bias}, {activation}});
    return LinearAct::apply(input, weight, bias, activation);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return linear_act(input, weight, bias, activation);
}

// linear_act_backward is an operator, so it has derivatives too.
Gradients linear_act_backward_autograd(const at::Tensor& grad, const std::optional<at::Tensor>& kept,
                                       const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                                       std::string_view name, lists::Numbers parameters, std::array<bool, 3> wanted) {
  const std::array<at::Tensor, 4> tensors = {grad, given(kept), given(input), given(weight)};
  if (any_is_differentiated(tensors)) {
    const Activation activation = check_linear_act_backward(grad, kept, input, weight, name, parameters, wanted);
    // Like the kernels it computes in the dtype of its arguments, also within an autocast region.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::autocast_dispatch_keyset};
    return differentiable_backward(tensors[0], tensors[1], tensors[2], tensors[3], activation, wanted);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return linear_act_backward(grad, kept, input, weight, check_activation(name, parameters), wanted);
}

// ---- mlp ----
// The Function returns every output and pre-activation that backward reads, although only backward sees the inner ones.
// If it saved them without returning them, autograd would take them for constants: first derivatives would be right,
// higher ones wrong. What no gradient reads is neither saved nor returned, so it is freed as soon as forward has read
// it. Down to the first layers no gradient goes.
class Mlp : public torch::autograd::Function<Mlp> {
 public:
  // `tensors`: the input, the weights, the biases that exist.
  static variable_list forward(AutogradContext* context, at::TensorList tensors, const Chain& chain) {
    at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor& input = tensors[0];
    const size_t depth = chain.depth();
    const bool to_input = input.requires_grad();
    size_t first = 0;
    while (!to_input && first + 1 < depth && !requires_grad(chain.weights[first]) &&
           !requires_grad(chain.biases[first]))
      ++first;

    ChainKept kept = ChainKept::result(depth);
    for (size_t i = 0; i < depth; ++i) {
      const bool read_above = i + 1 < depth && i + 1 >= first && requires_grad(chain.weights[i + 1]);
      const Reads read = i < first ? Reads::kNothing : reads(chain.activations[i]);
      kept.outputs[i] = kept.outputs[i] || read_above || read == Reads::kOutput;
      kept.preactivations[i] = read == Reads::kInput;
    }
    const ChainOutputs outputs = mlp_forward(input, chain, kept);

    // The first layer's weight gradient reads the output before it.
    variable_list saved = {keep(requires_grad(chain.weights[first]), first > 0 ? outputs.outputs[first - 1] : input)};
    for (size_t i = first; i < depth; ++i) saved.push_back(keep(to_input || i > first, chain.weights[i]));
    for (size_t i = first; i < depth; ++i) {
      const bool is_read = i + 1 < depth || reads(chain.activations[i]) == Reads::kOutput;
      saved.push_back(keep(is_read, outputs.outputs[i]));
    }
    saved.insert(saved.end(), outputs.preactivations.begin() + first, outputs.preactivations.end());
    context->save_for_backward(std::move(saved));
    context->set_materialize_grads(false);  // most inner outputs have none
    std::vector<bool> has_bias;
    for (const auto& bias : chain.biases) has_bias.push_back(present(bias));
    LinearAct::remember(context, chain.activations);
    context->saved_data["has_bias"] = lists::of(has_bias);
    context->saved_data["hooked"] = at::SavedTensorDefaultHooks::get_hooks().has_value();
    // In the order in which `grads` come back; the result is the last.
    variable_list returned;
    std::vector<bool> is_returned;
    for (const auto* tensors_of : {&outputs.preactivations, &outputs.outputs})
      for (size_t i = first; i < depth; ++i) {
        is_returned.push_back((*tensors_of)[i].defined());
        if (is_returned.back()) returned.push_back((*tensors_of)[i]);
      }
    context->saved_data["is_returned"] = lists::of(is_returned);
    return returned;
  }

  // `returned`: the gradients of what forward has returned, each undefined where there is none.
  static variable_list backward(AutogradContext* context, const variable_list& returned) {
    const variable_list saved = context->get_saved_variables();
    const auto has_bias = context->saved_data["has_bias"].toBoolList();
    const auto is_returned = context->saved_data["is_returned"].toBoolList();
    const size_t depth = has_bias.size(), count = is_returned.size() / 2, first = depth - count;
    const std::vector<Activation> activations = LinearAct::remembered(context);

    ChainOutputs grads(count), outputs(count);
    for (size_t i = 0, next = 0; i < is_returned.size(); ++i)
      if (is_returned[i]) (i < count ? grads.preactivations : grads.outputs)[i % count] = returned[next++];
    const auto weights = saved.begin() + 1, kept = weights + count;
    std::copy(kept, kept + count, outputs.outputs.begin());
    std::copy(kept + count, saved.end(), outputs.preactivations.begin());
    Chain chain{{weights, kept},
                std::vector<std::optional<at::Tensor>>(count),
                {activations.begin() + first, activations.end()}};
    ChainWanted wanted{context->needs_input_grad(0), {}, {}};
    for (size_t i = 0, next_bias = 1 + depth; i < depth; ++i) {
      const bool bias_wanted = has_bias[i] && context->needs_input_grad(next_bias);
      next_bias += has_bias[i];
      if (i < first) continue;
      wanted.weights.push_back(context->needs_input_grad(1 + i));
      wanted.biases.push_back(bias_wanted);
    }
    TORCH_CHECK(context->saved_data.count("spent") == 0,
                "mlp: backward a second time through a graph whose outputs the first one has freed (expected "
                "retain_graph=True then)");
    const bool spends = may_spend(context, returned, saved, outputs);
    if (spends) context->saved_data["spent"] = true;
    const ChainGradients gradients = backward(grads, std::move(outputs), saved[0], std::move(chain), wanted, spends);

    variable_list result(1 + first);  // nothing for the layers below the first
    result[0] = gradients.input;
    result.insert(result.end(), gradients.weights.begin(), gradients.weights.end());
    for (size_t i = 0; i < depth; ++i)
      if (has_bias[i]) result.push_back(i < first ? at::Tensor() : gradients.biases[i - first]);
    result.emplace_back();  // of the chain itself
    return result;
  }

 private:
  // Stock frees each layer's output as soon as the gradients that read it are done. A chain is one node, and autograd
  // frees its saved tensors only when the whole node is done. So backward frees them itself, provided that autograd
  // will not run the node again and that only autograd and this call hold the memory.
  static bool may_spend(AutogradContext* context, const variable_list& grads, const variable_list& saved,
                        const ChainOutputs& outputs) {
    if (torch::autograd::get_current_graph_task_keep_graph() || context->saved_data["hooked"].toBool()) return false;
    const auto ours = [](const at::Tensor& tensor) { return !tensor.defined() || tensor.storage().use_count() == 2; };
    const auto is_wrapped = [](const at::Tensor& tensor) { return tensor.defined() && isTensorSubclassLike(tensor); };
    return !any_is_differentiated(grads, saved) && std::none_of(grads.begin(), grads.end(), is_wrapped) &&
           std::none_of(saved.begin(), saved.end(), is_wrapped) &&
           std::all_of(outputs.outputs.begin(), outputs.outputs.end() - 1, ours) &&
           std::all_of(outputs.preactivations.begin(), outputs.preactivations.end(), ours);
  }

  static ChainGradients backward(const ChainOutputs& grads, ChainOutputs outputs, at::Tensor input, Chain chain,
                                 const ChainWanted& wanted, bool spends) {
    const at::Tensor& grad = grads.outputs.back();
    // Only higher derivatives give gradients to the inner outputs and pre-activations, because only backward reads
    // those.
    const auto defined = [](const at::Tensor& tensor) { return tensor.defined(); };
    if (!grad.defined() || std::any_of(grads.outputs.begin(), grads.outputs.end() - 1, defined) ||
        std::any_of(grads.preactivations.begin(), grads.preactivations.end(), defined))
      return mlp_backward_layerwise(grads, outputs, input, chain, wanted);

    // The operator checks every shape. A tensor that was not saved, because no gradient reads it, is replaced by one
    // element expanded to the tensor's shape (strides of 0).
    const auto stand_in = [&](c10::SymIntArrayRef sizes) {
      return at::empty({1}, grad.options()).expand_symint(sizes);
    };
    for (size_t i = 0; i + 1 < chain.depth(); ++i)
      if (!outputs.outputs[i].defined())
        outputs.outputs[i] = stand_in(with_last(grad, chain.weights[i + 1].sym_size(1)));
    at::Tensor& weight = chain.weights.front();
    if (!input.defined()) input = stand_in(with_last(grad, weight.defined() ? weight.sym_size(1) : c10::SymInt(0)));
    if (!weight.defined())
      weight = stand_in({chain.depth() == 1 ? grad.sym_size(-1) : chain.weights[1].sym_size(1), input.sym_size(-1)});
    // Checked once more, as forward's check may no longer hold: `.data` of a parameter can be replaced by any shape.
    check_mlp_backward(grad, outputs, input, chain, wanted);
    if (!spends) return mlp_backward(grad, outputs, input, chain, wanted);
    at::AutoDispatchBelowADInplaceOrView below;
    return mlp_backward_(grad, outputs, input, chain, wanted);
  }
};

at::Tensor mlp_autograd_of_lists(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                                 const lists::Names& activations, lists::Numbers parameters) {
  return mlp_autograd(input, make_chain(weights, biases.vec(), activations, parameters));
}

std::vector<at::Tensor> mlp_forward_autograd(const at::Tensor& input, at::TensorList weights,
                                             const lists::Biases& biases, const lists::Names& activations,
                                             lists::Numbers parameters, const lists::Flags& outputs,
                                             const lists::Flags& preactivations) {
  const Chain chain = make_chain(weights, biases.vec(), activations, parameters);
  check_mlp(input, chain);
  const ChainKept kept = make_kept(chain, outputs, preactivations);
  std::vector<at::Tensor> tensors = {input};
  for (const auto& bias : chain.biases) tensors.push_back(given(bias));
  if (any_is_differentiated(tensors, weights)) return lists::pack(mlp_forward_layerwise(input, chain, kept));
  at::AutoDispatchBelowADInplaceOrView below;
  return lists::pack(mlp_forward(input, chain, kept));
}

std::vector<at::Tensor> mlp_backward_autograd(const at::Tensor& grad, at::TensorList outputs,
                                              at::TensorList preactivations, const at::Tensor& input,
                                              at::TensorList weights, const lists::Names& activations,
                                              lists::Numbers parameters, bool input_wanted,
                                              const lists::Flags& weights_wanted, const lists::Flags& biases_wanted) {
  const Chain chain = make_chain(weights, activations, parameters);
  const ChainOutputs made = make_outputs(chain, outputs, preactivations);
  const ChainWanted wanted{input_wanted, weights_wanted.vec(), biases_wanted.vec()};
  check_mlp_backward(grad, made, input, chain, wanted);
  if (any_is_differentiated(std::array<at::Tensor, 2>{grad, input}, outputs, preactivations, weights))
    return lists::pack(mlp_backward_layerwise(grad, made, input, chain, wanted));
  at::AutoDispatchBelowADInplaceOrView below;
  return lists::pack(mlp_backward(grad, made, input, chain, wanted));
}

// ---- under vmap: layer by layer, in ATen's operators ----
at::Tensor linear_act_batched(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                              std::string_view name, lists::Numbers parameters) {
  return composite_forward(input, weight, bias, check_activation(name, parameters));
}

Gradients linear_act_backward_batched(const at::Tensor& grad, const std::optional<at::Tensor>& kept,
                                      const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                                      std::string_view name, lists::Numbers parameters, std::array<bool, 3> wanted) {
  return differentiable_backward(grad, given(kept), given(input), given(weight), check_activation(name, parameters),
                                 wanted);
}

std::vector<at::Tensor> mlp_forward_batched(const at::Tensor& input, at::TensorList weights,
                                            const lists::Biases& biases, const lists::Names& activations,
                                            lists::Numbers parameters, const lists::Flags& outputs,
                                            const lists::Flags& preactivations) {
  const Chain chain = make_chain(weights, biases.vec(), activations, parameters);
  return lists::pack(mlp_forward_layerwise(input, chain, make_kept(chain, outputs, preactivations)));
}

at::Tensor mlp_batched(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                       const lists::Names& activations, lists::Numbers parameters) {
  const Chain chain = make_chain(weights, biases.vec(), activations, parameters);
  return mlp_forward_layerwise(input, chain, ChainKept::result(chain.depth())).outputs.back();
}

std::vector<at::Tensor> mlp_backward_batched(const at::Tensor& grad, at::TensorList outputs,
                                             at::TensorList preactivations, const at::Tensor& input,
                                             at::TensorList weights, const lists::Names& activations,
                                             lists::Numbers parameters, bool input_wanted,
                                             const lists::Flags& weights_wanted, const lists::Flags& biases_wanted) {
  const Chain chain = make_chain(weights, activations, parameters);
  return lists::pack(mlp_backward_layerwise(grad, make_outputs(chain, outputs, preactivations), input, chain,
                                            {input_wanted, weights_wanted.vec(), biases_wanted.vec()}));
}

void register_batched(torch::Library& m) {
  m.impl("linear_act", linear_act_batched);
  m.impl("linear_act_backward", linear_act_backward_batched);
  m.impl("mlp", mlp_batched);
  m.impl("mlp_forward", mlp_forward_batched);
  m.impl("mlp_backward", mlp_backward_batched);
}

}  // namespace

bool wants_gradients_by_layer(const Chain& chain) {
  const auto is_taken_at_once = [](const at::Tensor& parameter) {
    const auto* meta = torch::autograd::impl::get_autograd_meta(parameter);
    return meta && meta->post_acc_grad_hooks_;
  };
  return std::any_of(chain.weights.begin(), chain.weights.end(), is_taken_at_once) ||
         std::any_of(chain.biases.begin(), chain.biases.end(),
                     [&](const auto& bias) { return present(bias) && is_taken_at_once(*bias); });
}

at::Tensor mlp_autograd(const at::Tensor& input, const Chain& chain) {
  check_mlp(input, chain);
  if (in_functorch() || any_has_tangent(at::TensorList(input), chain.weights, chain.biases)) {
    at::Tensor y = input;
    for (size_t i = 0; i < chain.depth(); ++i)
      y = composite_forward(y, chain.weights[i], chain.biases[i], chain.activations[i]);
    return y;
  }
  if (any_is_differentiated(at::TensorList(input), chain.weights, chain.biases)) {
    if (chain.depth() > 1 && wants_gradients_by_layer(chain))
      return mlp_forward_layerwise(input, chain, ChainKept::result(chain.depth())).outputs.back();
    std::vector<at::Tensor> tensors = {input};
    tensors.insert(tensors.end(), chain.weights.begin(), chain.weights.end());
    for (const auto& bias : chain.biases)
      if (present(bias)) tensors.push_back(*bias);
    return Mlp::apply(at::TensorList(tensors), chain).back();
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return mlp_forward(input, chain, ChainKept::result(chain.depth())).outputs.back();
}

TORCH_LIBRARY_IMPL(fused_gan, Autograd, m) {
  m.impl("linear_act", linear_act_autograd);
  m.impl("linear_act_backward", linear_act_backward_autograd);
  m.impl("mlp", mlp_autograd_of_lists);
  m.impl("mlp_forward", mlp_forward_autograd);
  m.impl("mlp_backward", mlp_backward_autograd);
}

TORCH_LIBRARY_IMPL(fused_gan, FuncTorchBatched, m) { register_batched(m); }  // torch.func.vmap
TORCH_LIBRARY_IMPL(fused_gan, Batched, m) { register_batched(m); }           // is_grads_batched, vectorize=True

}  // namespace fused_gan
