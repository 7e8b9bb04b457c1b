// The passes over single elements: the activation, and the gradient pass, which multiplies by the activation's
// derivative and sums the columns for the bias. Part of kernels.inl.

template <class S> void activate(Activation activation, const S* z, S* y, int64_t count) {
  using T = typename Storage<S>::Compute;
  constexpr int64_t kLanes = Lanes<T>::kCount;
  with_activation<T>(activation, [&](auto act) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) Storage<S>::store(y + i, act.forward(Storage<S>::load(z + i)));
    if (i < count) store_some(y + i, act.forward(load_some(z + i, count - i)), count - i);
  });
}

// A strip of at most kGradientVectors vectors of columns, row by row as they lie: a narrower one, whose sums would stay
// in registers, jumps to another page with every row, where the processor fetches nothing ahead. kSums: bias_gradient
// is not null.
constexpr int kGradientVectors = 32;
template <class S, class Act, bool kSums>
FUSED_GAN_FUNCTION void gradient_strip(const Act& act, const S* dy, int64_t dy_row, const S* kept, int64_t kept_row,
                                       S* dz, int64_t dz_row, S* bias_gradient, int64_t rows, int64_t columns) {
  using T = typename Storage<S>::Compute;
  constexpr int64_t kLanes = Lanes<T>::kCount;
  Sum<T> sums[kGradientVectors];
  for (int64_t r = 0; r < rows; ++r) {
    const auto at = [&](int64_t j, int64_t count) __attribute__((always_inline)) {
      const Vec<T> upper = load_some(dy + r * dy_row + j, count);
      const Vec<T> value = act.gradient(upper, kept ? load_some(kept + r * kept_row + j, count) : upper);
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
void gradient_column(const Act& act, const S* dy, const S* kept, S* dz, S* bias_gradient, int64_t rows) {
  using T = typename Storage<S>::Compute;
  constexpr int64_t kLanes = Lanes<T>::kCount;
  Sum<T> sum;
  for (int64_t r = 0; r < rows; r += kLanes) {
    const int64_t count = at_most(kLanes, rows - r);
    const Vec<T> upper = load_some(dy + r, count);
    const Vec<T> value = act.gradient(upper, kept ? load_some(kept + r, count) : upper);
    sum.add(count == kLanes ? value : keep_first<T>(count, value), r / kLanes);
    if (dz) store_some(dz + r, value, count);
  }
  if (bias_gradient) store_some(bias_gradient, broadcast(sum.of_lanes()), 1);
}

template <class S>
void gradient(Activation activation, const S* dy, int64_t dy_row, const S* kept, int64_t kept_row, S* dz,
              int64_t dz_row, S* bias_gradient, int64_t rows, int64_t columns) {
  using T = typename Storage<S>::Compute;
  constexpr int64_t kLanes = Lanes<T>::kCount;
  const bool dense_column = columns == 1 && dy_row == 1 && (!kept || kept_row == 1) && (!dz || dz_row == 1);
  with_activation<T>(activation, [&](auto act) {
    if (dense_column) return gradient_column<S>(act, dy, kept, dz, bias_gradient, rows);
    constexpr int64_t kStrip = kGradientVectors * kLanes;
    for (int64_t j = 0; j < columns; j += kStrip) {
      const int64_t width = at_most(kStrip, columns - j);
      const S* from = kept ? kept + j : nullptr;
      S* to = dz ? dz + j : nullptr;
      if (bias_gradient)
        gradient_strip<S, decltype(act), true>(act, dy + j, dy_row, from, kept_row, to, dz_row, bias_gradient + j, rows,
                                               width);
      else
        gradient_strip<S, decltype(act), false>(act, dy + j, dy_row, from, kept_row, to, dz_row, nullptr, rows, width);
    }
  });
}

template <class T>
void product_gradient(Activation activation, Strided<T> a, const T* b, int64_t b_row, const T* kept, int64_t kept_row,
                      T* dz, int64_t dz_row, T* bias_gradient, int64_t rows, int64_t columns, int64_t depth,
                      const Reading& reading, T* workspace) {
  const auto finish = [&](int64_t j, int64_t width) {
    gradient<T>(activation, dz + j, dz_row, kept ? kept + j : nullptr, kept_row, dz + j, dz_row,
                bias_gradient ? bias_gradient + j : nullptr, rows, width);
  };
  product_then<T>(a, b, b_row, dz, dz_row, rows, columns, depth, reading, workspace, finish);
}
