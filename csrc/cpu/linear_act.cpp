// linear_act and its backward on CPU: checks, memory, the split over threads. The arithmetic is in kernels.inl.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "../checks.h"
#include "../ops.h"
#include "kernels.h"
#include "plan.h"

namespace fused_gan {
namespace {

using cpu::Activation;
using cpu::kPanel;

constexpr int64_t kLine = 64;  // bytes in a cache line: two threads never write into one

template <class T> const cpu::ProductKernels<T>& products() {
  if constexpr (std::is_same_v<T, float>) return cpu::kernels().product_float;
  else return cpu::kernels().product_double;
}

template <class S> const cpu::PointwiseKernels<S>& pointwise() {
  if constexpr (std::is_same_v<S, float>) return cpu::kernels().pointwise_float;
  else if constexpr (std::is_same_v<S, double>) return cpu::kernels().pointwise_double;
  else if constexpr (std::is_same_v<S, cpu::BFloat16>) return cpu::kernels().pointwise_bfloat16;
  else return cpu::kernels().pointwise_float16;
}

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
template <class S> const S* data(const at::Tensor& t) {
  return t.defined() ? static_cast<const S*>(t.const_data_ptr()) : nullptr;
}
template <class S> S* mutable_data(const at::Tensor& t) {
  return t.defined() ? static_cast<S*>(t.mutable_data_ptr()) : nullptr;
}

// Rows whose elements lie side by side; the rows themselves may lie anywhere.
at::Tensor with_dense_rows(const at::Tensor& matrix) {
  return matrix.size(1) <= 1 || matrix.stride(1) == 1 ? matrix : matrix.contiguous();
}

// f(begin, end) over [0, count) in multiples of `unit`, on one thread when `work` multiply-adds are too few to share.
template <class F> void over_range(int64_t count, int64_t unit, int64_t work, const F& f) {
  const int64_t units = (count + unit - 1) / unit;
  if (!plan::worth_sharing(work)) return f(0, count);
  at::parallel_for(0, units, 1, [&](int64_t begin, int64_t end) { f(begin * unit, std::min(end * unit, count)); });
}

// f(row_begin, row_end, column_begin, column_end): a rectangle a thread, cut so that the largest share is smallest.
template <class F>
void over_grid(int64_t rows, int64_t row_unit, int64_t columns, int64_t column_unit, int64_t work, const F& f) {
  if (rows == 0 || columns == 0) return;
  if (!plan::worth_sharing(work)) return f(0, rows, 0, columns);
  const plan::Grid grid = plan::grid(rows, row_unit, columns, column_unit, at::get_num_threads());
  at::parallel_for(0, grid.row_parts * grid.column_parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const auto [r, row_end] = plan::share(rows, row_unit, grid.row_parts, part / grid.column_parts);
      const auto [c, column_end] = plan::share(columns, column_unit, grid.column_parts, part % grid.column_parts);
      if (r < row_end && c < column_end) f(r, row_end, c, column_end);
    }
  });
}

// ---- forward ----
// y (samples, outputs) = act(x (samples, depth) · wᵀ + bias), all in blocks that never leave the cache unfinished.
template <class T>
void forward_product(Activation activation, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias,
                     const at::Tensor& y) {
  const auto& kernels = products<T>();
  const int64_t samples = x.size(0), depth = x.size(1), outputs = w.size(0), work = samples * depth * outputs;
  const int64_t x_row = x.stride(0), y_row = y.stride(0), line = kLine / sizeof(T);
  const T *from = data<T>(x), *b = data<T>(bias);
  T* to = mutable_data<T>(y);

  if (plan::forward(samples, outputs, kernels.column_tile) == plan::Forward::kDot) {
    const at::Tensor rows = with_dense_rows(w);
    const T* weight = data<T>(rows);
    const int64_t w_row = rows.stride(0);
    over_grid(samples, outputs < line ? line : samples, outputs, line, work,
              [&](int64_t s, int64_t s_end, int64_t n, int64_t n_end) {
                kernels.forward_dot(activation, from + s * x_row, x_row, weight + n * w_row, w_row, b ? b + n : nullptr,
                                    to + s * y_row + n, y_row, s_end - s, n_end - n, depth);
              });
    return;
  }

  const cpu::Strided<T> weight{data<T>(w), w.stride(0), w.stride(1)};
  const int64_t panels = (samples + kPanel - 1) / kPanel;
  const at::Tensor packed = at::empty({panels * kPanel * depth}, x.options());
  T* panel = mutable_data<T>(packed);
  over_grid(panels, 1, depth, line, panels * kPanel * depth * plan::kMoveCost,
            [&](int64_t p, int64_t p_end, int64_t k, int64_t k_end) {
              for (; p < p_end; ++p)
                kernels.pack(from + p * kPanel * x_row, x_row, std::min(kPanel, samples - p * kPanel), k, k_end,
                             panel + p * kPanel * depth);
            });
  over_grid(outputs, line, panels, 1, work, [&](int64_t n, int64_t n_end, int64_t p, int64_t p_end) {
    for (; p < p_end; ++p)
      kernels.forward(activation, {weight.data + n * weight.row, weight.row, weight.column}, panel + p * kPanel * depth,
                      b ? b + n : nullptr, to + p * kPanel * y_row + n, y_row, n_end - n,
                      std::min(kPanel, samples - p * kPanel), depth);
  });
}

at::Tensor linear_act_cpu(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                          std::string_view activation, double negative_slope) {
  const Activation act{check_linear_act(input, weight, bias, activation, negative_slope), negative_slope};
  if (!plan::has_product(input.scalar_type())) {
    at::Tensor y = at::linear(input, weight, bias).contiguous();
    if (activation == Identity::kName) return y;
    with_storage(y.scalar_type(), [&](auto storage) {
      using S = decltype(storage);
      S* values = mutable_data<S>(y);
      over_range(y.numel(), kLine / sizeof(S), y.numel() * plan::kActivationCost,
                 [&](int64_t begin, int64_t end) { pointwise<S>().activate(act, values + begin, end - begin); });
    });
    return y;
  }
  const at::Tensor x = with_dense_rows(as_matrix(input));
  const at::Tensor b = bias && bias->defined() ? bias->contiguous() : at::Tensor();
  at::Tensor y = at::empty(C10_AS_INTARRAYREF_SLOW(output_sizes(input, weight)), input.options());
  const at::Tensor rows = y.view({x.size(0), weight.size(0)});
  if (input.scalar_type() == at::kFloat) forward_product<float>(act, x, weight, b, rows);
  else forward_product<double>(act, x, weight, b, rows);
  return y;
}

// ---- backward ----
// c (rows, columns) = a (rows, depth) · b (depth, columns), a in any strides.
template <class T> void product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c) {
  const auto& kernels = products<T>();
  const int64_t depth = a.size(1), row = a.stride(0), column = a.stride(1), b_row = b.stride(0), c_row = c.stride(0);
  const T *left = data<T>(a), *right = data<T>(b);
  T* to = mutable_data<T>(c);
  over_grid(c.size(0), kernels.row_tile, c.size(1), kLine / sizeof(T), c.size(0) * c.size(1) * depth,
            [&](int64_t r, int64_t r_end, int64_t j, int64_t j_end) {
              kernels.product({left + r * row, row, column}, right + j, b_row, to + r * c_row + j, c_row, r_end - r,
                              j_end - j, depth);
            });
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (!plan::has_product(a.scalar_type())) return at::mm(a, b);
  at::Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
  const at::Tensor right = with_dense_rows(b);
  if (a.scalar_type() == at::kFloat) product<float>(a, right, c);
  else product<double>(a, right, c);
  return c;
}

Gradients linear_act_backward_cpu(const at::Tensor& grad, const std::optional<at::Tensor>& output,
                                  const at::Tensor& input, const at::Tensor& weight, std::string_view activation,
                                  double negative_slope, std::array<bool, 3> wanted) {
  const Activation act{check_linear_act_backward(grad, output, input, weight, activation, negative_slope),
                       negative_slope};
  const bool changes = activation != Identity::kName;  // otherwise dz is dy
  const at::Tensor dy = with_dense_rows(as_matrix(grad));
  const at::Tensor y = changes ? with_dense_rows(as_matrix(*output)) : at::Tensor();
  const int64_t samples = dy.size(0), outputs = dy.size(1);

  at::Tensor dz = changes && (wanted[0] || wanted[1]) ? at::empty({samples, outputs}, dy.options()) : at::Tensor();
  at::Tensor bias_gradient = wanted[2] ? at::empty({outputs}, dy.options()) : at::Tensor();
  if (dz.defined() || bias_gradient.defined()) {
    with_storage(dy.scalar_type(), [&](auto storage) {
      using S = decltype(storage);
      const S *from = data<S>(dy), *out = data<S>(y);
      S *to = mutable_data<S>(dz), *sums = mutable_data<S>(bias_gradient);
      const int64_t dy_row = dy.stride(0), y_row = y.defined() ? y.stride(0) : 0;
      over_range(outputs, kLine / sizeof(S), dy.numel() * plan::kMoveCost, [&](int64_t n, int64_t n_end) {
        pointwise<S>().gradient(act, from + n, dy_row, out ? out + n : nullptr, y_row, to ? to + n : nullptr, outputs,
                                sums ? sums + n : nullptr, samples, n_end - n);
      });
    });
  }
  if (!dz.defined()) dz = dy;
  return {wanted[0] ? product(dz, weight).view(input.sizes()) : at::Tensor(),
          wanted[1] ? product(dz.t(), as_matrix(input)) : at::Tensor(), bias_gradient};
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, CPU, m) {
  m.impl("linear_act", linear_act_cpu);
  m.impl("linear_act_backward", linear_act_backward_cpu);
}

}  // namespace fused_gan
