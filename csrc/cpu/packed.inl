// c = a b with the operands packed. A read down its columns touches a new line of memory for every element, and B's
// rows often lie pages apart, where they meet in a few sets of the caches. So a block of B is copied into panels of a
// tile's columns, and then, kPackedRows at a time, the same depth of A into strips of a tile's rows; A whose rows lie
// along the depth is read as it lies. Part of product.inl, whose tiles do the work.

// to[k][j] = from[k][j] for `columns` ≤ kWidth of `depth` rows, zeros behind them.
template <class T, int64_t kWidth> void pack_panel(const T* from, int64_t row, int64_t columns, int64_t depth, T* to) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t j = 0; j < kWidth; j += kLanes) {
      const T* at = from + k * row + j;
      __builtin_prefetch(at + kAhead * row);  // which rows that lie badly lose again costs little: each is read once
      store_as(to + k * kWidth + j, j < columns ? load_some(at, at_most(kLanes, columns - j)) : Vec<T>{});
    }
}

// to[i / kTileRows][k][i % kTileRows] = from[k][i] for i < rows ≤ kPackedRows, strips `strip` apart; from[k] has
// `readable` elements, rows or more. A strip is what one tile reads, so it lies together. Whole vectors are stored, and
// what is too much of one is overwritten by the next one of the strip, or lies in the room behind it.
template <class T>
void pack_strips(const T* from, int64_t column, int64_t rows, int64_t readable, int64_t depth, T* to, int64_t strip) {
  constexpr int64_t kLanes = Lanes<T>::kCount, kStep = kTileRows < kLanes ? kTileRows : kLanes;
  for (int64_t k = 0; k < depth; ++k) {
    __builtin_prefetch(from + (k + kAhead) * column);
    for (int64_t i = 0; i < rows; i += kTileRows)
      for (int64_t j = 0; j < kTileRows; j += kStep) {
        const int64_t left = readable - i - j;
        if (left > 0)
          store_as(to + i / kTileRows * strip + k * kTileRows + j,
                   load_some(from + k * column + i + j, at_most(kLanes, left)));
      }
  }
}

// finished(j, width) is called for each panel of columns when all its rows are done.
template <class T, class Finished>
FUSED_GAN_FUNCTION void packed_product(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows,
                                       int64_t columns, int64_t depth, const Reading& reading, T* workspace,
                                       const Finished& finished) {
  constexpr int64_t kLanes = Lanes<T>::kCount, kWidth = kTileColumns<T>;
  static_assert(kPackedRows % kTileRows == 0 && kPackedRows / kTileRows * kLanes <= kStripsRoom);
  const int64_t block = packed_depth(depth);
  const int64_t wide = reading.packed_columns, strip = kTileRows * block + kLanes;
  T *panels = workspace, *strips = workspace + block * wide;
  T padded_c[kTileRows * kWidth];
  for (int64_t left = 0; left < columns; left += wide)
    for (int64_t k = 0; k < depth; k += block) {
      const int64_t right = at_most(columns, left + wide), deep = at_most(block, depth - k);
      for (int64_t group = 0; group < rows; group += kPackedRows) {
        const int64_t end = at_most(rows, group + kPackedRows);
        const T* block_of_a = a.data + group * a.row + k * a.column;
        if (reading.packs_a) pack_strips(block_of_a, a.column, end - group, rows - group, deep, strips, strip);
        for (int64_t j = left; j < right; j += kWidth) {
          T* panel = panels + (j - left) * block;
          const int64_t width = at_most(kWidth, right - j), vectors = (width + kLanes - 1) / kLanes;
          if (group == 0) pack_panel<T, kWidth>(b + k * b_row + j, b_row, width, deep, panel);
          for (int64_t r = group; r < end; r += kTileRows) {
            const int64_t height = at_most(kTileRows, end - r);
            const Strided<T> rows_of_a = reading.packs_a
                                             ? Strided<T>{strips + (r - group) / kTileRows * strip, 1, kTileRows}
                                             : Strided<T>{block_of_a + (r - group) * a.row, a.row, a.column};
            T* to = c + r * c_row + j;
            if (width % kLanes == 0) {
              tile<T, kFetchesPanels>(height, vectors, rows_of_a, panel, kWidth, to, c_row, deep, k > 0);
              continue;
            }
            tile<T, kFetchesPanels>(height, vectors, rows_of_a, panel, kWidth, padded_c, kWidth, deep, false);
            put_sums(padded_c, kWidth, to, c_row, height, width, k > 0);
          }
          if (end == rows && k + block >= depth) finished(j, width);
        }
      }
    }
}
