// bfloat16 layers on the paired products: tensors as operands, memory, and the split over threads.
#pragma once

#include "layers.h"

namespace fused_gan::cpu {

template <class F> void over_paired_grid(int64_t rows, int64_t row_unit, int64_t columns, int64_t depth, const F& f) {
  over_packed_grid(rows, row_unit, columns, kLine / sizeof(BFloat16), depth, paired_workspace(columns, depth), f);
}

inline PairedOperand at_column(PairedOperand b, int64_t j) {
  return {b.data + (b.across ? j : j * b.row), b.row, b.across};
}
inline Pairs rows_as_they_lie(const at::Tensor& a) {
  return {data<BFloat16>(a), a.stride(0), 2, kPairedGroup * a.stride(0)};
}

// B (depth, columns) with its elements side by side along one of the two.
inline PairedOperand paired_operand(const at::Tensor& b) {
  const bool across = b.stride(1) == 1 || b.size(1) <= 1;
  return {data<BFloat16>(b), b.stride(across ? 0 : 1), across};
}
inline bool is_paired_operand(const at::Tensor& b) {
  return b.size(1) <= 1 || b.size(0) <= 1 || b.stride(1) == 1 || b.stride(0) == 1;
}

// y (samples, out) = act(z), z = x · wᵀ + bias; x with dense rows, y and z contiguous. z is kept where it is defined.
inline void paired_forward(const PairedKernels& kernels, Activation activation, const at::Tensor& x,
                           const at::Tensor& w, const at::Tensor& bias, const at::Tensor& y, const at::Tensor& z) {
  const int64_t samples = x.size(0), depth = x.size(1), outputs = w.size(0);
  const BFloat16* b = data<BFloat16>(bias);
  BFloat16 *to = mutable_data<BFloat16>(y), *keep = mutable_data<BFloat16>(z);
  const int64_t y_row = y.stride(0);
  if (plan::paired_forward(samples, depth) == plan::Forward::kPanel && w.stride(1) == 1) {
    const Pairs weight = rows_as_they_lie(w);
    const PairedOperand batch = paired_operand(x.t());
    over_paired_grid(outputs, kLine / sizeof(BFloat16), samples, depth,
                     [&](Range n, int64_t s, int64_t s_end, uint32_t* own) {
                       kernels.forward_columns(activation, weight, at_column(batch, s), b, to + s * y_row,
                                               offset(keep, s * y_row), y_row, s_end - s, n, depth, own);
                     });
    return;
  }
  const Pairs batch = rows_as_they_lie(x);
  const at::Tensor lying = is_paired_operand(w.t()) ? w : w.contiguous();
  const PairedOperand weight = paired_operand(lying.t());
  over_paired_grid(samples, kernels.row_tile, outputs, depth, [&](Range s, int64_t n, int64_t n_end, uint32_t* own) {
    kernels.forward_rows(activation, batch, at_column(weight, n), offset(b, n), to + n, offset(keep, n), y_row, s,
                         n_end - n, depth, own);
  });
}

// c (rows, columns) = a (rows, depth) · b (depth, columns), in any strides.
inline at::Tensor paired_product(const PairedKernels& kernels, at::Tensor a, const at::Tensor& b) {
  const int64_t rows = a.size(0), depth = a.size(1), columns = b.size(1);
  const at::Tensor right = is_paired_operand(b) ? b : b.contiguous();
  const PairedOperand operand = paired_operand(right);

  Pairs pairs{};
  if (a.stride(1) == 1 || depth <= 1) {
    pairs = rows_as_they_lie(a);
  } else {
    // The depth runs down the columns: its pairs are brought together first.
    const at::Tensor down = with_dense_rows(a.t());
    const int64_t group = plan::units_of(depth, 2) * kPairedGroup, row = down.stride(0);
    const BFloat16* from = data<BFloat16>(down);
    a = at::empty({plan::units_of(rows, kPairedGroup) * group}, a.options().dtype(at::kInt));
    uint32_t* to = mutable_data<uint32_t>(a);
    over_range(rows, kPairedGroup, depth * rows * plan::kMoveCost / 2, [&](int64_t r, int64_t r_end) {
      kernels.pair_rows(from + r, row, depth, r_end - r, to + r / kPairedGroup * group);
    });
    pairs = {reinterpret_cast<const BFloat16*>(to), 2, 2 * kPairedGroup, 2 * group};
  }

  at::Tensor c = at::empty({rows, columns}, b.options());
  BFloat16* to = mutable_data<BFloat16>(c);
  over_paired_grid(rows, kernels.row_tile, columns, depth, [&](Range r, int64_t j, int64_t j_end, uint32_t* own) {
    kernels.product(pairs, at_column(operand, j), to + j, columns, r, j_end - j, depth, own);
  });
  return c;
}

}  // namespace fused_gan::cpu
