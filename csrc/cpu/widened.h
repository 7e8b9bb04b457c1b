// 16-bit layers in float32, where the processor has no instruction for their type: operands are widened block by block,
// in each thread's own workspace, and every sum is rounded once.
#pragma once

#include <utility>

#include "../activations.h"
#include "layers.h"

namespace fused_gan::cpu {

template <class S> const WidenedKernels<S>& widened() {
  if constexpr (std::is_same_v<S, BFloat16>) return kernels().widened_bfloat16;
  else return kernels().widened_float16;
}

// A matrix with a stride of 1: rows or columns as they lie, or a copy.
inline at::Tensor with_dense_lines(const at::Tensor& matrix) {
  const bool dense = matrix.size(0) <= 1 || matrix.size(1) <= 1 || matrix.stride(0) == 1 || matrix.stride(1) == 1;
  return dense ? matrix : matrix.contiguous();
}
// Its strides; that of a dimension of one element, which may be anything, does not count.
template <class S> Strided<S> lines_of(const at::Tensor& matrix) {
  const int64_t row = matrix.stride(0), column = matrix.stride(1);
  if (matrix.size(1) <= 1 || column == 1) return {data<S>(matrix), row, 1};
  return {data<S>(matrix), 1, column};
}

// c = act(z), z = a · b + bias in any strides of a and b; transposed as WidenedResult says. z is kept where it is
// defined, laid out as c.
template <class S>
void widened_layer(Activation activation, const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias,
                   const at::Tensor& c, const at::Tensor& z, bool transposed) {
  const at::Tensor left_lines = with_dense_lines(a), right_lines = with_dense_lines(b);
  const int64_t rows = a.size(0), columns = b.size(1), depth = a.size(1), line = kLine / sizeof(S);
  const Strided<S> left = lines_of<S>(left_lines), right = lines_of<S>(right_lines);
  const S* added = data<S>(bias);
  S *to = mutable_data<S>(c), *keep = mutable_data<S>(z);
  const int64_t c_row = c.stride(0);
  over_packed_grid(rows, transposed ? line : products<float>().row_tile, columns, line, depth,
                   widened_workspace(rows, depth), [&](Range r, int64_t j, int64_t j_end, uint32_t* own) {
                     const int64_t place = transposed ? j * c_row + r.begin : r.begin * c_row + j;
                     const WidenedResult<S> result{activation, offset(added, transposed ? r.begin : j),
                                                   to + place, offset(keep, place),
                                                   c_row,      transposed};
                     widened<S>().product({left.data + r.begin * left.row, left.row, left.column},
                                          {right.data + j * right.column, right.row, right.column}, result,
                                          r.end - r.begin, j_end - j, depth, reinterpret_cast<float*>(own));
                   });
}

// y (samples, out) = act(z), z = x · wᵀ + bias; x with dense rows, y and z contiguous. z is kept where it is defined.
template <class S>
void widened_forward(Activation activation, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias,
                     const at::Tensor& y, const at::Tensor& z) {
  const int64_t samples = x.size(0), depth = x.size(1), outputs = w.size(0);
  if (plan::forward(samples, depth, outputs, products<float>().lanes) == plan::Forward::kDot)
    return forward_dot<S>(activation, x, w, bias, y, z);
  if (plan::paired_forward(samples, depth) == plan::Forward::kPanel)
    return widened_layer<S>(activation, w, x.t(), bias, y, z, true);
  widened_layer<S>(activation, x, w.t(), bias, y, z, false);
}

// c (rows, columns) = a (rows, depth) · b (depth, columns), in any strides.
template <class S> at::Tensor widened_product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
  widened_layer<S>(kIdentity, a, b, {}, c, {}, false);
  return c;
}

}  // namespace fused_gan::cpu
