// e^x, e^x - 1, sigmoid, tanh, ln(1 + x) and the normal distribution on the vectors of vec.h, which is included before
// this file.

// c[0] + c[1] x + …, by Horner's rule.
template <class T, int kCount> FUSED_GAN_FUNCTION Vec<T> polynomial(Vec<T> x, const T (&c)[kCount]) {
  Vec<T> sum = broadcast(c[kCount - 1]);
#pragma GCC unroll 32
  for (int k = kCount - 2; k >= 0; --k) sum = sum * x + c[k];
  return sum;
}

template <class T> struct ExpConstants;
template <> struct ExpConstants<float> {
  static constexpr int kTerms = 7;                          // |r| ≤ ln2/2: the next Taylor term is below 6e-9
  static constexpr float kLn2High = 0x1.62e4p-1f;           // 16 bits, so that n · kLn2High is exact
  static constexpr float kLn2Low = 0x1.7f7d1cf79abcap-20f;  // the rest of ln 2
  static constexpr float kRound = 0x1.8p23f;  // adding it rounds to an integer, to be read in the low bits
  static constexpr int kMantissa = 23, kBias = 127;
  // Where results have reached their limits, so that larger arguments may be taken as these:
  static constexpr float kZero = -104;     // e^x rounds to 0, below half of the smallest denormal
  static constexpr float kNormal = -87;    // e^x is not denormal yet
  static constexpr float kMinusOne = -18;  // e^x - 1 rounds to -1
  static constexpr float kInfinite = 89;   // above the largest number, but e^x / 2 is not
  static constexpr float kHighest = 100;   // infinite with room to spare
};
template <> struct ExpConstants<double> {
  static constexpr int kTerms = 13;
  static constexpr double kLn2High = 0x1.62e42fefa38p-1;
  static constexpr double kLn2Low = 0x1.ef35793c7673p-45;
  static constexpr double kRound = 0x1.8p52;
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kZero = -746, kNormal = -708, kMinusOne = -38, kInfinite = 710, kHighest = 720;
};

template <class T> FUSED_GAN_FUNCTION Vec<T> between(T low, Vec<T> x, T high) {
  return clamped(x, broadcast(low), broadcast(high));
}

template <class T> FUSED_GAN_FUNCTION Vec<T> power_of_two(VecBits<T> n) {
  return bit_cast<Vec<T>>((n + ExpConstants<T>::kBias) << ExpConstants<T>::kMantissa);
}
// v · 2^n, in two factors: the result may be infinite or denormal, and is rounded once.
template <class T> FUSED_GAN_FUNCTION Vec<T> times_power_of_two(Vec<T> v, VecBits<T> n) {
  const VecBits<T> half = n >> 1;
  return v * power_of_two<T>(half) * power_of_two<T>(n - half);
}

template <class T> constexpr T inverse_factorial(int k) { return k < 2 ? T(1) : inverse_factorial<T>(k - 1) / k; }
// 1 / k! for k = 2, 3, …, as an array of constants: a call in an unrolled loop may be left to run time,
// which made double's tanh six times slower.
template <class T, class = std::make_integer_sequence<int, ExpConstants<T>::kTerms - 1>> struct ExpSeries;
template <class T, int... k> struct ExpSeries<T, std::integer_sequence<int, k...>> {
  static constexpr T kSeries[] = {inverse_factorial<T>(k + 2)...};
};

// The parts of e^(x+more) = 2^n · (1 + head + rest), |more| tiny: x + more = n ln2 + r, |r| ≤ ln2/2, head + rest = e^r
// - 1 with full relative precision. head = x - n · kLn2High is exact, and rest is small, so that sums with one after
// the other round little.
template <class T> struct ExpParts {
  VecBits<T> n;
  Vec<T> head, rest;
};
template <class T> FUSED_GAN_FUNCTION ExpParts<T> exp_parts(Vec<T> x, Vec<T> more = Vec<T>{}) {
  using C = ExpConstants<T>;
  const Vec<T> shifted = x * T(0x1.71547652b82fep0) + C::kRound;  // log2(e)
  const Vec<T> n = shifted - C::kRound;
  const Vec<T> head = x - n * C::kLn2High, low = more - n * C::kLn2Low, r = head + low;
  const Vec<T> sum = polynomial<T>(r, ExpSeries<T>::kSeries);
  return {bit_cast<VecBits<T>>(shifted) - bit_cast<VecBits<T>>(broadcast(C::kRound)), head, sum * (r * r) + low};
}

template <class T> FUSED_GAN_FUNCTION Vec<T> exp_of(Vec<T> x) {
  const ExpParts<T> e = exp_parts<T>(between<T>(ExpConstants<T>::kZero, x, ExpConstants<T>::kHighest));
  return times_power_of_two<T>(1 + (e.head + e.rest), e.n);
}

// e^x - 1 = 2^(n-1) · ((2 - 2^(1-n) + 2 head) + 2 rest). The inner sum is exact for n = 0, where it is 2x, and for
// n = 1, where the most cancels. 2^n itself would be infinite for the largest x.
template <class T> FUSED_GAN_FUNCTION Vec<T> expm1_of(Vec<T> x) {
  const VecBits<T> sign = bit_cast<VecBits<T>>(x) & bit_cast<VecBits<T>>(-Vec<T>{});
  const ExpParts<T> e = exp_parts<T>(between<T>(ExpConstants<T>::kMinusOne, x, ExpConstants<T>::kInfinite));
  const VecBits<T> n = e.n - 1;
  const Vec<T> tail = ((2 - power_of_two<T>(-n)) + 2 * e.head) + 2 * e.rest;
  return bit_cast<Vec<T>>(bit_cast<VecBits<T>>(tail * power_of_two<T>(n)) | sign);  // only -0 lacks its sign
}

// The same with e^r - 1 as one number, rounded as tanh and sigmoid have always had it: another rounding of r would
// change the last bits of runs that are resumed.
template <class T> struct ExpPieces {
  VecBits<T> n;
  Vec<T> tail;
};
template <class T> FUSED_GAN_FUNCTION ExpPieces<T> exp_pieces(Vec<T> x) {
  using C = ExpConstants<T>;
  const Vec<T> shifted = x * T(0x1.71547652b82fep0) + C::kRound;  // log2(e)
  const Vec<T> n = shifted - C::kRound;
  const Vec<T> r = (x - n * C::kLn2High) - n * C::kLn2Low;
  return {bit_cast<VecBits<T>>(shifted) - bit_cast<VecBits<T>>(broadcast(C::kRound)),
          polynomial<T>(r, ExpSeries<T>::kSeries) * (r * r) + r};
}

// 1 / (1 + e^-z). In two factors the power of two passes the largest exponent and ends in infinity, thus in 0.
template <class T> FUSED_GAN_FUNCTION Vec<T> sigmoid_of(Vec<T> z) {
  const ExpPieces<T> e = exp_pieces<T>(between<T>(ExpConstants<T>::kNormal, -z, ExpConstants<T>::kHighest));
  return 1 / (1 + times_power_of_two<T>(1 + e.tail, e.n));
}

// tanh of x = |z|, each branch as base - base · numerator / denominator, so that one division serves both:
//     x < 0.9     x - x u / (u + c), u = x², c = 3 + u / (5 + u / (7 + …)), Lambert's continued fraction, evaluated
//                 from its end as a fraction n / d; at most a quarter of x comes off, so its rounding hardly shows
//     otherwise   1 - 2 / (e^2x + 1)
template <class T> FUSED_GAN_FUNCTION Vec<T> tanh_of(Vec<T> z) {
  constexpr T kOne = 22;  // from here on tanh is 1 in float and in double
  const VecBits<T> sign = bit_cast<VecBits<T>>(z) & bit_cast<VecBits<T>>(-Vec<T>{});
  Vec<T> x = bit_cast<Vec<T>>(bit_cast<VecBits<T>>(z) ^ sign);
  x = select<Vec<T>>(x > kOne, broadcast(kOne), x);

  const Vec<T> u = x * x;
  constexpr int kLast = sizeof(T) == sizeof(float) ? 13 : 23;  // of the continued fraction
  Vec<T> n = broadcast(T(kLast)), d = broadcast(T(1));
#pragma GCC unroll 16
  for (int k = kLast - 2; k >= 3; k -= 2) {
    const Vec<T> next = T(k) * n + u * d;
    d = n;
    n = next;
  }
  const ExpPieces<T> e = exp_pieces<T>(x + x);
  const Vec<T> power = power_of_two<T>(e.n);

  const auto small = x < T(0.9);
  const Vec<T> base = select<Vec<T>>(small, x, broadcast(T(1)));
  const Vec<T> numerator = select<Vec<T>>(small, u * d, broadcast(T(2)));
  const Vec<T> denominator = select<Vec<T>>(small, n + u * d, power * e.tail + (power + 1));
  return bit_cast<Vec<T>>(bit_cast<VecBits<T>>(base - base * (numerator / denominator)) | sign);
}

// (x - ln(1 + x)) / x² for 0 ≤ x ≤ 1 as a polynomial in x - 1/2: minimax, by Remez's exchange at 45 digits, of the
// error relative to ln(1 + x), which is below 7e-9 in float and 1.4e-17 in double before the coefficients were rounded.
template <class T> struct Log1pConstants;
template <> struct Log1pConstants<float> {
  static constexpr float kSeries[] = {0x1.833704p-2f,  -0x1.6f0d6ep-3f, 0x1.7de0e2p-4f,
                                      -0x1.a28d34p-5f, 0x1.d99792p-6f,  -0x1.10161ap-6f,
                                      0x1.4ba808p-7f,  -0x1.d2006ep-8f, 0x1.d66a68p-9f};
};
template <> struct Log1pConstants<double> {
  static constexpr double kSeries[] = {
      0x1.833704d019edp-2,   -0x1.6f0d7bd624bf4p-3,  0x1.7ddf1fe86ad59p-4,  -0x1.a279c04c76f4p-5,
      0x1.da3482484be32p-6,  -0x1.131116fcb6172p-6,  0x1.44ba45f2e0052p-7,  -0x1.84904ea5f3374p-8,
      0x1.d5fae79c5795bp-9,  -0x1.1ebd42d390b3p-9,   0x1.60771bee49bf7p-10, -0x1.b3deac80327p-11,
      0x1.0ebdb73870e42p-11, -0x1.53062031ca44p-12,  0x1.af117c01f2185p-13, -0x1.08d75bf9afe27p-13,
      0x1.2315a65c01926p-14, -0x1.a6b23f30b7ed7p-15, 0x1.bb8c1d8da5c23p-15, -0x1.d5192cd0423a9p-16};
};

// ln(1 + x) for 0 ≤ x ≤ 1 only. At most half of x is subtracted, so that what rounds there hardly shows.
template <class T> FUSED_GAN_FUNCTION Vec<T> log1p_of(Vec<T> x) {
  return x - x * x * polynomial<T>(x - T(0.5), Log1pConstants<T>::kSeries);
}

// The normal distribution's left tail is Φ(-a) = e^(-a²/2) · M(a), a ≥ 0, where M falls slowly from 1/2 and in the end
// as 1 / (a √(2π)). M(a) = (1 - u) · P(2u - 3/4) with u = a / (a + kCentre), which brings 0 ≤ a < ∞ to 0 ≤ u < 1. The
// polynomial P, kMiddle its constant term and kSeries the others, is minimax in the relative error for 0 ≤ a ≤ kLast,
// by Remez's exchange at 45 digits: 4.0e-9 in float and 6.8e-18 in double, with rounded coefficients 1.1e-8 and
// 8.7e-17, the latter near kLast. kCentre is where, among the 64ths near the least error, rounding the coefficients
// lost least. P's variable would be centred with 1 in place of 3/4. But so it is below 1/2 from a = kCentre / 7 on and
// rounds half as much there, where Φ(-a) falls below 1/4 and with it the size of its last place.
template <class T> struct NormalConstants;
template <> struct NormalConstants<float> {
  static constexpr float kCentre = 4.140625f;
  static constexpr float kLast = 14.5f;      // from here on Φ(-a) and the density round to 0
  static constexpr int32_t kUpper = ~0xfff;  // the bits of a number that has an exact square
  static constexpr float kMiddle = 0x1.d175fep-3f;
  static constexpr float kSeries[] = {-0x1.ab444cp-3f, 0x1.2366ccp-3f,   -0x1.1c90b6p-4f,
                                      0x1.5d5e26p-6f,  -0x1.f157bep-10f, -0x1.662ee2p-10f,
                                      0x1.bd3912p-12f, 0x1.5df738p-14f,  -0x1.90cad2p-15f};
};
template <> struct NormalConstants<double> {
  static constexpr double kCentre = 5.484375;
  static constexpr double kLast = 38.75;
  static constexpr int64_t kUpper = ~0x7ffffff;
  static constexpr double kMiddle = 0x1.6fc6f6689b1e4p-3;
  static constexpr double kSeries[] = {-0x1.82fac43219bcfp-3,  0x1.539eb5d89803cp-3,   -0x1.f0d96cdaa00ccp-4,
                                       0x1.2b9a3daf6160ap-4,   -0x1.2215a61dac36ep-5,  0x1.a9116ab587dfap-7,
                                       -0x1.8ef64978e6a2ap-9,  0x1.b50687c1f89d3p-14,  0x1.daa4ba17554e8p-13,
                                       -0x1.2329c0f0cd66p-14,  -0x1.c7e77b83a28c3p-18, 0x1.197977e1f1e36p-17,
                                       -0x1.ec7b888ec5b93p-22, -0x1.e4b6e912c456p-21,  0x1.0909f4dd6c464p-23,
                                       0x1.c3c479e4addbbp-24,  -0x1.3e9fd2bcc000bp-26, -0x1.d43024d27f54fp-27,
                                       0x1.841d72386c511p-29,  0x1.9fc60f95e0501p-30,  -0x1.fb2ceaa3e3b17p-32};
};

// Φ(z) and φ(z) = e^(-z²/2) / √(2π) of the standard normal distribution.
template <class T> FUSED_GAN_FUNCTION Normal<Vec<T>> normal_of(Vec<T> z) {
  using C = NormalConstants<T>;
  Vec<T> a = bit_cast<Vec<T>>(bit_cast<VecBits<T>>(z) & ~bit_cast<VecBits<T>>(-Vec<T>{}));
  a = select<Vec<T>>(a > C::kLast, broadcast(C::kLast), a);

  // a² = square + error: far out in the tail, what the square lost to rounding would be many last places of e^(-a²/2).
  const Vec<T> square = a * a;
  const Vec<T> upper = bit_cast<Vec<T>>(bit_cast<VecBits<T>>(a) & C::kUpper);
  const Vec<T> error = (upper * upper - square) + (a - upper) * (a + upper);
  const ExpParts<T> e = exp_parts<T>(square * T(-0.5), error * T(-0.5));
  const Vec<T> tail = e.head + e.rest;

  // P = c + v q, and M · (1 + tail) = v q + (c - P u + M · tail): what is summed in the bracket is small about 0, where
  // the last place counts, and so is what rounds there.
  const Vec<T> u = a / (a + C::kCentre), v = u + u - T(0.75);
  const Vec<T> q = polynomial<T>(v, C::kSeries);
  const Vec<T> p = v * q + C::kMiddle;
  const Vec<T> rest = C::kMiddle - p * u;
  const Vec<T> mills = v * q + rest;
  const Vec<T> left = times_power_of_two<T>(v * q + (rest + mills * tail), e.n);
  constexpr T kDensity = T(0x1.9884533d43651p-2);  // 1 / √(2π)
  return {select<Vec<T>>(z > T(0), 1 - left, left), times_power_of_two<T>(kDensity + kDensity * tail, e.n)};
}
