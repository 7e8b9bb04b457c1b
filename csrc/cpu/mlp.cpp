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
  at::Tensor x = cpu::with_dense_rows(as_matrix(input)), packed;
  const int64_t samples = x.size(0);
  for (size_t i = 0; i < chain.depth(); ++i) {
    const at::Tensor& weight = chain.weights[i];
    const auto& bias = chain.biases[i];
    outputs.push_back(
        at::empty(C10_AS_INTARRAYREF_SLOW(output_sizes(i == 0 ? input : outputs.back(), weight)), input.options()));
    const at::Tensor y = outputs.back().view({samples, weight.size(0)});
    const bool feeds_panels = cpu::forward_plan<T>(samples, weight) == plan::Forward::kPanel && i + 1 < chain.depth() &&
                              cpu::forward_plan<T>(samples, chain.weights[i + 1]) == plan::Forward::kPanel;
    const at::Tensor next = feeds_panels ? cpu::empty_panels<T>(samples, weight.size(0), input) : at::Tensor();
    cpu::forward_layer<T>({indices[i], chain.negative_slope}, x, weight,
                          bias && bias->defined() ? bias->contiguous() : at::Tensor(), y, packed, next);
    x = y;
    packed = next;
  }
  return outputs;
}

// One layer down: of dz (rows, out), x (rows, in) and the weight (out, in), the weight gradient and the gradient below.
template <class T> struct Step {
  const at::Tensor &dz, &x, &weight;
  at::Tensor weight_gradient = {};         // undefined where not wanted
  at::Tensor below = {}, below_bias = {};  // dz of the layer below and its bias gradient; or the input's gradient
  Activation activation_below = {0, 0.};   // of the layer below, and
  at::Tensor y_below = {};                 // its output, undefined for the input

  void run() const {
    const int64_t rows = dz.size(0), outs = dz.size(1), ins = weight.size(1), line = cpu::kLine / sizeof(T);
    const int64_t threads = cpu::threads_for(rows * outs * ins), row_tile = cpu::products<T>().row_tile;
    // The bias gradient below is summed over all rows by the thread that has its columns; where there are too few
    // columns for that, it is left to a pass of its own.
    const bool sums_columns = y_below.defined() && plan::units_of(ins, line) >= threads;
    const plan::Grid down = plan::grid(sums_columns ? 1 : rows, row_tile, ins, line, threads);
    const plan::Grid across = plan::grid(outs, row_tile, ins, line, threads);
    const T *gradient = cpu::data<T>(dz), *w = cpu::data<T>(weight), *from = cpu::data<T>(x);
    const T* y = cpu::data<T>(y_below);
    T *to = cpu::mutable_data<T>(below), *sums = cpu::mutable_data<T>(below_bias);
    T* weights = cpu::mutable_data<T>(weight_gradient);
    const int64_t dz_row = dz.stride(0), w_row = weight.stride(0), x_row = x.stride(0);

    cpu::over_parts(threads, [&](int64_t part) {
      if (below.defined())
        cpu::on_part(down, part, sums_columns ? 1 : rows, row_tile, ins, line,
                     [&](int64_t r, int64_t r_end, int64_t j, int64_t j_end) {
                       const cpu::Strided<T> a{gradient + r * dz_row, dz_row, 1};
                       if (sums_columns)
                         cpu::products<T>().product_gradient(activation_below, a, w + j, w_row, y + j, ins, to + j, ins,
                                                             cpu::offset(sums, j), rows, j_end - j, outs,
                                                             plan::depth_block(rows));
                       else
                         cpu::products<T>().product(a, w + j, w_row, to + r * ins + j, ins, r_end - r, j_end - j, outs,
                                                    plan::depth_block(rows));
                     });
      if (weight_gradient.defined())
        cpu::on_part(across, part, outs, row_tile, ins, line, [&](int64_t r, int64_t r_end, int64_t j, int64_t j_end) {
          cpu::products<T>().product({gradient + r, 1, dz_row}, from + j, x_row, weights + r * ins + j, ins, r_end - r,
                                     j_end - j, rows, plan::depth_block(outs));
        });
    });
    if (y_below.defined() && !sums_columns) cpu::gradient_pass<T>(activation_below, below, y_below, below, below_bias);
  }
};

template <class T>
ChainGradients chain_backward(const at::Tensor& grad, const std::vector<at::Tensor>& outputs, const at::Tensor& input,
                              const Chain& chain, const std::vector<int>& indices, const ChainWanted& wanted) {
  const size_t depth = chain.depth();
  ChainGradients gradients{{}, std::vector<at::Tensor>(depth), std::vector<at::Tensor>(depth)};
  const auto empty = [&](bool asked, at::IntArrayRef sizes) {
    return asked ? at::empty(sizes, input.options()) : at::Tensor();
  };
  const auto output = [&](size_t i) { return cpu::with_dense_rows(as_matrix(outputs[i])); };
  const auto bias_gradient = [&](size_t i) {
    return gradients.biases[i] = empty(wanted.biases[i], {chain.weights[i].size(0)});
  };

  const size_t last = depth - 1;
  at::Tensor dz = cpu::with_dense_rows(as_matrix(grad));
  const bool changes = chain.activations[last] != Identity::kName;
  if (changes || wanted.biases[last]) {
    const at::Tensor dy = dz;
    if (changes) dz = at::empty(dy.sizes(), dy.options());
    cpu::gradient_pass<T>({indices[last], chain.negative_slope}, dy, changes ? output(last) : at::Tensor(),
                          changes ? dz : at::Tensor(), bias_gradient(last));
  }
  for (size_t i = depth; i-- > 0 && (wanted.below(i) || wanted.weights[i]);) {
    const at::Tensor x = i == 0 ? cpu::with_dense_rows(as_matrix(input)) : output(i - 1);
    const at::Tensor weight = cpu::with_dense_rows(chain.weights[i]);
    Step<T> step{dz, x, weight};
    step.weight_gradient = gradients.weights[i] = empty(wanted.weights[i], weight.sizes());
    step.below = empty(wanted.below(i), x.sizes());
    if (i > 0 && wanted.below(i)) {
      step.below_bias = bias_gradient(i - 1);
      step.activation_below = {indices[i - 1], chain.negative_slope};
      step.y_below = x;
    }
    step.run();
    dz = step.below;
  }
  if (wanted.input) gradients.input = dz.view(input.sizes());
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
