// The product C = A B that every blocked kernel rests on: the micro-tile in registers, the blocks that keep its
// operands in the caches, and the products of a short and of a very long depth. Part of kernels.inl.

// A micro-tile keeps kRows × kVectors accumulators, kVectors of B and one broadcast in registers: 29 of AVX-512's 32,
// 15 of AVX2's 16. Each block of the depth is summed on its own and then added to C: the error of a long sum grows with
// the number of blocks, not with the depth.
#if FUSED_GAN_VECTOR_BYTES == 64
constexpr int kTileRows = 6, kTileVectors = 4;
#else
constexpr int kTileRows = 6, kTileVectors = 2;
#endif
template <class T> constexpr int64_t kTileColumns = Lanes<T>::kCount * kTileVectors;
static_assert(kShare % kTileColumns<float> == 0 && kShare % kTileColumns<double> == 0);
constexpr int64_t kRowBlock = 48;  // rows of yᵀ that are finished together, in the first cache

constexpr int kAhead = 8;  // rows of B
// Whether rows of a packed panel are fetched ahead. Where a tile's row is one line, that is a fifth of all loads and
// costs 3 % of the time. With AVX-512 it was there when everything was measured.
constexpr bool kFetchesPanels = FUSED_GAN_VECTOR_BYTES == 64;

inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

template <class T, bool kFetches, int kRows, int kVectors>
FUSED_GAN_FUNCTION void micro_tile(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t depth,
                                   bool accumulate) {
  constexpr int kLanes = Lanes<T>::kCount;
  Vec<T> sum[kRows][kVectors] = {};
  // C is cold: it comes while the sums are made. On AMD with AVX-512, whose B lies as it is, earlier sums come by
  // themselves, and rows of C that lie 4 KiB apart would only push B's out: 8 % of an input gradient.
  if (kFetches || kLanes * sizeof(T) < 64 || !accumulate) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(c + r * c_row + v * kLanes, 1);
  }
  for (int64_t k = 0; k < depth; ++k, b += b_row, a.data += a.column) {
    Vec<T> line[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) line[v] = load_as<Vec<T>>(b + v * kLanes);
    // Rows often lie pages apart, where the processor fetches nothing ahead by itself.
    if constexpr (kFetches) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(b + kAhead * b_row + v * kLanes);
    }
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
template <class T, bool kFetches, int kVectors = kTileVectors, int kRows = kTileRows>
void tile(int64_t rows, int64_t vectors, Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t depth,
          bool accumulate) {
  if constexpr (kVectors > 1)
    if (vectors < kVectors)
      return tile<T, kFetches, kVectors - 1, kRows>(rows, vectors, a, b, b_row, c, c_row, depth, accumulate);
  if constexpr (kRows > 1)
    if (rows < kRows)
      return tile<T, kFetches, kVectors, kRows - 1>(rows, vectors, a, b, b_row, c, c_row, depth, accumulate);
  micro_tile<T, kFetches, kRows, kVectors>(a, b, b_row, c, c_row, depth, accumulate);
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
template <class T, bool kFetches, class Finished>
FUSED_GAN_FUNCTION void column_block(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows,
                                     int64_t columns, int64_t depth, bool accumulate, const Finished& finished) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  const int64_t vectors = (columns + kLanes - 1) / kLanes;
  const auto rows_of_a = [&](int64_t r) { return Strided<T>{a.data + r * a.row, a.row, a.column}; };
  if (columns % kLanes == 0) {
    for (int64_t r = 0; r < rows; r += kTileRows) {
      const int64_t height = at_most(kTileRows, rows - r);
      tile<T, kFetches>(height, vectors, rows_of_a(r), b, b_row, c + r * c_row, c_row, depth, accumulate);
      finished(r, height);
    }
    return;
  }
  T padded_b[kDepthBlock * kTileColumns<T>], padded_c[kTileRows * kTileColumns<T>];
  const int64_t width = vectors * kLanes;
  const auto count = [&](int64_t j) { return at_most(kLanes, columns - j); };
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t j = 0; j < width; j += kLanes)
      store_as(padded_b + k * width + j, load_some(b + k * b_row + j, count(j)));
  for (int64_t r = 0; r < rows; r += kTileRows) {
    const int64_t height = at_most(kTileRows, rows - r);
    tile<T, kFetchesPanels>(height, vectors, rows_of_a(r), padded_b, width, padded_c, width, depth, false);
    put_sums(padded_c, width, c + r * c_row, c_row, height, columns, accumulate);
    finished(r, height);
  }
}
template <class T, bool kFetches>
void column_block(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows, int64_t columns,
                  int64_t depth, bool accumulate) {
  column_block<T, kFetches>(a, b, b_row, c, c_row, rows, columns, depth, accumulate, [](int64_t, int64_t) {});
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
template <class T, bool kFetches>
void long_product(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows, int64_t columns,
                  int64_t depth) {
  constexpr int64_t kWidth = kTileColumns<T>;
  alignas(64) T sums[kRowBlock * kWidth];
  for (int64_t j = 0; j < columns; j += kWidth)
    for (int64_t r = 0; r < rows; r += kRowBlock) {
      const int64_t height = at_most(kRowBlock, rows - r), width = at_most(kWidth, columns - j);
      for (int64_t first = 0; first < depth; first += kLongDepth) {
        for (int64_t k = first; k < at_most(depth, first + kLongDepth); k += kDepthBlock)
          column_block<T, kFetches>({a.data + r * a.row + k * a.column, a.row, a.column}, b + k * b_row + j, b_row,
                                    sums, kWidth, height, width, at_most(kDepthBlock, depth - k), k > first);
        put_sums(sums, kWidth, c + r * c_row + j, c_row, height, width, first > 0);
      }
    }
}

// B as it lies. finished(j, width) is called for each block of columns when all its rows are done and still in the
// second cache.
template <class T, bool kFetches, class Finished>
FUSED_GAN_FUNCTION void blocked_product(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows,
                                        int64_t columns, int64_t depth, int64_t depth_block, const Finished& finished) {
  constexpr int64_t kWidth = kTileColumns<T>;
  if (depth <= 2) {
    if (depth == 0) short_product<T, 0>(a, b, b_row, c, c_row, rows, columns);
    else if (depth == 1) short_product<T, 1>(a, b, b_row, c, c_row, rows, columns);
    else short_product<T, 2>(a, b, b_row, c, c_row, rows, columns);
    return finished(0, columns);
  }
  if (depth > kLongDepth) {
    long_product<T, kFetches>(a, b, b_row, c, c_row, rows, columns, depth);
    return finished(0, columns);
  }
  // Short depth: the time goes into writing C, so that is written a few whole rows at a time.
  const int64_t row_block =
      at_most(rows, depth > 16 ? rows_at_a_time<T>(at_most(depth, depth_block)) : int64_t(kTileRows));
  for (int64_t k = 0; k < depth; k += depth_block)
    for (int64_t r = 0; r < rows; r += row_block)
      for (int64_t j = 0; j < columns; j += kWidth) {
        const int64_t width = at_most(kWidth, columns - j);
        column_block<T, kFetches>({a.data + r * a.row + k * a.column, a.row, a.column}, b + k * b_row + j, b_row,
                                  c + r * c_row + j, c_row, at_most(row_block, rows - r), width,
                                  at_most(depth_block, depth - k), k > 0);
        if (row_block == rows && k + depth_block >= depth) finished(j, width);
      }
  if (row_block < rows || rows == 0) finished(0, columns);
}

#include "packed.inl"

template <class T, class Finished>
FUSED_GAN_FUNCTION void product_then(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows,
                                     int64_t columns, int64_t depth, const Reading& reading, T* workspace,
                                     const Finished& finished) {
  if (workspace) return packed_product<T>(a, b, b_row, c, c_row, rows, columns, depth, reading, workspace, finished);
  if (reading.fetches_ahead)
    return blocked_product<T, true>(a, b, b_row, c, c_row, rows, columns, depth, reading.depth_block, finished);
  blocked_product<T, false>(a, b, b_row, c, c_row, rows, columns, depth, reading.depth_block, finished);
}

template <class T>
void product(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows, int64_t columns, int64_t depth,
             const Reading& reading, T* workspace) {
  product_then<T>(a, b, b_row, c, c_row, rows, columns, depth, reading, workspace, [](int64_t, int64_t) {});
}
