// A chain on CPU in float32 and float64: forward, the tile of yᵀ that one layer finishes is the next one's packed
// operand; backward, the gradient that leaves a layer's product is multiplied by the activation gradient and summed
// for the bias below while it is in the cache, and shares its threads with the weight gradient beside it.
#include "../mlp.h"

#include <torch/library.h>

#include "../checks.h"
#include "../lists.h"
#include "layers.h"

namespace fused_gan {
namespace {

using cpu::Activation;

template <class T>
std::vector<at::Tensor> chain_forward(const at::Tensor& input, const Chain& chain, const std::vector<int>& indices) {
  std::vector<at::Tensor> outputs;
  at::Tensor x = cpu::with_dense_rows(as_matrix(input));
  const int64_t samples = x.size(0);
  const auto takes_panels = [&](size_t i) {
    return i < chain.depth() && cpu::forward_plan<T>(samples, chain.weights[i]) == plan::Forward::kPanel;
  };
  cpu::Scratch packed;  // x in panels, where the layer before has left it so
  for (size_t i = 0; i < chain.depth(); ++i) {
    const at::Tensor& weight = chain.weights[i];
    const auto& bias = chain.biases[i];
    outputs.push_back(
        at::empty(C10_AS_INTARRAYREF_SLOW(output_sizes(i == 0 ? input : outputs.back(), weight)), input.options()));
    const at::Tensor y = outputs.back().view({samples, weight.size(0)});
    cpu::Scratch next = takes_panels(i) && takes_panels(i + 1)
                            ? cpu::panels_for(samples, weight.size(0), input.scalar_type())
                            : cpu::Scratch();
    cpu::forward_layer<T>({indices[i], chain.negative_slope}, x, weight,
                          present(bias) ? bias->contiguous() : at::Tensor(), y, packed.data<T>(), next.data<T>());
    x = y;
    packed = std::move(next);
  }
  return outputs;
}

// One layer down, from dz (rows, outs), the weight (outs, ins) and the layer's input x (rows, ins).
template <class T> struct Step {
  int64_t rows, outs, ins;
  cpu::Rows<T> dz, weight, x;
  T* weight_gradient;     // (outs, ins), dense; null where not wanted
  T* below;               // dz of the layer below, or the input's gradient, (rows, ins), dense; null where not wanted
  bool below_is_layer;    // whose output is x, with
  Activation activation;  // and
  T* bias_gradient;       // (ins), null where not wanted

  void run() const {
    const auto& kernels = cpu::products<T>();
    const int64_t threads = cpu::threads_for(rows * outs * ins), unit = kernels.row_tile, line = cpu::kLine / sizeof(T);
    // With few rows the threads split the columns, and each finishes its own: activation gradient and bias sums while
    // they are in the cache. With many they split the rows, and a pass follows.
    const bool finishes = below_is_layer && rows < plan::kManyRows && plan::units_of(ins, line) >= threads;
    const int64_t row_units = finishes ? 1 : rows;
    const plan::Grid down = plan::grid(row_units, unit, ins, line, threads);
    const plan::Grid across = plan::grid(outs, unit, ins, line, threads);
    cpu::over_parts(threads, [&](int64_t part) {
      if (below)
        cpu::on_part(down, part, row_units, unit, ins, line, [&](int64_t r, int64_t r_end, int64_t j, int64_t j_end) {
          const cpu::Strided<T> a{dz.data + r * dz.row, dz.row, 1};
          const T* b = weight.data + j;
          if (finishes)
            kernels.product_gradient(activation, a, b, weight.row, x.data + j, x.row, below + j, ins,
                                     cpu::offset(bias_gradient, j), rows, j_end - j, outs, plan::depth_block(rows));
          else
            kernels.product(a, b, weight.row, below + r * ins + j, ins, r_end - r, j_end - j, outs,
                            plan::depth_block(rows));
        });
      if (weight_gradient)
        cpu::on_part(across, part, outs, unit, ins, line, [&](int64_t r, int64_t r_end, int64_t j, int64_t j_end) {
          kernels.product({dz.data + r, 1, dz.row}, x.data + j, x.row, weight_gradient + r * ins + j, ins, r_end - r,
                          j_end - j, rows, plan::depth_block(outs));
        });
    });
    if (below_is_layer && !finishes)
      cpu::gradient_pass<T>(activation, rows, ins, {below, ins}, x, below, bias_gradient);
  }
};

template <class T>
ChainGradients chain_backward(const at::Tensor& grad, const std::vector<at::Tensor>& outputs, const at::Tensor& input,
                              const Chain& chain, const std::vector<int>& indices, const ChainWanted& wanted) {
  const size_t depth = chain.depth(), last = depth - 1;
  ChainGradients gradients{{}, std::vector<at::Tensor>(depth), std::vector<at::Tensor>(depth)};
  const auto empty = [&](bool asked, at::IntArrayRef sizes) {
    return asked ? at::empty(sizes, input.options()) : at::Tensor();
  };
  const auto output = [&](size_t i) { return cpu::with_dense_rows(as_matrix(outputs[i])); };
  const auto bias_gradient = [&](size_t i) {
    return cpu::mutable_data<T>(gradients.biases[i] = empty(wanted.biases[i], {chain.weights[i].size(0)}));
  };

  const at::Tensor dy = cpu::with_dense_rows(as_matrix(grad));
  const int64_t rows = dy.size(0);
  cpu::Rows<T> dz = cpu::rows_of<T>(dy);
  cpu::Scratch above;  // holds dz, but for the chain's own gradient
  const bool changes = chain.activations[last] != Identity::kName;
  if (changes || wanted.biases[last]) {
    const int64_t columns = dy.size(1);
    const at::Tensor y = changes ? output(last) : at::Tensor();
    if (changes) above = cpu::Scratch(rows * columns, input.scalar_type());
    cpu::gradient_pass<T>({indices[last], chain.negative_slope}, rows, columns, dz, cpu::rows_of<T>(y), above.data<T>(),
                          bias_gradient(last));
    if (changes) dz = {above.data<T>(), columns};
  }
  for (size_t i = depth; i-- > 0 && (wanted.below(i) || wanted.weights[i]);) {
    const at::Tensor x = i == 0 ? cpu::with_dense_rows(as_matrix(input)) : output(i - 1);
    const at::Tensor weight = cpu::with_dense_rows(chain.weights[i]);
    const int64_t outs = weight.size(0), ins = weight.size(1);
    const bool to_layer = i > 0 && wanted.below(i);
    cpu::Scratch below = to_layer ? cpu::Scratch(rows * ins, input.scalar_type()) : cpu::Scratch();
    if (i == 0) gradients.input = empty(wanted.input, input.sizes());
    gradients.weights[i] = empty(wanted.weights[i], weight.sizes());
    Step<T>{rows,
            outs,
            ins,
            dz,
            cpu::rows_of<T>(weight),
            cpu::rows_of<T>(x),
            cpu::mutable_data<T>(gradients.weights[i]),
            to_layer ? below.data<T>() : cpu::mutable_data<T>(gradients.input),
            to_layer,
            {to_layer ? indices[i - 1] : 0, chain.negative_slope},
            to_layer ? bias_gradient(i - 1) : nullptr}
        .run();
    above = std::move(below);
    dz = {above.data<T>(), ins};
  }
  return gradients;
}

std::vector<at::Tensor> mlp_forward_cpu(const at::Tensor& input, at::TensorList weights, const lists::Biases& biases,
                                        const lists::Names& activations, double negative_slope) {
  const Chain chain = lists::chain(weights, biases, activations, negative_slope);
  const std::vector<int> indices = check_mlp(input, chain);
  if (input.scalar_type() == at::kFloat) return chain_forward<float>(input, chain, indices);
  if (input.scalar_type() == at::kDouble) return chain_forward<double>(input, chain, indices);
  return mlp_forward_layerwise(input, chain);
}

std::vector<at::Tensor> mlp_backward_cpu(const at::Tensor& grad, at::TensorList outputs, const at::Tensor& input,
                                         at::TensorList weights, const lists::Names& activations, double negative_slope,
                                         bool input_wanted, const lists::Flags& weights_wanted,
                                         const lists::Flags& biases_wanted) {
  const Chain chain = lists::chain(weights, activations, negative_slope);
  const ChainWanted wanted{input_wanted, weights_wanted.vec(), biases_wanted.vec()};
  const std::vector<int> indices = check_mlp_backward(grad, outputs, input, chain, wanted);
  if (input.scalar_type() == at::kFloat)
    return lists::pack(chain_backward<float>(grad, outputs.vec(), input, chain, indices, wanted));
  if (input.scalar_type() == at::kDouble)
    return lists::pack(chain_backward<double>(grad, outputs.vec(), input, chain, indices, wanted));
  return lists::pack(mlp_backward_layerwise(grad, outputs.vec(), input, chain, wanted));
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, CPU, m) {
  m.impl("mlp_forward", mlp_forward_cpu);
  m.impl("mlp_backward", mlp_backward_cpu);
}

}  // namespace fused_gan
