// A chain on CPU. Forward, where two neighbouring layers both run on blocks of W or on tiles, the first one leaves its
// output packed as the second one reads it. Backward, the gradient from a layer's product is multiplied by the
// activation gradient and summed for the bias below while it is in the cache. That product and the weight gradient
// share one parallel section.
#include "../chain.h"

#include <torch/library.h>

#include "../chain_operators.h"
#include "layer_forward.h"

namespace fused_gan {
namespace {

using cpu::Kernel;

template <class S> ChainOutputs forward(const at::Tensor& input, const Chain& chain, const ChainKept& kept) {
  ChainOutputs outputs(chain.depth());
  at::Tensor x = cpu::with_dense_rows(as_matrix(input));
  const int64_t samples = x.size(0);
  std::vector<Kernel> kernels;  // of each layer
  for (const at::Tensor& w : chain.weights)
    kernels.push_back(cpu::kernel_for<S>(cpu::Direction::kForward, samples, w.size(1), w.size(0)));
  // Whether a layer reads its batch packed, so that the layer before it may leave it packed: in tiles, or in panels.
  const auto takes_tiles = [&](size_t i) {
    return std::is_same_v<S, cpu::BFloat16> && i < chain.depth() && kernels[i] == Kernel::kTiles &&
           plan::tile_forward(true, samples, chain.weights[i].size(1)) == plan::TileForm::kForwardColumns;
  };
  const auto takes_panels = [&](size_t i) {
    if constexpr (cpu::kIsBlocked<S>)
      return i < chain.depth() && kernels[i] == Kernel::kBlocks &&
             cpu::forward_plan<S>(samples, chain.weights[i]) == plan::Forward::kPanel;
    return false;
  };
  cpu::PackedBatch batch;
  for (size_t i = 0; i < chain.depth(); ++i) {
    const at::Tensor& weight = chain.weights[i];
    const auto& given = chain.biases[i];
    const at::Tensor bias = present(given) ? given->contiguous() : at::Tensor();
    cpu::PackedBatch next;
    if (takes_tiles(i) && takes_tiles(i + 1)) next.tiles = cpu::TiledBatch(samples, weight.size(0));
    if (takes_panels(i) && takes_panels(i + 1)) next.panels = cpu::panels_for(samples, weight.size(0), input.options());
    const auto rows_of = [&](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.view({samples, weight.size(0)}) : tensor;
    };
    const auto empty = [&] {
      return at::empty(C10_AS_INTARRAYREF_SLOW(with_last(input, weight.size(0))), input.options());
    };
    // Panels alone are enough for the next layer, which then sees the shape and no values.
    const bool in_panels_alone = !kept.outputs[i] && next.panels.defined();
    const at::Tensor output = in_panels_alone ? at::Tensor() : empty(), y = rows_of(output);
    if (kept.outputs[i]) outputs.outputs[i] = output;
    if (kept.preactivations[i]) outputs.preactivations[i] = empty();
    cpu::forward<S>(kernels[i], chain.activations[i], x, weight, bias, y, rows_of(outputs.preactivations[i]), batch,
                    next);
    x = in_panels_alone ? at::empty({1}, input.options()).expand({samples, weight.size(0)}) : y;
    batch = std::move(next);
  }
  return outputs;
}

// One layer down: from dz (rows, outs), the weight (outs, ins) and the layer's input x (rows, ins).
struct Step {
  at::Tensor weight, x;  // with dense rows
  bool weight_wanted, x_wanted;
  std::optional<Activation> layer_below;  // whose output x is; none if x is the chain's input
  at::Tensor kept_below;                  // what that activation's gradient reads (rows, ins), with dense rows
  at::Tensor bias_gradient;               // of the layer below, (ins); undefined where not wanted
};
struct Result {
  at::Tensor weight_gradient;
  at::Tensor dx;  // (rows, ins), if there is a layer below, its dz
};

// In blocks, both products in one parallel section.
template <class T> Result step_down(const Step& step, const at::Tensor& dz) {
  const int64_t rows = dz.size(0), outs = step.weight.size(0), ins = step.weight.size(1);
  const auto empty = [&](bool wanted, int64_t count) {
    return wanted ? at::empty({count, ins}, dz.options()) : at::Tensor();
  };
  Result result{empty(step.weight_wanted, outs), empty(step.x_wanted, rows)};
  const cpu::Rows<T> grad = cpu::rows_of<T>(dz), weight = cpu::rows_of<T>(step.weight), x = cpu::rows_of<T>(step.x),
                     kept = cpu::rows_of<T>(step.kept_below);
  T *weight_gradient = cpu::mutable_data<T>(result.weight_gradient), *dx = cpu::mutable_data<T>(result.dx),
    *bias_gradient = cpu::mutable_data<T>(step.bias_gradient);

  const auto& kernels = cpu::products<T>();
  const int64_t threads = cpu::threads_for(plan::product_work(rows, ins, outs)), unit = kernels.row_tile,
                line = cpu::kLine / sizeof(T);
  // With few rows the threads split the columns, and each finishes its own: activation gradient and bias sums while
  // they are in the cache. With many they split the rows, and a pass follows.
  const bool finishes = step.layer_below && rows < plan::kManyRows && plan::units_of(ins, line) >= threads;
  const int64_t row_units = finishes ? 1 : rows;
  const plan::Grid down = plan::grid(row_units, unit, ins, line, threads);
  const plan::Grid across = plan::grid(outs, unit, ins, line, threads);
  const cpu::Reading reading_down = plan::reading(false, rows, ins, outs, sizeof(T));
  const cpu::Reading reading_across = plan::reading(true, outs, ins, rows, sizeof(T));
  const cpu::PackedWorkspaces<T> workspaces(
      threads, std::max(cpu::packed_workspace(reading_down, outs), cpu::packed_workspace(reading_across, rows)));
  cpu::over_parts(threads, [&](int64_t part) {
    if (step.x_wanted)
      cpu::on_part(down, part, row_units, unit, ins, line, [&](int64_t r, int64_t r_end, int64_t j, int64_t j_end) {
        const cpu::Strided<T> a{grad.data + r * grad.row, grad.row, 1};
        const T* b = weight.data + j;
        T* space = workspaces.of(part, reading_down, finishes ? rows : r_end - r, outs);
        if (finishes)
          kernels.product_gradient(*step.layer_below, a, b, weight.row, cpu::offset(kept.data, j), kept.row, dx + j,
                                   ins, cpu::offset(bias_gradient, j), rows, j_end - j, outs, reading_down, space);
        else kernels.product(a, b, weight.row, dx + r * ins + j, ins, r_end - r, j_end - j, outs, reading_down, space);
      });
    if (step.weight_wanted)
      cpu::on_part(across, part, outs, unit, ins, line, [&](int64_t r, int64_t r_end, int64_t j, int64_t j_end) {
        kernels.product({grad.data + r, 1, grad.row}, x.data + j, x.row, weight_gradient + r * ins + j, ins, r_end - r,
                        j_end - j, rows, reading_across, workspaces.of(part, reading_across, r_end - r, rows));
      });
  });
  if (step.layer_below && !finishes)
    cpu::gradient_pass<T>(*step.layer_below, rows, ins, {dx, ins}, kept, dx, bias_gradient);
  return result;
}

// One product after the other, then a pass. For 16-bit types, and by torch's products.
template <class S> Result step_down_in_passes(const Step& step, at::Tensor dz, bool library) {
  const int64_t rows = dz.size(0), ins = step.weight.size(1);
  Result result;
  if (step.x_wanted) result.dx = library ? cpu::library_product(dz, step.weight) : cpu::product(dz, step.weight);
  if (step.weight_wanted)
    result.weight_gradient =
        library ? cpu::library_product(dz.t(), step.x) : cpu::weight_gradient(std::move(dz), step.x);
  if (step.layer_below) {
    S* dx = cpu::mutable_data<S>(result.dx);
    cpu::gradient_pass<S>(*step.layer_below, rows, ins, {dx, ins}, cpu::rows_of<S>(step.kept_below), dx,
                          cpu::mutable_data<S>(step.bias_gradient));
  }
  return result;
}

// On tiles, both products in the same parallel sections. Returns nothing if the numbers do not allow it.
template <class S> std::optional<Result> step_down_on_tiles(const Step& step, const at::Tensor& dz) {
  const int64_t rows = dz.size(0), outs = dz.size(1), ins = step.weight.size(1);
  Result result;
  if (step.x_wanted) result.dx = at::empty({rows, ins}, dz.options());
  if (step.weight_wanted) result.weight_gradient = at::empty({outs, ins}, dz.options());
  if (!cpu::tiled_backward<S>(cpu::tile_kernels<S>(), dz, step.weight, step.x, result.dx, result.weight_gradient,
                              step.layer_below, step.kept_below, step.bias_gradient))
    return std::nullopt;
  return result;
}

template <class S> Result step_down_in_any_way(const Step& step, at::Tensor dz) {
  const Kernel kernel =
      cpu::kernel_for<S>(cpu::Direction::kBackward, dz.size(0), step.weight.size(1), step.weight.size(0));
  if constexpr (cpu::kHasTiles<S>)
    if (kernel == Kernel::kTiles)
      if (std::optional<Result> result = step_down_on_tiles<S>(step, dz)) return std::move(*result);
  if constexpr (cpu::kIsBlocked<S>)
    if (kernel != Kernel::kLibrary) return step_down<S>(step, dz);
  return step_down_in_passes<S>(step, std::move(dz), kernel == Kernel::kLibrary);
}

template <class S>
ChainGradients backward(const at::Tensor& grad, const ChainOutputs& outputs, const at::Tensor& input,
                        const Chain& chain, const ChainWanted& wanted, Spent spent) {
  const size_t depth = chain.depth(), last = depth - 1;
  ChainGradients gradients{{}, std::vector<at::Tensor>(depth), std::vector<at::Tensor>(depth)};
  const auto read_by_gradient = [&](size_t i) {
    const Activation& activation = chain.activations[i];
    return reads_nothing(activation) ? at::Tensor() : cpu::with_dense_rows(as_matrix(outputs.read_by(activation, i)));
  };
  const auto bias_gradient = [&](size_t i) {
    if (wanted.biases[i]) gradients.biases[i] = at::empty({chain.weights[i].size(0)}, input.options());
    return gradients.biases[i];
  };

  at::Tensor dz = cpu::with_dense_rows(as_matrix(grad));
  const bool changes = !is_identity(chain.activations[last]);  // otherwise dz is dy
  if (changes || wanted.biases[last]) {
    const at::Tensor dy = dz, kept = read_by_gradient(last);
    if (changes) dz = at::empty(dy.sizes(), dy.options());
    cpu::gradient_pass<S>(chain.activations[last], dy.size(0), dy.size(1), cpu::rows_of<S>(dy), cpu::rows_of<S>(kept),
                          changes ? cpu::mutable_data<S>(dz) : nullptr, cpu::mutable_data<S>(bias_gradient(last)));
  }
  spend(outputs.preactivations[last], spent);
  for (size_t i = depth; i-- > 0 && (wanted.below(i) || wanted.weights[i]);) {
    const bool x_wanted = wanted.below(i), to_layer = i > 0 && x_wanted;
    // A tensor that no gradient reads may be one expanded element. Making its rows dense would copy it for nothing.
    const at::Tensor x = as_matrix(i == 0 ? input : outputs.outputs[i - 1]);
    const Step step{x_wanted ? cpu::with_dense_rows(chain.weights[i]) : chain.weights[i],
                    wanted.weights[i] ? cpu::with_dense_rows(x) : x,
                    wanted.weights[i],
                    x_wanted,
                    to_layer ? std::optional(chain.activations[i - 1]) : std::nullopt,
                    to_layer ? read_by_gradient(i - 1) : at::Tensor(),
                    to_layer ? bias_gradient(i - 1) : at::Tensor()};
    Result result = step_down_in_any_way<S>(step, std::move(dz));
    if (i > 0) {
      spend(outputs.outputs[i - 1], spent);
      spend(outputs.preactivations[i - 1], spent);
    }
    gradients.weights[i] = result.weight_gradient;
    dz = result.dx;
  }
  if (wanted.input) gradients.input = dz.view(input.sizes());
  return gradients;
}

ChainOutputs forward_any(const at::Tensor& input, const Chain& chain, const ChainKept& kept) {
  return cpu::with_storage(input.scalar_type(),
                           [&](auto storage) { return forward<decltype(storage)>(input, chain, kept); });
}

ChainGradients backward_any(const at::Tensor& grad, const ChainOutputs& outputs, const at::Tensor& input,
                            const Chain& chain, const ChainWanted& wanted, Spent spent) {
  return cpu::with_storage(input.scalar_type(), [&](auto storage) {
    return backward<decltype(storage)>(grad, outputs, input, chain, wanted, spent);
  });
}

}  // namespace

constexpr ChainKernels cpu::kChainKernels{forward_any, backward_any};

TORCH_LIBRARY_IMPL(fused_gan, CPU, m) { ChainOperators<cpu::kChainKernels>::register_in(m); }

}  // namespace fused_gan
