// Vectors of float or double on the compiler's vector extension (GCC and Clang, every architecture), and loads and
// stores in each storage type. Included once per instruction set, inside its namespace (isa.h), so that the same source
// becomes AVX-512, AVX2 or whatever the target has.
//
// No standard header's inline functions (the intrinsics, which always are inlined, apart) are used here or in
// kernels.inl: compiled for AVX-512 they could be the copy that the linker keeps for the whole library, and an older
// processor would stop on them.

template <class T> struct Lanes {
  static constexpr int kCount = FUSED_GAN_VECTOR_BYTES / sizeof(T);
};

template <class T> struct VectorOf;
template <> struct VectorOf<float> {
  typedef float type __attribute__((vector_size(FUSED_GAN_VECTOR_BYTES)));
  using integer = int32_t;
  typedef integer bits __attribute__((vector_size(FUSED_GAN_VECTOR_BYTES)));
  typedef uint16_t half_bits __attribute__((vector_size(FUSED_GAN_VECTOR_BYTES / 2)));
};
template <> struct VectorOf<double> {
  typedef double type __attribute__((vector_size(FUSED_GAN_VECTOR_BYTES)));
  using integer = int64_t;
  typedef integer bits __attribute__((vector_size(FUSED_GAN_VECTOR_BYTES)));
};
template <class T> using Vec = typename VectorOf<T>::type;
template <class T> using VecBits = typename VectorOf<T>::bits;

template <class V, class P> FUSED_GAN_FUNCTION V load_as(const P* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof(V));
  return v;
}
template <class V, class P> FUSED_GAN_FUNCTION void store_as(P* to, V v) { __builtin_memcpy(to, &v, sizeof(V)); }
template <class V, class P> FUSED_GAN_FUNCTION V bit_cast(P p) {
  static_assert(sizeof(V) == sizeof(P));
  V v;
  __builtin_memcpy(&v, &p, sizeof(V));
  return v;
}
// Adding to -0 keeps every value, -0 itself too.
template <class T> FUSED_GAN_FUNCTION Vec<T> broadcast(T value) { return value + -Vec<T>{}; }
template <class V> FUSED_GAN_FUNCTION V select(decltype(V{} < V{}) mask, V yes, V no) { return mask ? yes : no; }

template <class T> FUSED_GAN_FUNCTION VecBits<T> lane_numbers() {
  VecBits<T> lane;
  for (int i = 0; i < Lanes<T>::kCount; ++i) lane[i] = i;
  return lane;
}
// v with zeros behind the first `count` lanes, and before lane `first`.
template <class T> FUSED_GAN_FUNCTION Vec<T> keep_first(int64_t count, Vec<T> v) {
  return select<Vec<T>>(lane_numbers<T>() < typename VectorOf<T>::integer(count), v, Vec<T>{});
}
template <class T> FUSED_GAN_FUNCTION Vec<T> clear_before(int64_t first, Vec<T> v) {
  return select<Vec<T>>(lane_numbers<T>() >= typename VectorOf<T>::integer(first), v, Vec<T>{});
}

#ifdef FUSED_GAN_AVX512
// The lanes whose bit is set; the others are zero, and memory behind them is not touched.
FUSED_GAN_FUNCTION VectorOf<float>::half_bits masked_load(const uint16_t* from, uint32_t lanes) {
  return (VectorOf<float>::half_bits)_mm256_maskz_loadu_epi16(__mmask16(lanes), from);
}
FUSED_GAN_FUNCTION void masked_store(uint16_t* to, VectorOf<float>::half_bits v, uint32_t lanes) {
  _mm256_mask_storeu_epi16(to, __mmask16(lanes), (__m256i)v);
}
FUSED_GAN_FUNCTION Vec<float> masked_load(const float* from, uint32_t lanes) {
  return _mm512_maskz_loadu_ps(__mmask16(lanes), from);
}
FUSED_GAN_FUNCTION Vec<double> masked_load(const double* from, uint32_t lanes) {
  return _mm512_maskz_loadu_pd(__mmask8(lanes), from);
}
FUSED_GAN_FUNCTION void masked_store(float* to, Vec<float> v, uint32_t lanes) {
  _mm512_mask_storeu_ps(to, __mmask16(lanes), v);
}
FUSED_GAN_FUNCTION void masked_store(double* to, Vec<double> v, uint32_t lanes) {
  _mm512_mask_storeu_pd(to, __mmask8(lanes), v);
}
#endif

// ---- storage types: what lies in memory, and the type that is computed with ----
template <class S> struct Storage {  // float and double: themselves
  using Compute = S;
  FUSED_GAN_FUNCTION static Vec<S> load(const S* from) { return load_as<Vec<S>>(from); }
  FUSED_GAN_FUNCTION static void store(S* to, Vec<S> v) { store_as(to, v); }
};

template <> struct Storage<BFloat16> {  // the upper half of a float
  using Compute = float;
  using Half = VectorOf<float>::half_bits;
  FUSED_GAN_FUNCTION static Vec<float> widened(Half half) {
    return bit_cast<Vec<float>>(__builtin_convertvector(half, VecBits<float>) << 16);
  }
  FUSED_GAN_FUNCTION static Vec<float> load(const BFloat16* from) { return widened(load_as<Half>(from)); }
  FUSED_GAN_FUNCTION static Half rounded(Vec<float> v) {  // to nearest, ties to even
    const VecBits<float> bits = bit_cast<VecBits<float>>(v);
    const VecBits<float> upper = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return __builtin_convertvector(v == v ? upper : VecBits<float>{} + 0x7fc0, Half);
  }
  FUSED_GAN_FUNCTION static void store(BFloat16* to, Vec<float> v) { store_as(to, rounded(v)); }
};

template <> struct Storage<Float16> {
  using Compute = float;
  using Half = VectorOf<float>::half_bits;
  using Bits = VecBits<float>;
  FUSED_GAN_FUNCTION static Vec<float> load(const Float16* from) { return widened(load_as<Half>(from)); }
  FUSED_GAN_FUNCTION static void store(Float16* to, Vec<float> v) { store_as(to, rounded(v)); }
#ifdef FUSED_GAN_AVX512
  // The instructions keep half's denormals whatever the processor was told about float's.
  FUSED_GAN_FUNCTION static Vec<float> widened(Half half) { return _mm512_cvtph_ps((__m256i)half); }
  FUSED_GAN_FUNCTION static Half rounded(Vec<float> v) { return (Half)_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT); }
#else
  FUSED_GAN_FUNCTION static Vec<float> widened(Half from) {
    const Bits half = __builtin_convertvector(from, Bits);
    // Exponent and mantissa at float's places. A denormal is given the exponent of 2^-14, which is then taken off: no
    // float on the way is denormal, which a processor told to flush those would lose.
    const Bits aligned = (half & 0x7fff) << 13;
    const Bits denormal = bit_cast<Bits>(bit_cast<Vec<float>>(aligned | 0x38800000) - 0x1p-14f);
    const Bits value = aligned < 0x00800000 ? denormal : aligned + (112 << 23);
    const Bits magnitude = aligned >= 0x0f800000 ? (value | 0x7f800000) : value;  // Inf and NaN keep the top exponent
    return bit_cast<Vec<float>>(magnitude | ((half & 0x8000) << 16));
  }
  FUSED_GAN_FUNCTION static Half rounded(Vec<float> v) {
    const Bits bits = bit_cast<Bits>(v), magnitude = bits & 0x7fffffff;
    const Vec<float> absolute = bit_cast<Vec<float>>(magnitude);
    const Bits normal = (magnitude - (112 << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;  // to nearest, ties to even
    const Bits denormal = bit_cast<Bits>(absolute + 0.5f) - 0x3f000000;  // 0.5 has the last place of half's denormals
    Bits half = magnitude < (113 << 23) ? denormal : normal;
    half = absolute >= broadcast(65520.f) ? Bits{} + 0x7c00 : half;  // from here on rounds to infinity
    half = v == v ? half : Bits{} + 0x7e00;
    return __builtin_convertvector(half | ((bits >> 16) & 0x8000), Half);
  }
#endif
};

// ---- tails: at most as many elements as a vector has lanes ----
template <class S> FUSED_GAN_FUNCTION Vec<typename Storage<S>::Compute> load_some(const S* from, int64_t count) {
  constexpr int64_t kLanes = Lanes<typename Storage<S>::Compute>::kCount;
  if (count == kLanes) return Storage<S>::load(from);
#ifdef FUSED_GAN_AVX512
  if constexpr (sizeof(S) >= 4) return masked_load(from, (1u << count) - 1);
  else return Storage<S>::widened(masked_load(reinterpret_cast<const uint16_t*>(from), (1u << count) - 1));
#endif
  S buffer[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = from[i];
  return Storage<S>::load(buffer);
}
template <class S> FUSED_GAN_FUNCTION void store_some(S* to, Vec<typename Storage<S>::Compute> v, int64_t count) {
  constexpr int64_t kLanes = Lanes<typename Storage<S>::Compute>::kCount;
  if (count == kLanes) return Storage<S>::store(to, v);
#ifdef FUSED_GAN_AVX512
  if constexpr (sizeof(S) >= 4) return masked_store(to, v, (1u << count) - 1);
  else return masked_store(reinterpret_cast<uint16_t*>(to), Storage<S>::rounded(v), (1u << count) - 1);
#endif
  S buffer[kLanes];
  Storage<S>::store(buffer, v);
  for (int64_t i = 0; i < count; ++i) to[i] = buffer[i];
}

// ---- a square of vectors, rows to columns ----
// log2(n) rounds; a round exchanges, between rows i and i + step, the halves of every 2·step lanes.
template <int kStep, class V, size_t... kLane>
FUSED_GAN_FUNCTION void exchange(V& a, V& b, std::index_sequence<kLane...>) {
  constexpr int kCount = sizeof...(kLane);
  const V low = __builtin_shufflevector(a, b, (kLane & kStep ? kLane - kStep + kCount : kLane)...);
  b = __builtin_shufflevector(a, b, (kLane & kStep ? kLane + kCount : kLane + kStep)...);
  a = low;
}
template <int kStep, int kCount, class V> FUSED_GAN_FUNCTION void transpose_from(V (&rows)[kCount]) {
#pragma GCC unroll 16
  for (int i = 0; i < kCount; ++i)
    if (!(i & kStep)) exchange<kStep>(rows[i], rows[i + kStep], std::make_index_sequence<kCount>{});
  if constexpr (kStep * 2 < kCount) transpose_from<kStep * 2>(rows);
}
template <int kCount, class V> FUSED_GAN_FUNCTION void transpose(V (&rows)[kCount]) { transpose_from<1>(rows); }

// The sum of each row's lanes, as one vector: lane i is row i's. The same rounds, halving the rows in each.
template <int kStep = 1, int kCount, class V> FUSED_GAN_FUNCTION V sums_of_rows(V (&rows)[kCount]) {
#pragma GCC unroll 16
  for (int i = 0; i < kCount; i += 2 * kStep) {
    exchange<kStep>(rows[i], rows[i + kStep], std::make_index_sequence<kCount>{});
    rows[i] += rows[i + kStep];
  }
  if constexpr (kStep * 2 < kCount) return sums_of_rows<kStep * 2>(rows);
  else return rows[0];
}

// ---- sums down the rows ----
// Floats are summed in double. Doubles are summed in blocks of 16, and then the blocks: so the error grows with the
// number of blocks, not of rows.
// (Compensated summation would turn infinities into NaN.)
template <class T> struct Sum;
template <> struct Sum<float> {
  typedef double Wide __attribute__((vector_size(2 * FUSED_GAN_VECTOR_BYTES)));
  Wide total = {};
  FUSED_GAN_FUNCTION void add(Vec<float> v, int64_t) { total += __builtin_convertvector(v, Wide); }
  FUSED_GAN_FUNCTION Vec<float> value() const { return __builtin_convertvector(total, Vec<float>); }
  FUSED_GAN_FUNCTION float of_lanes() const {
    double sum = 0;
    for (int i = 0; i < Lanes<float>::kCount; ++i) sum += total[i];
    return float(sum);
  }
};
template <> struct Sum<double> {
  Vec<double> block = {}, total = {};
  FUSED_GAN_FUNCTION void add(Vec<double> v, int64_t row) {
    block += v;
    if (row % 16 == 15) {
      total += block;
      block = Vec<double>{};
    }
  }
  FUSED_GAN_FUNCTION Vec<double> value() const { return total + block; }
  FUSED_GAN_FUNCTION double of_lanes() const {
    double sum = 0;
    for (int i = 0; i < Lanes<double>::kCount; ++i) sum += value()[i];
    return sum;
  }
};
