// The two products of a layer's backward on CPU. There are five ways to compute them: on tiles (tiled.h), in blocks
// (float32, float64), in pairs (bfloat16), widened to float32 (16-bit types without an instruction for pairs), and by
// torch's product (the smallest products in 16 bits, and wherever it was measured to be the fastest).
#pragma once

#include <utility>

#include "layers.h"
#include "paired.h"
#include "tiled.h"
#include "widened.h"

namespace fused_gan::cpu {

// Backward may run inside an autocast region. Operators called here must not be cast once more.
using NoAutocast = c10::impl::ExcludeDispatchKeyGuard;

// Returns null where the processor has no instruction for pairs, or where the work is too little for it.
inline const PairedKernels* paired_kernels_for(at::ScalarType dtype, int64_t work) {
  return dtype == at::kBFloat16 && plan::worth_pairing(work) ? paired_kernels() : nullptr;
}

// The workspaces of products that pack their operands, one per thread; none if the size is 0.
template <class T> struct PackedWorkspaces {
  int64_t size;
  at::Tensor memory;

  PackedWorkspaces(int64_t threads, int64_t elements) : size(plan::units_of(elements, kLine) * kLine) {
    if (size > 0) memory = at::empty({threads * size}, at::CppTypeToScalarType<T>::value);
  }
  // Returns the workspace of part `part`, which has `rows` rows of C; null where it packs nothing.
  T* of(int64_t part, const Reading& reading, int64_t rows, int64_t depth) const {
    const bool packs = reading.packed_columns && plan::repays_packing(rows, depth);
    return packs ? offset(mutable_data<T>(memory), part * size) : nullptr;
  }
};

// Returns a · b by torch's product.
inline at::Tensor library_product(const at::Tensor& a, const at::Tensor& b) {
  const NoAutocast guard(c10::autocast_dispatch_keyset);
  return at::mm(a, b);
}

// Returns a (rows, depth) · b (depth, columns), a in any strides. down_columns tells whether the elements of a usually
// lie side by side down its columns.
template <class T> at::Tensor blocked_product(const at::Tensor& a, const at::Tensor& b, bool down_columns) {
  at::Tensor c = at::empty({a.size(0), b.size(1)}, a.options());
  const int64_t rows = c.size(0), columns = c.size(1), depth = a.size(1);
  const int64_t row = a.stride(0), column = a.stride(1), b_row = b.stride(0), c_row = c.stride(0);
  const int64_t unit = products<T>().row_tile, line = kLine / sizeof(T);
  const T *left = data<T>(a), *right = data<T>(b);
  T* to = mutable_data<T>(c);
  const int64_t threads = threads_for(plan::product_work(rows, columns, depth));
  const Reading reading = plan::reading(down_columns, rows, columns, depth, sizeof(T));
  const PackedWorkspaces<T> workspaces(threads, packed_workspace(reading, depth));
  const plan::Grid grid = plan::grid(rows, unit, columns, line, threads);
  over_parts(threads, [&](int64_t part) {
    on_part(grid, part, rows, unit, columns, line, [&](int64_t r, int64_t r_end, int64_t j, int64_t j_end) {
      products<T>().product({left + r * row, row, column}, right + j, b_row, to + r * c_row + j, c_row, r_end - r,
                            j_end - j, depth, reading, workspaces.of(part, reading, r_end - r, depth));
    });
  });
  return c;
}

// Returns a · b by the kernel for its dtype and size. `a` is released as soon as it is not needed any more.
inline at::Tensor product(at::Tensor a, const at::Tensor& b, bool down_columns = false) {
  if (a.scalar_type() == at::kFloat) return blocked_product<float>(a, with_dense_rows(b), down_columns);
  if (a.scalar_type() == at::kDouble) return blocked_product<double>(a, with_dense_rows(b), down_columns);
  if (const PairedKernels* paired = paired_kernels_for(a.scalar_type(), a.numel() * b.size(1)))
    return paired_product(*paired, std::move(a), b);
  if (plan::worth_pairing(a.numel() * b.size(1)))
    return a.scalar_type() == at::kBFloat16 ? widened_product<BFloat16>(a, b) : widened_product<Float16>(a, b);
  return library_product(a, b);
}

// Returns dW (outs, ins) = dzᵀ · x. dz (rows, outs) is released as soon as the product works on a copy of it.
inline at::Tensor weight_gradient(at::Tensor dz, const at::Tensor& x) {
  at::Tensor transposed = dz.t();
  dz.reset();
  return product(std::move(transposed), x, true);
}

// The choice for a layer's forward or backward.
template <class S> Kernel kernel_for(Direction direction, int64_t samples, int64_t inputs, int64_t outputs) {
  if (!has_choices()) return Kernel::kBlocks;
  return decide({precision_of(kScalarType<S>), direction, samples, inputs, outputs}).kernel;
}

// Computes dx (rows, ins) = dz · w and weight_gradient (outs, ins) = dzᵀ · x. An undefined w or x means that its
// product is not asked for.
template <class S>
void backward(at::Tensor dz, const at::Tensor& w, const at::Tensor& x, at::Tensor& dx, at::Tensor& weight_gradient) {
  if (!w.defined() && !x.defined()) return;
  const int64_t rows = dz.size(0), outs = dz.size(1), ins = w.defined() ? w.size(1) : x.size(1);
  const Kernel kernel = kernel_for<S>(Direction::kBackward, rows, ins, outs);
  if constexpr (kHasTiles<S>)
    if (kernel == Kernel::kTiles) {
      if (w.defined()) dx = at::empty({rows, ins}, dz.options());
      if (x.defined()) weight_gradient = at::empty({outs, ins}, dz.options());
      if (tiled_backward<S>(tile_kernels<S>(), dz, w, x, dx, weight_gradient)) return;
    }
  const bool library = kernel == Kernel::kLibrary;
  if (w.defined()) dx = library ? library_product(dz, w) : product(dz, w);
  if (x.defined()) weight_gradient = library ? library_product(dz.t(), x) : cpu::weight_gradient(std::move(dz), x);
}

}  // namespace fused_gan::cpu
