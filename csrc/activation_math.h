// What activations are made of, beyond arithmetic.
#pragma once

#include <cmath>

#ifdef __CUDACC__
#define FUSED_GAN_FUNCTION __host__ __device__ __forceinline__
#else
#define FUSED_GAN_FUNCTION inline __attribute__((always_inline))
#endif

namespace fused_gan {

// Of the standard normal distribution, at one number.
template <class T> struct Normal {
  T cdf, density;
};

// Their functions, and the type of a constant. cpu/isa.h specialises them for vectors. log1p is asked for 0 ≤ x ≤ 1
// alone.
template <class T> struct Math;
template <> struct Math<float> {
  using Scalar = float;
  FUSED_GAN_FUNCTION static float tanh(float z) { return ::tanhf(z); }
  // 1 / x for 1 ≤ x ≤ 2.
  FUSED_GAN_FUNCTION static float inverse(float x) {
#ifdef __CUDA_ARCH__
    // One instruction, an epsilon off at most. Division has a branch for what lies outside of 2^±126, which keeps the
    // elements of a thread from overlapping.
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1.f / x;
#endif
  }
  FUSED_GAN_FUNCTION static float sigmoid(float z) {
#ifdef __CUDA_ARCH__
    const float e = ::expf(-fabsf(z)), large = inverse(1.f + e);
    return z > 0 ? large : e * large;
#else
    return 1.f / (1.f + ::expf(-z));
#endif
  }
  FUSED_GAN_FUNCTION static float exp(float x) { return ::expf(x); }
  FUSED_GAN_FUNCTION static float expm1(float x) { return ::expm1f(x); }
  FUSED_GAN_FUNCTION static float log1p(float x) { return ::log1pf(x); }
  FUSED_GAN_FUNCTION static Normal<float> normal(float z) {
    return {0.5f * ::erfcf(z * -0.70710678f), 0.39894228f * ::expf(z * z * -0.5f)};
  }
};
template <> struct Math<double> {
  using Scalar = double;
  FUSED_GAN_FUNCTION static double tanh(double z) { return ::tanh(z); }
  FUSED_GAN_FUNCTION static double inverse(double x) { return 1. / x; }
  FUSED_GAN_FUNCTION static double sigmoid(double z) { return 1. / (1. + ::exp(-z)); }
  FUSED_GAN_FUNCTION static double exp(double x) { return ::exp(x); }
  FUSED_GAN_FUNCTION static double expm1(double x) { return ::expm1(x); }
  FUSED_GAN_FUNCTION static double log1p(double x) { return ::log1p(x); }
  FUSED_GAN_FUNCTION static Normal<double> normal(double z) {
    return {0.5 * ::erfc(z * -0.70710678118654752), 0.39894228040143268 * ::exp(z * z * -0.5)};
  }
};
template <class T> using Scalar = typename Math<T>::Scalar;
template <class T> FUSED_GAN_FUNCTION T constant(double value) { return T{} + Scalar<T>(value); }

// 1 / (1 + e^-x) and 1 minus that, neither of which cancels.
template <class T> struct Logistic {
  T value, rest;
};
template <class T> FUSED_GAN_FUNCTION Logistic<T> logistic(T x) {
  const T e = Math<T>::exp(x > T{} ? -x : x), large = Math<T>::inverse(1 + e), small = e * large;
  return {x > T{} ? large : small, x > T{} ? small : large};
}

}  // namespace fused_gan
