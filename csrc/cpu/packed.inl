// c = a b with the operands packed. A read down its columns touches a new line of memory for every element, and B's
// rows often lie a multiple of 4 KiB apart, where they meet in a few sets of the caches. So a block of B is copied into
// panels of a tile's columns, and then, kPackedRows at a time, the same depth of A into rows of that length; A whose
// rows lie along the depth is read as it lies. Part of product.inl, whose tiles do the work.

// to[k][j] = from[k][j] for `columns` ≤ width of `depth` rows, zeros behind them. The width is a multiple of a vector.
template <class T> void pack_block(const T* from, int64_t row, int64_t columns, int64_t depth, T* to, int64_t width) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t j = 0; j < width; j += kLanes) {
      const T* at = from + k * row + j;
      __builtin_prefetch(at + kAhead * row);
      store_as(to + k * width + j, j < columns ? load_some(at, at_most(kLanes, columns - j)) : Vec<T>{});
    }
}

template <class T>
void packed_product(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows, int64_t columns,
                    int64_t depth, T* workspace) {
  constexpr int64_t kLanes = Lanes<T>::kCount, kWidth = kLanes * kTileVectors;
  static_assert(kPackedRows % kTileRows == 0 && kPackedRows % kLanes == 0 && kPackedColumns<T> % kPanel == 0 &&
                kPanel % kWidth == 0);
  const int64_t block = packed_depth(depth);
  T *panels = workspace, *lines = workspace + packed_workspace<T>(columns, depth) - block * kPackedRows;
  T padded_c[kTileRows * kWidth];
  for (int64_t left = 0; left < columns; left += kPackedColumns<T>)
    for (int64_t k = 0; k < depth; k += block) {
      const int64_t right = at_most(columns, left + kPackedColumns<T>), deep = at_most(block, depth - k);
      for (int64_t group = 0; group < rows; group += kPackedRows) {
        const int64_t end = at_most(rows, group + kPackedRows);
        Strided<T> some{a.data + group * a.row + k * a.column, a.row, a.column};
        if (a.row == 1) {
          pack_block(some.data, a.column, end - group, deep, lines, kPackedRows);
          some = {lines, 1, kPackedRows};
        }
        for (int64_t j = left; j < right; j += kWidth) {
          T* panel = panels + (j - left) * block;
          const int64_t width = at_most(kWidth, right - j), vectors = (width + kLanes - 1) / kLanes;
          if (group == 0) pack_block(b + k * b_row + j, b_row, width, deep, panel, kWidth);
          for (int64_t r = group; r < end; r += kTileRows) {
            const int64_t height = at_most(kTileRows, end - r);
            const Strided<T> rows_of_a{some.data + (r - group) * some.row, some.row, some.column};
            T* to = c + r * c_row + j;
            if (width % kLanes == 0) {
              tile<T>(height, vectors, rows_of_a, panel, kWidth, to, c_row, deep, k > 0);
              continue;
            }
            tile<T>(height, vectors, rows_of_a, panel, kWidth, padded_c, kWidth, deep, false);
            put_sums(padded_c, kWidth, to, c_row, height, width, k > 0);
          }
        }
      }
    }
}
