// The CPU kernels, compiled once per instruction set by isa_*.cpp.
#include "isa.h"

#define FUSED_GAN_STRING(name) FUSED_GAN_STRING_OF(name)
#define FUSED_GAN_STRING_OF(name) #name

namespace fused_gan::cpu::FUSED_GAN_ISA {
namespace {

// ---- tiling: registers first ----
// A micro-tile keeps kRows × kVectors accumulators, kVectors of B and one broadcast in registers: 29 of AVX-512's 32,
// 15 of AVX2's 16. Each block of the depth is summed on its own and then added to C: the error of a long sum grows with
// the number of blocks, not with the depth.
#if FUSED_GAN_VECTOR_BYTES == 64
constexpr int kTileRows = 6, kTileVectors = 4;
constexpr int kDotRows = 4, kDotColumns = 4;
#else
constexpr int kTileRows = 6, kTileVectors = 2;
constexpr int kDotRows = 2, kDotColumns = 4;
#endif
constexpr int kDotStrip = 8;  // rows often lie 4 KiB apart: more of them than the first cache has ways evict each other
constexpr int64_t kRowBlock = 48;  // rows of yᵀ that are finished together, in the first cache

constexpr int kAhead = 8;  // rows of B

inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

template <class T, int kRows, int kVectors>
FUSED_GAN_FUNCTION void micro_tile(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t depth,
                                   bool accumulate) {
  constexpr int kLanes = Lanes<T>::kCount;
  Vec<T> sum[kRows][kVectors] = {};
  // C is cold: it comes while the sums are made.
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) __builtin_prefetch(c + r * c_row + v * kLanes, 1);
  for (int64_t k = 0; k < depth; ++k, b += b_row, a.data += a.column) {
    Vec<T> line[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) line[v] = load_as<Vec<T>>(b + v * kLanes);
    // Rows often lie pages apart, where the processor fetches nothing ahead by itself.
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) __builtin_prefetch(b + kAhead * b_row + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> element = broadcast(a.data[r * a.row]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] += element * line[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      T* to = c + r * c_row + v * kLanes;
      store_as(to, accumulate ? load_as<Vec<T>>(to) + sum[r][v] : sum[r][v]);
    }
}

// The micro-tile with `rows` ≤ kTileRows and `vectors` ≤ kTileVectors chosen at run time.
template <class T, int kVectors = kTileVectors, int kRows = kTileRows>
void tile(int64_t rows, int64_t vectors, Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t depth,
          bool accumulate) {
  if constexpr (kVectors > 1)
    if (vectors < kVectors)
      return tile<T, kVectors - 1, kRows>(rows, vectors, a, b, b_row, c, c_row, depth, accumulate);
  if constexpr (kRows > 1)
    if (rows < kRows) return tile<T, kVectors, kRows - 1>(rows, vectors, a, b, b_row, c, c_row, depth, accumulate);
  micro_tile<T, kRows, kVectors>(a, b, b_row, c, c_row, depth, accumulate);
}

// to = or += from, rows `from_row` (whole vectors) and `to_row` apart.
template <class T>
FUSED_GAN_FUNCTION void put_sums(const T* from, int64_t from_row, T* to, int64_t to_row, int64_t rows, int64_t columns,
                                 bool accumulate) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; j += kLanes) {
      const int64_t count = at_most(kLanes, columns - j);
      T* at = to + i * to_row + j;
      const Vec<T> sum = load_as<Vec<T>>(from + i * from_row + j);
      store_some(at, accumulate ? load_some(at, count) + sum : sum, count);
    }
}

// ---- c = a b ----
// One block of B (depth × at most a tile's columns) against `rows` rows; finished(r, height) when rows of C are done. A
// width that is no multiple of a vector goes through padded copies of B's and C's block.
template <class T, class Finished>
FUSED_GAN_FUNCTION void column_block(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows,
                                     int64_t columns, int64_t depth, bool accumulate, const Finished& finished) {
  constexpr int64_t kLanes = Lanes<T>::kCount, kWidth = kLanes * kTileVectors;
  const int64_t vectors = (columns + kLanes - 1) / kLanes;
  const auto rows_of_a = [&](int64_t r) { return Strided<T>{a.data + r * a.row, a.row, a.column}; };
  if (columns % kLanes == 0) {
    for (int64_t r = 0; r < rows; r += kTileRows) {
      const int64_t height = at_most(kTileRows, rows - r);
      tile<T>(height, vectors, rows_of_a(r), b, b_row, c + r * c_row, c_row, depth, accumulate);
      finished(r, height);
    }
    return;
  }
  T padded_b[kDepthBlock * kWidth], padded_c[kTileRows * kWidth];
  const int64_t width = vectors * kLanes;
  const auto count = [&](int64_t j) { return at_most(kLanes, columns - j); };
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t j = 0; j < width; j += kLanes)
      store_as(padded_b + k * width + j, load_some(b + k * b_row + j, count(j)));
  for (int64_t r = 0; r < rows; r += kTileRows) {
    const int64_t height = at_most(kTileRows, rows - r);
    tile<T>(height, vectors, rows_of_a(r), padded_b, width, padded_c, width, depth, false);
    put_sums(padded_c, width, c + r * c_row, c_row, height, columns, accumulate);
    finished(r, height);
  }
}
template <class T>
void column_block(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows, int64_t columns,
                  int64_t depth, bool accumulate) {
  column_block<T>(a, b, b_row, c, c_row, rows, columns, depth, accumulate, [](int64_t, int64_t) {});
}

// A depth of a few: all the time goes into writing C, so that is written row by row, as it lies.
template <class T, int kDepth>
void short_product(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows, int64_t columns) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  for (int64_t r = 0; r < rows; ++r) {
    Vec<T> element[kDepth + 1];  // no array is empty
    for (int k = 0; k < kDepth; ++k) element[k] = broadcast(a.data[r * a.row + k * a.column]);
    const auto finish = [&](int64_t j, int64_t count) __attribute__((always_inline)) {
      Vec<T> sum = {};
      for (int k = 0; k < kDepth; ++k) sum += element[k] * load_some(b + k * b_row + j, count);
      store_some(c + r * c_row + j, sum, count);
    };
    int64_t j = 0;
    for (; j + kLanes <= columns; j += kLanes) finish(j, kLanes);
    if (j < columns) finish(j, columns - j);
  }
}

// A very long depth: kLongDepth at a time is summed on its own, so that the error grows with the number of those, and
// within one with that of its blocks. C is taken in pieces that stay in the first cache.
template <class T>
void long_product(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows, int64_t columns,
                  int64_t depth) {
  constexpr int64_t kLanes = Lanes<T>::kCount, kWidth = kLanes * kTileVectors;
  alignas(64) T sums[kRowBlock * kWidth];
  for (int64_t j = 0; j < columns; j += kWidth)
    for (int64_t r = 0; r < rows; r += kRowBlock) {
      const int64_t height = at_most(kRowBlock, rows - r), width = at_most(kWidth, columns - j);
      for (int64_t first = 0; first < depth; first += kLongDepth) {
        for (int64_t k = first; k < at_most(depth, first + kLongDepth); k += kDepthBlock)
          column_block<T>({a.data + r * a.row + k * a.column, a.row, a.column}, b + k * b_row + j, b_row, sums, kWidth,
                          height, width, at_most(kDepthBlock, depth - k), k > first);
        put_sums(sums, kWidth, c + r * c_row + j, c_row, height, width, first > 0);
      }
    }
}

// finished(j, width) is called for each block of columns when all its rows are done and still in the second cache.
template <class T, class Finished>
FUSED_GAN_FUNCTION void blocked_product(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows,
                                        int64_t columns, int64_t depth, int64_t depth_block, const Finished& finished) {
  constexpr int64_t kWidth = Lanes<T>::kCount * kTileVectors;
  if (depth <= 2) {
    if (depth == 0) short_product<T, 0>(a, b, b_row, c, c_row, rows, columns);
    else if (depth == 1) short_product<T, 1>(a, b, b_row, c, c_row, rows, columns);
    else short_product<T, 2>(a, b, b_row, c, c_row, rows, columns);
    return finished(0, columns);
  }
  if (depth > kLongDepth) {
    long_product<T>(a, b, b_row, c, c_row, rows, columns, depth);
    return finished(0, columns);
  }
  // Short depth: the time goes into writing C, so that is written a few whole rows at a time.
  const int64_t row_block =
      at_most(rows, depth > 16 ? rows_at_a_time<T>(at_most(depth, depth_block)) : int64_t(kTileRows));
  for (int64_t k = 0; k < depth; k += depth_block)
    for (int64_t r = 0; r < rows; r += row_block)
      for (int64_t j = 0; j < columns; j += kWidth) {
        const int64_t width = at_most(kWidth, columns - j);
        column_block<T>({a.data + r * a.row + k * a.column, a.row, a.column}, b + k * b_row + j, b_row,
                        c + r * c_row + j, c_row, at_most(row_block, rows - r), width, at_most(depth_block, depth - k),
                        k > 0);
        if (row_block == rows && k + depth_block >= depth) finished(j, width);
      }
  if (row_block < rows || rows == 0) finished(0, columns);
}

#include "packed.inl"

template <class T>
void product(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows, int64_t columns, int64_t depth,
             int64_t depth_block, T* workspace) {
  if (workspace) return packed_product<T>(a, b, b_row, c, c_row, rows, columns, depth, workspace);
  blocked_product<T>(a, b, b_row, c, c_row, rows, columns, depth, depth_block, [](int64_t, int64_t) {});
}

// ---- forward: yᵀ = W xᵀ, finished in the first cache ----
// A square of `from`, rows to columns, to `to`: `rows` × `columns` of it, and zeros where it has no row.
template <class T>
FUSED_GAN_FUNCTION void transpose_some(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to,
                                       int64_t to_row, int64_t to_columns) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  Vec<T> square[kLanes];
  if (rows == kLanes && columns == kLanes && to_columns == kLanes) {  // nothing to decide: it stays in registers
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) square[i] = load_as<Vec<T>>(from + i * from_row);
    transpose(square);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLanes; ++i) store_as(to + i * to_row, square[i]);
    return;
  }
  for (int64_t i = 0; i < kLanes; ++i) square[i] = i < rows ? load_some(from + i * from_row, columns) : Vec<T>{};
  transpose(square);
  for (int64_t i = 0; i < columns; ++i) store_some(to + i * to_row, square[i], to_columns);
}

template <class T> void pack(const T* x, int64_t x_row, int64_t samples, int64_t first, int64_t last, T* panel) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  for (int64_t s = 0; s < kPanel; s += kLanes)
    for (int64_t k = first; k < last; k += kLanes)
      transpose_some(x + s * x_row + k, x_row, at_most(kLanes, samples - s), at_most(kLanes, last - k),
                     panel + k * kPanel + s, kPanel, kLanes);
}

// block[n][s] is activated, and then goes to y[s][n] and, unless null, to next[n][s].
template <class T, class Act>
void finish(T* block, const T* bias, Vec<T> slope, T* y, int64_t y_row, T* next, int64_t outputs, int64_t samples) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  for (int64_t n = 0; n < outputs; ++n)
    for (int64_t s = 0; s < samples; s += kLanes) {
      T* at = block + n * kPanel + s;
      const Vec<T> z = load_as<Vec<T>>(at), value = Act::forward(bias ? z + bias[n] : z, slope);
      store_as(at, value);
      if (next) store_as(next + n * kPanel + s, value);
    }
  for (int64_t n = 0; n < outputs; n += kLanes)
    for (int64_t s = 0; s < samples; s += kLanes)
      transpose_some(block + n * kPanel + s, kPanel, at_most(kLanes, outputs - n), at_most(kLanes, samples - s),
                     y + s * y_row + n, y_row, at_most(kLanes, outputs - n));
}

template <class T>
void forward(Activation activation, Strided<T> w, const T* panel, const T* bias, T* y, int64_t y_row, T* next,
             int64_t outputs, int64_t samples, int64_t depth) {
  constexpr int64_t kWidth = Lanes<T>::kCount * kTileVectors;
  const int64_t columns = (samples + Lanes<T>::kCount - 1) / Lanes<T>::kCount * Lanes<T>::kCount;
  alignas(64) T block[kRowBlock * kPanel];
  Activations::visit(activation.index, [&](auto act) {
    for (int64_t n = 0; n < outputs; n += kRowBlock) {
      const int64_t height = at_most(kRowBlock, outputs - n);
      if (depth == 0)
        for (int64_t i = 0; i < height * kPanel; ++i) block[i] = T(0);
      for (int64_t k = 0; k < depth; k += kDepthBlock)
        for (int64_t j = 0; j < columns; j += kWidth)
          column_block<T>({w.data + n * w.row + k * w.column, w.row, w.column}, panel + k * kPanel + j, kPanel,
                          block + j, kPanel, height, at_most(kWidth, columns - j), at_most(kDepthBlock, depth - k),
                          k > 0);
      finish<T, decltype(act)>(block, bias ? bias + n : nullptr, broadcast(T(activation.slope)), y + n, y_row,
                               next ? next + n * kPanel : nullptr, height, samples);
    }
  });
}

// ---- forward for many samples: y = x Wᵀ, W packed, each tile of y finished in the first cache ----
// y = act(x · panel + bias) for one panel of W.
template <class T, class Act>
void forward_panel(const T* x, int64_t x_row, const T* panel, const T* bias, Vec<T> slope, T* y, int64_t y_row,
                   int64_t samples, int64_t outputs, int64_t depth) {
  constexpr int64_t kLanes = Lanes<T>::kCount, kWidth = kLanes * kTileVectors;
  for (int64_t j = 0; j < outputs; j += kWidth) {
    const int64_t width = at_most(kWidth, outputs - j);
    for (int64_t k = 0; k < depth; k += kDepthBlock) {
      const bool last = k + kDepthBlock >= depth;
      column_block<T>({x + k, x_row, 1}, panel + k * kPanel + j, kPanel, y + j, y_row, samples, width,
                      at_most(kDepthBlock, depth - k), k > 0,
                      [&](int64_t r, int64_t height) __attribute__((always_inline)) {
                        if (!last) return;
                        for (int64_t n = 0; n < width; n += kLanes) {
                          const int64_t count = at_most(kLanes, width - n);
                          const Vec<T> b = bias ? load_some(bias + j + n, count) : Vec<T>{};
                          for (int64_t i = 0; i < height; ++i) {
                            T* to = y + (r + i) * y_row + j + n;
                            store_some(to, Act::forward(load_some(to, count) + b, slope), count);
                          }
                        }
                      });
    }
  }
}

template <class T>
void forward_rows(Activation activation, const T* x, int64_t x_row, const T* w, int64_t w_row, const T* bias, T* y,
                  int64_t y_row, int64_t samples, int64_t outputs, int64_t depth, T* workspace) {
  const int64_t wide = kPanel * panels_at_a_time<T>(depth), high = rows_at_a_time<T>(depth);
  Activations::visit(activation.index, [&](auto act) {
    const Vec<T> slope = broadcast(T(activation.slope));
    for (int64_t left = 0; left < outputs; left += wide) {
      const int64_t right = at_most(outputs, left + wide);
      const auto panel = [&](int64_t j) { return workspace + (j - left) * depth; };
      for (int64_t j = left; j < right; j += kPanel)
        pack<T>(w + j * w_row, w_row, at_most(kPanel, right - j), 0, depth, panel(j));
      for (int64_t r = 0; r < samples; r += high)
        for (int64_t j = left; j < right; j += kPanel)
          forward_panel<T, decltype(act)>(x + r * x_row, x_row, panel(j), bias ? bias + j : nullptr, slope,
                                          y + r * y_row + j, y_row, at_most(high, samples - r),
                                          at_most(kPanel, right - j), depth);
    }
  });
}

// ---- forward for few samples or few outputs ----
#include "dots.inl"

// ---- 16-bit types through float32 ----
#include "widened.inl"

// ---- pointwise ----
template <class S> void activate(Activation activation, S* y, int64_t count) {
  using T = typename Storage<S>::Compute;
  constexpr int64_t kLanes = Lanes<T>::kCount;
  Activations::visit(activation.index, [&](auto act) {
    const Vec<T> slope = broadcast(T(activation.slope));
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
      Storage<S>::store(y + i, decltype(act)::forward(Storage<S>::load(y + i), slope));
    if (i < count) store_some(y + i, decltype(act)::forward(load_some(y + i, count - i), slope), count - i);
  });
}

// A strip of at most kGradientVectors vectors of columns, row by row as they lie: a narrower one, whose sums would stay
// in registers, jumps to another page with every row, where the processor fetches nothing ahead. kSums: bias_gradient
// is not null.
constexpr int kGradientVectors = 32;
template <class S, class Act, bool kSums>
FUSED_GAN_FUNCTION void gradient_strip(Vec<typename Storage<S>::Compute> slope, const S* dy, int64_t dy_row, const S* y,
                                       int64_t y_row, S* dz, int64_t dz_row, S* bias_gradient, int64_t rows,
                                       int64_t columns) {
  using T = typename Storage<S>::Compute;
  constexpr int64_t kLanes = Lanes<T>::kCount;
  Sum<T> sums[kGradientVectors];
  for (int64_t r = 0; r < rows; ++r) {
    const auto at = [&](int64_t j, int64_t count) __attribute__((always_inline)) {
      const Vec<T> upper = load_some(dy + r * dy_row + j, count);
      const Vec<T> value = Act::gradient(upper, y ? load_some(y + r * y_row + j, count) : upper, slope);
      if constexpr (kSums) sums[j / kLanes].add(value, r);
      if (dz) store_some(dz + r * dz_row + j, value, count);
    };
    int64_t j = 0;
    for (; j + kLanes <= columns; j += kLanes) at(j, kLanes);
    if (j < columns) at(j, columns - j);
  }
  if constexpr (kSums)
    for (int64_t j = 0; j < columns; j += kLanes)
      store_some(bias_gradient + j, sums[j / kLanes].value(), at_most(kLanes, columns - j));
}

// A single dense column (a critic's output): whole vectors of it, then the sum of the lanes.
template <class S, class Act>
void gradient_column(Vec<typename Storage<S>::Compute> slope, const S* dy, const S* y, S* dz, S* bias_gradient,
                     int64_t rows) {
  using T = typename Storage<S>::Compute;
  constexpr int64_t kLanes = Lanes<T>::kCount;
  Sum<T> sum;
  for (int64_t r = 0; r < rows; r += kLanes) {
    const int64_t count = at_most(kLanes, rows - r);
    const Vec<T> upper = load_some(dy + r, count);
    const Vec<T> value = Act::gradient(upper, y ? load_some(y + r, count) : upper, slope);
    sum.add(count == kLanes ? value : keep_first<T>(count, value), r / kLanes);
    if (dz) store_some(dz + r, value, count);
  }
  if (bias_gradient) store_some(bias_gradient, broadcast(sum.of_lanes()), 1);
}

template <class S>
void gradient(Activation activation, const S* dy, int64_t dy_row, const S* y, int64_t y_row, S* dz, int64_t dz_row,
              S* bias_gradient, int64_t rows, int64_t columns) {
  using T = typename Storage<S>::Compute;
  constexpr int64_t kLanes = Lanes<T>::kCount;
  const bool dense_column = columns == 1 && dy_row == 1 && (!y || y_row == 1) && (!dz || dz_row == 1);
  Activations::visit(activation.index, [&](auto act) {
    const Vec<T> slope = broadcast(T(activation.slope));
    if (dense_column) return gradient_column<S, decltype(act)>(slope, dy, y, dz, bias_gradient, rows);
    constexpr int64_t kStrip = kGradientVectors * kLanes;
    for (int64_t j = 0; j < columns; j += kStrip) {
      const int64_t width = at_most(kStrip, columns - j);
      const S* from = y ? y + j : nullptr;
      S* to = dz ? dz + j : nullptr;
      if (bias_gradient)
        gradient_strip<S, decltype(act), true>(slope, dy + j, dy_row, from, y_row, to, dz_row, bias_gradient + j, rows,
                                               width);
      else
        gradient_strip<S, decltype(act), false>(slope, dy + j, dy_row, from, y_row, to, dz_row, nullptr, rows, width);
    }
  });
}

template <class T>
void product_gradient(Activation activation, Strided<T> a, const T* b, int64_t b_row, const T* y, int64_t y_row, T* dz,
                      int64_t dz_row, T* bias_gradient, int64_t rows, int64_t columns, int64_t depth,
                      int64_t depth_block) {
  blocked_product<T>(a, b, b_row, dz, dz_row, rows, columns, depth, depth_block, [&](int64_t j, int64_t width) {
    gradient<T>(activation, dz + j, dz_row, y + j, y_row, dz + j, dz_row, bias_gradient ? bias_gradient + j : nullptr,
                rows, width);
  });
}

// ---- the table ----
template <class T> constexpr ProductKernels<T> products() {
  return {kTileRows, Lanes<T>::kCount, pack<T>, forward<T>, forward_rows<T>, product<T>, product_gradient<T>};
}
template <class S> constexpr StorageKernels<S> storage() { return {activate<S>, gradient<S>, forward_dot<S>}; }

bool supported();  // defined by isa_*.cpp

}  // namespace

extern const Kernels kKernels = {FUSED_GAN_STRING(FUSED_GAN_ISA),
                                 supported,
                                 products<float>(),
                                 products<double>(),
                                 storage<float>(),
                                 storage<double>(),
                                 storage<BFloat16>(),
                                 storage<Float16>(),
                                 {widened_product<BFloat16>},
                                 {widened_product<Float16>}};

}  // namespace fused_gan::cpu::FUSED_GAN_ISA
