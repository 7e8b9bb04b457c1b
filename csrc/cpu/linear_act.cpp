// linear_act and its backward on CPU: checks and memory. layers.h spreads the work, kernels.inl does it.
#include <torch/library.h>

#include "../checks.h"
#include "layers.h"
#include "paired.h"

namespace fused_gan {
namespace {

using cpu::Activation;

// Calls f(S{}) with the storage type of `dtype`, which checks.h has let through.
template <class F> void with_storage(at::ScalarType dtype, F&& f) {
  switch (dtype) {
    case at::kFloat:
      return f(float{});
    case at::kDouble:
      return f(double{});
    case at::kBFloat16:
      return f(cpu::BFloat16{});
    default:
      return f(cpu::Float16{});
  }
}

// Operators called here have their dtypes already; backward may run inside an autocast region.
using NoAutocast = c10::impl::ExcludeDispatchKeyGuard;

// Null where torch's product is to be taken.
const cpu::PairedKernels* paired_kernels_for(at::ScalarType dtype, int64_t work) {
  return dtype == at::kBFloat16 && plan::pairs(work) ? cpu::paired_kernels() : nullptr;
}

// torch's product, then one pass in place.
at::Tensor forward_in_two(Activation activation, const at::Tensor& input, const at::Tensor& weight,
                          const std::optional<at::Tensor>& bias) {
  const NoAutocast guard(c10::autocast_dispatch_keyset);
  at::Tensor y = at::linear(input, weight, bias).contiguous();
  with_storage(y.scalar_type(), [&](auto storage) {
    using S = decltype(storage);
    S* values = cpu::mutable_data<S>(y);
    cpu::over_range(y.numel(), cpu::kLine / sizeof(S), y.numel() * plan::kActivationCost,
                    [&](int64_t i, int64_t end) { cpu::storage<S>().activate(activation, values + i, end - i); });
  });
  return y;
}

at::Tensor linear_act_cpu(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                          std::string_view activation, double negative_slope) {
  const Activation act{check_linear_act(input, weight, bias, activation, negative_slope), negative_slope};
  const int64_t work = input.numel() * weight.size(0);
  const bool half = !plan::has_product(input.scalar_type()), dots = half && !plan::pairs(work);
  const cpu::PairedKernels* paired = paired_kernels_for(input.scalar_type(), work);
  if (half && !dots && !paired) return forward_in_two(act, input, weight, bias);
  const at::Tensor x = cpu::with_dense_rows(as_matrix(input));
  const at::Tensor b = bias && bias->defined() ? bias->contiguous() : at::Tensor();
  at::Tensor y = at::empty(C10_AS_INTARRAYREF_SLOW(output_sizes(input, weight)), input.options());
  const at::Tensor rows = y.view({x.size(0), weight.size(0)});
  with_storage(input.scalar_type(), [&](auto storage) {
    using S = decltype(storage);
    if constexpr (std::is_same_v<S, float> || std::is_same_v<S, double>) cpu::forward_layer<S>(act, x, weight, b, rows);
    else if (dots) cpu::forward_dot<S>(act, x, weight, b, rows);
    else cpu::paired_forward(*paired, act, x, weight, b, rows);
  });
  return y;
}

// c (rows, columns) = a (rows, depth) · b (depth, columns), a in any strides.
template <class T> at::Tensor blocked_product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
  const int64_t depth = a.size(1), row = a.stride(0), column = a.stride(1), b_row = b.stride(0), c_row = c.stride(0);
  const T *left = cpu::data<T>(a), *right = cpu::data<T>(b);
  T* to = cpu::mutable_data<T>(c);
  cpu::over_grid(c.size(0), cpu::products<T>().row_tile, c.size(1), cpu::kLine / sizeof(T), c.numel() * depth,
                 [&](int64_t r, int64_t r_end, int64_t j, int64_t j_end) {
                   cpu::products<T>().product({left + r * row, row, column}, right + j, b_row, to + r * c_row + j,
                                              c_row, r_end - r, j_end - j, depth, plan::depth_block(c.size(0)));
                 });
  return c;
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == at::kFloat) return blocked_product<float>(a, cpu::with_dense_rows(b));
  if (a.scalar_type() == at::kDouble) return blocked_product<double>(a, cpu::with_dense_rows(b));
  if (const cpu::PairedKernels* paired = paired_kernels_for(a.scalar_type(), a.numel() * b.size(1)))
    return cpu::paired_product(*paired, a, b);
  const NoAutocast guard(c10::autocast_dispatch_keyset);
  return at::mm(a, b);
}

Gradients linear_act_backward_cpu(const at::Tensor& grad, const std::optional<at::Tensor>& output,
                                  const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                                  std::string_view activation, double negative_slope, std::array<bool, 3> wanted) {
  const Activation act{check_linear_act_backward(grad, output, input, weight, activation, negative_slope, wanted),
                       negative_slope};
  const bool changes = activation != Identity::kName;  // otherwise dz is dy
  const at::Tensor dy = cpu::with_dense_rows(as_matrix(grad));
  const at::Tensor y = changes ? cpu::with_dense_rows(as_matrix(*output)) : at::Tensor();

  at::Tensor dz = changes && (wanted[0] || wanted[1]) ? at::empty(dy.sizes(), dy.options()) : at::Tensor();
  at::Tensor bias_gradient = wanted[2] ? at::empty({dy.size(1)}, dy.options()) : at::Tensor();
  if (dz.defined() || bias_gradient.defined())
    with_storage(dy.scalar_type(), [&](auto storage) {
      using S = decltype(storage);
      cpu::gradient_pass<S>(act, dy.size(0), dy.size(1), cpu::rows_of<S>(dy), cpu::rows_of<S>(y),
                            cpu::mutable_data<S>(dz), cpu::mutable_data<S>(bias_gradient));
    });
  if (!dz.defined()) dz = dy;
  return {
      wanted[0] ? product(dz, *weight).view(C10_AS_INTARRAYREF_SLOW(with_last(grad, weight->size(1)))) : at::Tensor(),
      wanted[1] ? product(dz.t(), as_matrix(*input)) : at::Tensor(), bias_gradient};
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, CPU, m) {
  m.impl("linear_act", linear_act_cpu);
  m.impl("linear_act_backward", linear_act_backward_cpu);
}

}  // namespace fused_gan
