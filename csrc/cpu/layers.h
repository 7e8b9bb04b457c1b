// Shared by linear_act.cpp and chain.cpp on CPU: tensors as pointers, the split over threads, one layer's forward.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "kernel_table.h"
#include "plan.h"

namespace fused_gan::cpu {

constexpr int64_t kLine = 64;  // bytes in a cache line: two threads never write into one

// Whether the blocked products compute in a storage type.
template <class S> constexpr bool kIsBlocked = std::is_same_v<S, float> || std::is_same_v<S, double>;

template <class S>
constexpr at::ScalarType kScalarType = std::is_same_v<S, float>      ? at::kFloat
                                       : std::is_same_v<S, double>   ? at::kDouble
                                       : std::is_same_v<S, BFloat16> ? at::kBFloat16
                                                                     : at::kHalf;

template <class T> const ProductKernels<T>& products() {
  if constexpr (std::is_same_v<T, float>) return kernels().product_float;
  else return kernels().product_double;
}

template <class S> const StorageKernels<S>& storage() {
  if constexpr (std::is_same_v<S, float>) return kernels().storage_float;
  else if constexpr (std::is_same_v<S, double>) return kernels().storage_double;
  else if constexpr (std::is_same_v<S, BFloat16>) return kernels().storage_bfloat16;
  else return kernels().storage_float16;
}

// Calls f(S{}) with the storage type of `dtype`, which checks.h has let through.
template <class F> decltype(auto) with_storage(at::ScalarType dtype, F&& f) {
  switch (dtype) {
    case at::kFloat:
      return f(float{});
    case at::kDouble:
      return f(double{});
    case at::kBFloat16:
      return f(BFloat16{});
    default:
      return f(Float16{});
  }
}

// Undefined tensors are null pointers.
template <class S> const S* data(const at::Tensor& t) {
  return t.defined() ? static_cast<const S*>(t.const_data_ptr()) : nullptr;
}
template <class S> S* mutable_data(const at::Tensor& t) {
  return t.defined() ? static_cast<S*>(t.mutable_data_ptr()) : nullptr;
}
template <class T> const T* offset(const T* from, int64_t by) { return from ? from + by : nullptr; }
template <class T> T* offset(T* from, int64_t by) { return from ? from + by : nullptr; }

// Returns a matrix whose rows have their elements side by side; the rows themselves may lie anywhere. A single column
// is always made dense: a dense one is summed in another order, and the strides of an argument must not change a bit.
inline at::Tensor with_dense_rows(const at::Tensor& matrix) {
  return matrix.size(1) == 0 || (matrix.size(1) > 1 && matrix.stride(1) == 1) ? matrix : matrix.contiguous();
}

// f(begin, end) over [0, count) in multiples of `unit`, on one thread when `work` multiply-adds are too few to share.
template <class F> void over_range(int64_t count, int64_t unit, int64_t work, const F& f) {
  if (!plan::worth_sharing(work)) return f(0, count);
  at::parallel_for(0, plan::units_of(count, unit), 1,
                   [&](int64_t begin, int64_t end) { f(begin * unit, std::min(end * unit, count)); });
}

// The rectangle of a matrix that is part `part` of the grid: f(row_begin, row_end, column_begin, column_end).
template <class F>
void on_part(plan::Grid grid, int64_t part, int64_t rows, int64_t row_unit, int64_t columns, int64_t column_unit,
             const F& f) {
  if (part >= grid.row_parts * grid.column_parts) return;
  const auto [r, row_end] = plan::share(rows, row_unit, grid.row_parts, part / grid.column_parts);
  const auto [c, column_end] = plan::share(columns, column_unit, grid.column_parts, part % grid.column_parts);
  if (r < row_end && c < column_end) f(r, row_end, c, column_end);
}

// Calls f(part) for each part, with one thread per part.
template <class F> void over_parts(int64_t parts, const F& f) {
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) f(part);
  });
}

inline int64_t threads_for(int64_t work) { return plan::worth_sharing(work) ? at::get_num_threads() : 1; }

// Calls f for one rectangle per thread, cut so that the largest rectangle is smallest.
template <class F>
void over_grid(int64_t rows, int64_t row_unit, int64_t columns, int64_t column_unit, int64_t work, const F& f) {
  const plan::Grid grid = plan::grid(rows, row_unit, columns, column_unit, threads_for(work));
  over_parts(grid.row_parts * grid.column_parts,
             [&](int64_t part) { on_part(grid, part, rows, row_unit, columns, column_unit, f); });
}

// Calls f(rows, j, j_end, workspace) for one rectangle of C (rows, columns) per thread, with `words` of workspace each.
// Every thread packs the columns of B that it reads, and its rows have to repay that. So a small number of rows is cut
// only if the columns are too few for the threads, and then into parts of at least kShare rows.
template <class F>
void over_packed_grid(int64_t rows, int64_t row_unit, int64_t columns, int64_t column_unit, int64_t depth,
                      int64_t words, const F& f) {
  const int64_t threads = threads_for(plan::product_work(rows, columns, depth));
  const bool enough = rows >= threads * kShare, columns_do = plan::units_of(columns, column_unit) >= threads;
  const int64_t unit = enough       ? row_unit
                       : columns_do ? std::max<int64_t>(rows, 1)
                                    : plan::units_of(kShare, row_unit) * row_unit;
  const plan::Grid grid = plan::grid(rows, unit, columns, column_unit, threads);
  const int64_t parts = grid.row_parts * grid.column_parts;
  const at::Tensor workspace = at::empty({parts * words}, at::kInt);
  uint32_t* first = mutable_data<uint32_t>(workspace);
  over_parts(parts, [&](int64_t part) {
    uint32_t* own = first + part * words;
    on_part(grid, part, rows, unit, columns, column_unit,
            [&](int64_t r, int64_t r_end, int64_t j, int64_t j_end) { f(Range{r, r_end}, j, j_end, own); });
  });
}

// Memory for a matrix in panels of panel_width rows, each column-major; rows are filled up to a multiple of kShare.
inline at::Tensor panels_for(int64_t rows, int64_t columns, const at::TensorOptions& options) {
  return at::empty({plan::units_of(rows, kShare) * kShare * columns}, options);
}

template <class T> at::Tensor pack_rows(const at::Tensor& x) {
  const int64_t samples = x.size(0), features = x.size(1), row = x.stride(0);
  const int64_t width = products<T>().panel_width;
  at::Tensor packed = panels_for(samples, features, x.options());
  const T* from = data<T>(x);
  T* to = mutable_data<T>(packed);
  over_grid(samples, kShare, features, kLine / sizeof(T), packed.numel() * plan::kMoveCost,
            [&](int64_t s, int64_t s_end, int64_t k, int64_t k_end) {
              for (; s < s_end; s += width)
                products<T>().pack(from + s * row, row, std::min(width, s_end - s), k, k_end, to + s * features);
            });
  return packed;
}

template <class T> plan::Forward forward_plan(int64_t samples, const at::Tensor& w) {
  return plan::forward(samples, w.size(1), w.size(0), products<T>().lanes);
}

// y (samples, out) = act(x · wᵀ + bias), rows against rows as they lie, in any storage type.
template <class S>
void forward_dot(Activation activation, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias,
                 const at::Tensor& y, const at::Tensor& z) {
  const at::Tensor rows = with_dense_rows(w);
  const S *from = data<S>(x), *weight = data<S>(rows), *b = data<S>(bias);
  S *to = mutable_data<S>(y), *keep = mutable_data<S>(z);
  const int64_t samples = x.size(0), depth = x.size(1), outputs = w.size(0), line = kLine / sizeof(S);
  const int64_t x_row = x.stride(0), w_row = rows.stride(0), y_row = y.stride(0);
  over_grid(samples, line, outputs, line, plan::product_work(samples, outputs, depth),
            [&](int64_t s, int64_t s_end, int64_t n, int64_t n_end) {
              storage<S>().forward_dot(activation, from + s * x_row, x_row, weight + n * w_row, w_row, offset(b, n),
                                       to + s * y_row + n, offset(keep, s * y_row + n), y_row, s_end - s, n_end - n,
                                       depth);
            });
}

// y (samples, out) = act(z), z = x (samples, in) · wᵀ + bias, in blocks that never leave the cache unfinished. z is
// kept where it is defined. `packed` is x in panels, or undefined; `next` takes y in panels, or is undefined. Where
// `next` is there, y may be undefined. Both y and z are contiguous.
template <class T>
void forward_layer(Activation activation, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias,
                   const at::Tensor& y, const at::Tensor& z, const at::Tensor& packed, const at::Tensor& next) {
  const int64_t samples = x.size(0), depth = x.size(1), outputs = w.size(0),
                work = plan::product_work(samples, outputs, depth);
  const int64_t y_row = outputs, line = kLine / sizeof(T);
  const T* b = data<T>(bias);
  T *to = mutable_data<T>(y), *keep = mutable_data<T>(z);
  const int64_t at_a_time = rows_at_a_time<T>(depth);

  const plan::Forward how = forward_plan<T>(samples, w);
  if (how == plan::Forward::kRows) {
    const at::Tensor weights = with_dense_rows(w);
    const T *from = data<T>(x), *weight = data<T>(weights);
    const int64_t x_row = x.stride(0), w_row = weights.stride(0);
    const int64_t words = forward_workspace<T>(outputs, depth) * int64_t(sizeof(T) / sizeof(uint32_t));
    over_packed_grid(samples, products<T>().row_tile, outputs, kShare, depth, words,
                     [&](Range s, int64_t n, int64_t n_end, uint32_t* own) {
                       products<T>().forward_rows(activation, from + s.begin * x_row, x_row, weight + n * w_row, w_row,
                                                  offset(b, n), to + s.begin * y_row + n,
                                                  offset(keep, s.begin * y_row + n), y_row, s.end - s.begin, n_end - n,
                                                  depth, reinterpret_cast<T*>(own));
                     });
    return;
  }
  if (how == plan::Forward::kDot) return forward_dot<T>(activation, x, w, bias, y, z);

  const at::Tensor batch = packed.defined() ? packed : pack_rows<T>(x);
  const T *weight = data<T>(w), *panels = data<T>(batch);
  T* to_next = mutable_data<T>(next);
  const int64_t w_row = w.stride(0), w_column = w.stride(1);
  const int64_t width = products<T>().panel_width;
  over_grid(samples, kShare, outputs, line, work, [&](int64_t s_begin, int64_t s_end, int64_t n, int64_t n_end) {
    for (; n < n_end; n += at_a_time)
      for (int64_t s = s_begin; s < s_end; s += width)
        products<T>().forward(activation, {weight + n * w_row, w_row, w_column}, panels + s * depth, offset(b, n),
                              offset(to, s * y_row + n), offset(keep, s * y_row + n), y_row,
                              offset(to_next, s * outputs + n * width), std::min(at_a_time, n_end - n),
                              std::min(width, s_end - s), depth);
  });
}

// A matrix whose rows are dense and `row` elements apart.
template <class S> struct Rows {
  const S* data;
  int64_t row;
};
template <class S> Rows<S> rows_of(const at::Tensor& t) { return {data<S>(t), t.defined() ? t.stride(0) : 0}; }

// dz (rows, columns), dense, = dy ⊙ act', and `sums` its column sums, in one pass. `kept` is what act' reads. dz, sums
// and kept (for identity) may be null, dz may be dy.
template <class S>
void gradient_pass(Activation activation, int64_t rows, int64_t columns, Rows<S> dy, Rows<S> kept, S* dz, S* sums) {
  over_range(columns, kLine / sizeof(S), rows * columns * plan::kMoveCost, [&](int64_t n, int64_t n_end) {
    storage<S>().gradient(activation, dy.data + n, dy.row, offset(kept.data, n), kept.row, offset(dz, n), columns,
                          offset(sums, n), rows, n_end - n);
  });
}

}  // namespace fused_gan::cpu
