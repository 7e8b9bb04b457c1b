// c = a b with both operands packed. A read down its columns touches a new line of memory for every element, and B's
// rows often lie a multiple of 4 KiB apart, where they meet in a few sets of the caches. So a block of B is copied into
// panels of a tile's columns, and then, kPackedRows at a time, the same depth of A into strips [k][row of a tile]. Part
// of kernels.inl, whose tiles do the work.
template <class T> void pack_strip(Strided<T> a, int64_t rows, int64_t depth, T* strip) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  if constexpr (kTileRows <= kLanes)
    if (a.row == 1 && rows >= kTileRows) {
      for (int64_t k = 0; k < depth; ++k) {
        const T* from = a.data + k * a.column;
        __builtin_prefetch(from + 2 * kAhead * a.column);
        store_some(strip + k * kTileRows, load_some(from, kTileRows), kTileRows);
      }
      return;
    }
  for (int64_t r = 0; r < kTileRows; ++r)
    for (int64_t k = 0; k < depth; ++k) strip[k * kTileRows + r] = r < rows ? a.data[r * a.row + k * a.column] : T(0);
}
template <class T> void pack_panel(const T* b, int64_t b_row, int64_t columns, int64_t depth, T* panel) {
  constexpr int64_t kLanes = Lanes<T>::kCount, kWidth = kLanes * kTileVectors;
  for (int64_t k = 0; k < depth; ++k)
    for (int64_t j = 0; j < kWidth; j += kLanes) {
      const T* from = b + k * b_row + j;
      __builtin_prefetch(from + kAhead * b_row);
      store_as(panel + k * kWidth + j, j < columns ? load_some(from, at_most(kLanes, columns - j)) : Vec<T>{});
    }
}

template <class T>
void packed_product(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows, int64_t columns,
                    int64_t depth, T* workspace) {
  constexpr int64_t kLanes = Lanes<T>::kCount, kWidth = kLanes * kTileVectors;
  static_assert(kPackedRows % kTileRows == 0 && kPanel % kWidth == 0);
  const auto [block, wide] = packed_blocks(depth);
  T *panels = workspace, *strips = workspace + packed_workspace(columns, depth) - block * kPackedRows;
  T padded_c[kTileRows * kWidth];
  for (int64_t left = 0; left < columns; left += wide)
    for (int64_t k = 0; k < depth; k += block) {
      const int64_t right = at_most(columns, left + wide), deep = at_most(block, depth - k);
      for (int64_t group = 0; group < rows; group += kPackedRows) {
        const int64_t end = at_most(rows, group + kPackedRows);
        for (int64_t r = group; r < end; r += kTileRows)
          pack_strip<T>({a.data + r * a.row + k * a.column, a.row, a.column}, end - r, deep,
                        strips + (r - group) * deep);
        for (int64_t j = left; j < right; j += kWidth) {
          T* panel = panels + (j - left) * block;
          if (group == 0) pack_panel(b + k * b_row + j, b_row, right - j, deep, panel);
          for (int64_t r = group; r < end; r += kTileRows) {
            const int64_t height = at_most(kTileRows, end - r), width = at_most(kWidth, right - j);
            const int64_t vectors = (width + kLanes - 1) / kLanes;
            const Strided<T> strip{strips + (r - group) * deep, 1, kTileRows};
            T* to = c + r * c_row + j;
            if (width % kLanes == 0) {
              tile<T>(height, vectors, strip, panel, kWidth, to, c_row, deep, k > 0);
              continue;
            }
            tile<T>(height, vectors, strip, panel, kWidth, padded_c, kWidth, deep, false);
            put_sums(padded_c, kWidth, to, c_row, height, width, k > 0);
          }
        }
      }
    }
}
