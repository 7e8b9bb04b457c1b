// A layer's forward in blocks: for few samples yᵀ = W xᵀ with the batch packed, for many y = x Wᵀ with W packed. Bias
// and activation are applied to each block while it is in the first cache. Part of kernels.inl.

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
  for (int64_t s = 0; s < kTileColumns<T>; s += kLanes)
    for (int64_t k = first; k < last; k += kLanes)
      transpose_some(x + s * x_row + k, x_row, at_most(kLanes, samples - s), at_most(kLanes, last - k),
                     panel + k * kTileColumns<T> + s, kTileColumns<T>, kLanes);
}

// to[s][n] = block[n][s]
template <class T> void transpose_block(const T* block, T* to, int64_t to_row, int64_t outputs, int64_t samples) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  for (int64_t n = 0; n < outputs; n += kLanes)
    for (int64_t s = 0; s < samples; s += kLanes)
      transpose_some(block + n * kTileColumns<T> + s, kTileColumns<T>, at_most(kLanes, outputs - n),
                     at_most(kLanes, samples - s), to + s * to_row + n, to_row, at_most(kLanes, outputs - n));
}

// block[n][s] with its bias goes to z[s][n]; activated, to y[s][n] and to next[n][s]. Each of them may be null.
template <class T, class Act>
void finish(const Act& act, T* block, const T* bias, T* y, T* z, int64_t y_row, T* next, int64_t outputs,
            int64_t samples) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  const auto on_vectors = [&](const auto& f) __attribute__((always_inline)) {
    for (int64_t n = 0; n < outputs; ++n)
      for (int64_t s = 0; s < samples; s += kLanes) f(block + n * kTileColumns<T> + s, n, s);
  };
  if (z) {
    if (bias) on_vectors([&](T* at, int64_t n, int64_t) { store_as(at, load_as<Vec<T>>(at) + bias[n]); });
    bias = nullptr;
    transpose_block(block, z, y_row, outputs, samples);
  }
  on_vectors([&](T* at, int64_t n, int64_t s) {
    const Vec<T> sum = load_as<Vec<T>>(at), value = act.forward(bias ? sum + bias[n] : sum);
    store_as(at, value);
    if (next) store_as(next + n * kTileColumns<T> + s, value);
  });
  if (y) transpose_block(block, y, y_row, outputs, samples);
}

template <class T>
void forward(Activation activation, Strided<T> w, const T* panel, const T* bias, T* y, T* z, int64_t y_row, T* next,
             int64_t outputs, int64_t samples, int64_t depth) {
  constexpr int64_t kWidth = kTileColumns<T>;
  const int64_t columns = (samples + Lanes<T>::kCount - 1) / Lanes<T>::kCount * Lanes<T>::kCount;
  alignas(64) T block[kRowBlock * kWidth];
  with_activation<T>(activation, [&](const auto& act) {
    for (int64_t n = 0; n < outputs; n += kRowBlock) {
      const int64_t height = at_most(kRowBlock, outputs - n);
      if (depth == 0)
        for (int64_t i = 0; i < height * kWidth; ++i) block[i] = T(0);
      for (int64_t k = 0; k < depth; k += kDepthBlock)
        column_block<T, kFetchesPanels>({w.data + n * w.row + k * w.column, w.row, w.column}, panel + k * kWidth,
                                        kWidth, block, kWidth, height, columns, at_most(kDepthBlock, depth - k), k > 0);
      finish(act, block, bias ? bias + n : nullptr, y ? y + n : nullptr, z ? z + n : nullptr, y_row,
             next ? next + n * kWidth : nullptr, height, samples);
    }
  });
}

// ---- forward for many samples: y = x Wᵀ, W packed, each tile of y finished in the first cache ----
// y = act(z), z = x · panel + bias for one panel of W.
template <class T, class Act>
void forward_panel(const Act& act, const T* x, int64_t x_row, const T* panel, const T* bias, T* y, T* z, int64_t y_row,
                   int64_t samples, int64_t outputs, int64_t depth) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  for (int64_t k = 0; k < depth; k += kDepthBlock) {
    const bool last = k + kDepthBlock >= depth;
    const auto finish_tile = [&](int64_t r, int64_t height) __attribute__((always_inline)) {
      if (!last) return;
      for (int64_t n = 0; n < outputs; n += kLanes) {
        const int64_t count = at_most(kLanes, outputs - n);
        const Vec<T> b = bias ? load_some(bias + n, count) : Vec<T>{};
        for (int64_t i = 0; i < height; ++i) {
          const int64_t at = (r + i) * y_row + n;
          const Vec<T> sum = load_some(y + at, count) + b;
          if (z) store_some(z + at, sum, count);
          store_some(y + at, act.forward(sum), count);
        }
      }
    };
    column_block<T, kFetchesPanels>({x + k, x_row, 1}, panel + k * kTileColumns<T>, kTileColumns<T>, y, y_row, samples,
                                    outputs, at_most(kDepthBlock, depth - k), k > 0, finish_tile);
  }
}

template <class T>
void forward_rows(Activation activation, const T* x, int64_t x_row, const T* w, int64_t w_row, const T* bias, T* y,
                  T* z, int64_t y_row, int64_t samples, int64_t outputs, int64_t depth, T* workspace) {
  const int64_t wide = outputs_at_a_time<T>(depth), high = rows_at_a_time<T>(depth);
  with_activation<T>(activation, [&](const auto& act) {
    for (int64_t left = 0; left < outputs; left += wide) {
      const int64_t right = at_most(outputs, left + wide);
      const auto panel = [&](int64_t j) { return workspace + (j - left) * depth; };
      const auto width = [&](int64_t j) { return at_most(kTileColumns<T>, right - j); };
      for (int64_t j = left; j < right; j += kTileColumns<T>)
        pack<T>(w + j * w_row, w_row, width(j), 0, depth, panel(j));
      for (int64_t r = 0; r < samples; r += high)
        for (int64_t j = left; j < right; j += kTileColumns<T>)
          forward_panel(act, x + r * x_row, x_row, panel(j), bias ? bias + j : nullptr, y + r * y_row + j,
                        z ? z + r * y_row + j : nullptr, y_row, at_most(high, samples - r), width(j), depth);
    }
  });
}
