// Products in 16-bit types that have no instruction of their own: blocks of both operands are widened to float32 in
// the second cache and multiplied there, and each sum is rounded once, when it is whole, with bias and activation.
// Part of kernels.inl. The tiles of product.inl do the work.

// to[i][j] = from[i * row + j], rows to_row apart, zeros behind the last column up to a whole vector.
template <class S>
void widen_rows(const S* from, int64_t row, int64_t rows, int64_t columns, float* to, int64_t to_row) {
  constexpr int64_t kLanes = Lanes<float>::kCount;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; j += kLanes)
      store_as(to + i * to_row + j, load_some(from + i * row + j, at_most(kLanes, columns - j)));
}

// to[k][j] = from[j * row + k], rows to_row apart, zeros behind the last column up to a whole vector.
template <class S>
void widen_transposed(const S* from, int64_t row, int64_t depth, int64_t columns, float* to, int64_t to_row) {
  constexpr int64_t kLanes = Lanes<float>::kCount;
  for (int64_t j = 0; j < columns; j += kLanes)
    for (int64_t k = 0; k < depth; k += kLanes) {
      const int64_t count = at_most(kLanes, depth - k);
      Vec<float> square[kLanes];
      for (int64_t i = 0; i < kLanes; ++i)
        square[i] = j + i < columns ? load_some(from + (j + i) * row + k, count) : Vec<float>{};
      transpose(square);
      for (int64_t i = 0; i < count; ++i) store_as(to + (k + i) * to_row + j, square[i]);
    }
}

// block[i][j], rows kWidenedColumns apart -> z[i][j] = block[i][j] + bias[j], unless z is null, and c[i][j] = act(z).
template <class S, class Act>
FUSED_GAN_FUNCTION void round_rows(const Act& act, const float* block, const S* bias, S* c, S* z, int64_t c_row,
                                   int64_t rows, int64_t columns) {
  constexpr int64_t kLanes = Lanes<float>::kCount;
  for (int64_t j = 0; j < columns; j += kLanes) {
    const int64_t count = at_most(kLanes, columns - j);
    const Vec<float> b = bias ? load_some(bias + j, count) : Vec<float>{};
    for (int64_t i = 0; i < rows; ++i) {
      const Vec<float> product = load_as<Vec<float>>(block + i * kWidenedColumns + j),
                       sum = bias ? product + b : product;
      if (z) store_some(z + i * c_row + j, sum, count);
      store_some(c + i * c_row + j, act.forward(sum), count);
    }
  }
}

// block[i][j], rows kWidenedColumns apart -> c[j][i] = act(block[i][j] + bias[i]).
template <class S, class Act>
FUSED_GAN_FUNCTION void round_transposed(const Act& act, const float* block, const S* bias, S* c, int64_t c_row,
                                         int64_t rows, int64_t columns) {
  constexpr int64_t kLanes = Lanes<float>::kCount;
  for (int64_t i = 0; i < rows; i += kLanes) {
    const int64_t count = at_most(kLanes, rows - i);
    const Vec<float> b = bias ? load_some(bias + i, count) : Vec<float>{};
    for (int64_t j = 0; j < columns; j += kLanes) {
      Vec<float> square[kLanes];
      for (int64_t n = 0; n < kLanes; ++n) {
        square[n] = Vec<float>{};
        if (n >= count) continue;
        const Vec<float> sum = load_as<Vec<float>>(block + (i + n) * kWidenedColumns + j);
        square[n] = act.forward(bias ? sum + b[n] : sum);
      }
      transpose(square);
      for (int64_t n = 0; n < at_most(kLanes, columns - j); ++n) store_some(c + (j + n) * c_row + i, square[n], count);
    }
  }
}

// A's block in float32: its rows as they lie, or, where the depth runs down its columns, the depth's rows.
template <class S> Strided<float> widen_group(Strided<S> a, int64_t rows, int64_t depth, float* to) {
  if (a.column == 1) {
    widen_rows(a.data, a.row, rows, depth, to, widened_row(depth));
    return {to, widened_row(depth), 1};
  }
  widen_rows(a.data, a.column, depth, rows, to, kWidenedGroup);
  return {to, 1, kWidenedGroup};
}

template <class S>
void widened_product(Strided<S> a, Strided<S> b, WidenedResult<S> c, int64_t rows, int64_t columns, int64_t depth,
                     float* workspace) {
  constexpr int64_t kLanes = Lanes<float>::kCount, kWidth = kTileColumns<float>;
  const int64_t deepest = at_most(depth, kDepthBlock);
  float *panel = workspace, *group = panel + deepest * kWidenedColumns,
        *sums = group + kWidenedGroup * widened_row(deepest);
  const bool one_block = depth <= kDepthBlock;
  const Inlined<Identity, float> keeps(kIdentity);
  with_activation<float>(c.activation, [&](const auto& act) {
    for (int64_t first = 0; first < rows; first += kWidenedRows)
      for (int64_t j = 0; j < columns; j += kWidenedColumns) {
        const int64_t last = at_most(rows, first + kWidenedRows), width = at_most(kWidenedColumns, columns - j);
        const int64_t padded = (width + kLanes - 1) / kLanes * kLanes;
        for (int64_t k = 0; k < depth || k == 0; k += kDepthBlock) {
          const int64_t deep = at_most(kDepthBlock, depth - k);
          for (int64_t n = 0; n < width; n += kWidth) {
            const S* block_of_b = b.data + k * b.row + (j + n) * b.column;
            if (b.column == 1)
              widen_rows(block_of_b, b.row, deep, at_most(kWidth, width - n), panel + n * deep, kWidth);
            else widen_transposed(block_of_b, b.column, deep, at_most(kWidth, width - n), panel + n * deep, kWidth);
          }
          for (int64_t r = first; r < last; r += kWidenedGroup) {
            const int64_t height = at_most(kWidenedGroup, last - r);
            const Strided<float> wide =
                widen_group<S>({a.data + r * a.row + k * a.column, a.row, a.column}, height, deep, group);
            float* block = sums + (one_block ? 0 : (r - first) * kWidenedColumns);
            for (int64_t n = 0; n < padded; n += kWidth)
              column_block<float, kFetchesPanels>(wide, panel + n * deep, kWidth, block + n, kWidenedColumns, height,
                                                  at_most(kWidth, padded - n), deep, k > 0);
            if (k + kDepthBlock < depth) continue;
            if (!c.transposed) {
              const int64_t at = r * c.row + j;
              round_rows(act, block, c.bias ? c.bias + j : nullptr, c.data + at, c.z ? c.z + at : nullptr, c.row,
                         height, width);
              continue;
            }
            const S* bias = c.bias ? c.bias + r : nullptr;
            const int64_t at = j * c.row + r;
            if (c.z) round_transposed(keeps, block, bias, c.z + at, c.row, height, width);
            round_transposed(act, block, bias, c.data + at, c.row, height, width);
          }
        }
      }
  });
}
