// Rows against rows as they lie, for few samples or few outputs, in any storage type: summed and activated in the type
// that it is computed with, rounded once. Part of kernels.inl.

// A tile's samples and outputs: its sums, one element of each row of x and one line of w fit in the registers.
#if FUSED_GAN_VECTOR_BYTES == 64
constexpr int kDotRows = 4, kDotColumns = 4;
#else
constexpr int kDotRows = 2, kDotColumns = 4;
#endif
// Rows that are read together where they are one tile's only ones. Rows often lie 4 KiB apart, and more of them than
// the first cache has ways evict each other.
constexpr int kDotStrip = 8;

template <class S> struct DotOperands {
  const S* x;
  int64_t x_row;
  const S* w;
  int64_t w_row;
  const S* bias;  // or null
  S* y;
  S* z;  // or null
  int64_t y_row, depth;

  FUSED_GAN_FUNCTION DotOperands at(int64_t s, int64_t n) const {
    const int64_t place = s * y_row + n;
    return {x + s * x_row,           x_row, w + n * w_row, w_row, bias ? bias + n : nullptr, y + place,
            z ? z + place : nullptr, y_row, depth};
  }
};

// Vectors that hold the sums of a tile of kRows samples × kColumns outputs.
template <class T, int kRows, int kColumns>
constexpr int kGroups = (kRows * kColumns + Lanes<T>::kCount - 1) / Lanes<T>::kCount;

// Called once a tile, and so not compiled into each of the many forms of a tile.
template <class T> __attribute__((noinline)) Vec<T> activated(const Activation& activation, Vec<T> z) {
  Vec<T> y = z;
  with_activation<T>(activation, [&](const auto& act) { y = act.forward(z); });
  return y;
}

// One tile; `bias` has a value for each of its sums. The last, partial vector is read from kLanes before the end, and
// what was read before is cleared.
template <class S, int kRows, int kColumns, class T = typename Storage<S>::Compute>
FUSED_GAN_FUNCTION void dot_tile(const Activation& activation, const DotOperands<S>& o,
                                 const Vec<T> (&bias)[kGroups<T, kRows, kColumns>]) {
  constexpr int64_t kLanes = Lanes<T>::kCount;
  constexpr int kSums = kRows * kColumns;
  Vec<T> sum[kGroups<T, kRows, kColumns> * kLanes] = {};
  const auto add = [&](auto load) __attribute__((always_inline)) {
    Vec<T> line[kColumns];
#pragma GCC unroll 16
    for (int j = 0; j < kColumns; ++j) line[j] = load(o.w + j * o.w_row);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vec<T> element = load(o.x + i * o.x_row);
#pragma GCC unroll 16
      for (int j = 0; j < kColumns; ++j) sum[i * kColumns + j] += element * line[j];
    }
  };
  const int64_t whole = o.depth - o.depth % kLanes;
  for (int64_t k = 0; k < whole; k += kLanes) add([&](const S* row) { return Storage<S>::load(row + k); });
  if (whole == 0) add([&](const S* row) { return load_some(row, o.depth); });
  else if (whole < o.depth)
    add([&](const S* row) {
      return clear_before<T>(whole + kLanes - o.depth, Storage<S>::load(row + o.depth - kLanes));
    });
#pragma GCC unroll 4
  for (int group = 0; group < kGroups<T, kRows, kColumns>; ++group) {
    Vec<T> rows[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = sum[group * kLanes + i];
    const Vec<T> z = sums_of_rows(rows) + bias[group];
    const bool side_by_side = kRows == 1 || (kColumns == 1 && o.y_row == 1);
    const int count = kSums - group * kLanes < kLanes ? kSums - group * kLanes : kLanes;
    const auto put = [&](S* to, Vec<T> sums) {
      if (side_by_side) return store_some(to + group * kLanes, sums, count);
      S values[kLanes];
      Storage<S>::store(values, sums);
      for (int i = 0; i < count; ++i) {
        const int64_t at = group * kLanes + i;
        to[at / kColumns * o.y_row + at % kColumns] = values[i];
      }
    };
    if (o.z) put(o.z, z);
    put(o.y, activated<T>(activation, z));
  }
}

// A rectangle of y in whole tiles of kRows × kColumns; its right and lower edge are left to the caller.
template <class S, int kRows, int kColumns>
void dots(const Activation& activation, const DotOperands<S>& o, int64_t samples, int64_t outputs) {
  using T = typename Storage<S>::Compute;
  constexpr int64_t kLanes = Lanes<T>::kCount;
  for (int64_t n = 0; n + kColumns <= outputs; n += kColumns) {
    Vec<T> bias[kGroups<T, kRows, kColumns>] = {};
    if (o.bias && samples >= kRows)
      for (int i = 0; i < kRows * kColumns; ++i)
        bias[i / kLanes][i % kLanes] = load_some(o.bias + n + i % kColumns, 1)[0];
    for (int64_t s = 0; s + kRows <= samples; s += kRows) dot_tile<S, kRows, kColumns>(activation, o.at(s, n), bias);
  }
}

template <class S>
void forward_dot(Activation activation, const S* x, int64_t x_row, const S* w, int64_t w_row, const S* bias, S* y, S* z,
                 int64_t y_row, int64_t samples, int64_t outputs, int64_t depth) {
  const DotOperands<S> all{x, x_row, w, w_row, bias, y, z, y_row, depth};
  // Squares first, then what is left below them and beside them: in strips and one by one.
  const int64_t s = samples - samples % kDotRows, n = outputs - outputs % kDotColumns;
  const int64_t s_strip = s - s % kDotStrip, n_strip = outputs - outputs % kDotStrip;
  dots<S, kDotRows, kDotColumns>(activation, all, s, n);
  dots<S, 1, kDotStrip>(activation, all.at(s, 0), samples - s, n_strip);
  dots<S, 1, 1>(activation, all.at(s, n_strip), samples - s, outputs - n_strip);
  dots<S, kDotStrip, 1>(activation, all.at(0, n), s_strip, outputs - n);
  dots<S, 1, 1>(activation, all.at(s_strip, n), s - s_strip, outputs - n);
}
