// The truth that the kernels are compared with, written apart from them: plain loops in long double, one formula per
// activation, chosen by name. Also the storage types as the host sees them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "pointwise.h"

namespace reference {

using Real = long double;
using fused_gan::cuda::Dtype;

// Of a storage type: its epsilon and largest number, those of the type it is computed in, and `tiny`, an absolute error
// that may always occur: the smallest normal number of the arithmetic, or the smallest step of the type if larger.
template <class T> struct Type;
template <> struct Type<float> {
  using Arithmetic = float;
  static constexpr Dtype kDtype = Dtype::kFloat32;
  static constexpr const char* kName = "float32";
  static constexpr Real kEpsilon = 0x1p-23L, kLargest = 0x1.fffffep127L, kTiny = 0x1p-126L;
  static float round(Real value) { return float(value); }
  static Real widen(float value) { return value; }
};
template <> struct Type<double> {
  using Arithmetic = double;
  static constexpr Dtype kDtype = Dtype::kFloat64;
  static constexpr const char* kName = "float64";
  static constexpr Real kEpsilon = 0x1p-52L, kLargest = 0x1.fffffffffffffp1023L, kTiny = 0x1p-1022L;
  static double round(Real value) { return double(value); }
  static Real widen(double value) { return value; }
};
template <> struct Type<__nv_bfloat16> {
  using Arithmetic = float;
  static constexpr Dtype kDtype = Dtype::kBFloat16;
  static constexpr const char* kName = "bfloat16";
  static constexpr Real kEpsilon = 0x1p-7L, kLargest = 0x1.fep127L, kTiny = 0x1p-126L;
  static __nv_bfloat16 round(Real value) { return __float2bfloat16_rn(float(value)); }
  static Real widen(__nv_bfloat16 value) { return __bfloat162float(value); }
};
template <> struct Type<__half> {
  using Arithmetic = float;
  static constexpr Dtype kDtype = Dtype::kFloat16;
  static constexpr const char* kName = "float16";
  static constexpr Real kEpsilon = 0x1p-10L, kLargest = 65504, kTiny = 0x1p-24L;
  static __half round(Real value) { return __float2half_rn(float(value)); }
  static Real widen(__half value) { return __half2float(value); }
};

template <class T> using Arithmetic = Type<typename Type<T>::Arithmetic>;

// What torch computes for each activation, NaN and Inf included.
inline Real forward(const std::string& name, Real z, Real slope) {
  if (name == "identity") return z;
  if (name == "relu") return z > 0 || std::isnan(z) ? z : 0;
  if (name == "leaky_relu") return z > 0 ? z : z * slope;
  if (name == "tanh") return std::tanh(z);
  if (name == "sigmoid") return z >= 0 ? 1 / (1 + std::exp(-z)) : std::exp(z) / (1 + std::exp(z));
  throw std::logic_error("the reference has no activation '" + name + "'");
}

// Its gradient from the output.
inline Real gradient(const std::string& name, Real dy, Real y, Real slope) {
  if (name == "identity") return dy;
  if (name == "relu") return y <= 0 ? 0 : dy;
  if (name == "leaky_relu") return y > 0 ? dy : dy * slope;
  if (name == "tanh") return dy * (1 - y * y);
  if (name == "sigmoid") return dy * (1 - y) * y;
  throw std::logic_error("the reference has no activation '" + name + "'");
}

// What any arithmetic, torch's too, loses where 1 - y² or 1 - y cancels, in units of its epsilon.
inline Real cancellation(const std::string& name, Real dy) {
  return (name == "tanh" || name == "sigmoid") && std::isfinite(dy) ? std::abs(dy) : 0;
}

// What a kernel may and does get wrong over a tensor: the tolerance rule,
//     ‖ours - reference‖ ≤ ‖slack‖ + 4 eps ‖reference‖,
// where `slack` stands for torch's own error and is not zero only where terms cancel; and the same for each element, so
// that one wrong element among many is seen.
template <class T> class Comparison {
 public:
  void add(T ours, Real truth, Real slack) {
    const Real value = Type<T>::widen(ours), allowed = 4 * Type<T>::kEpsilon * std::abs(truth) + slack;
    if (std::isnan(truth) || std::isnan(value)) {
      if (std::isnan(truth) != std::isnan(value)) fail(value, truth);
    } else if (std::isinf(value) || std::isinf(truth)) {
      // A finite truth may only become infinite where rounding takes it over the largest number.
      const bool overflow = std::abs(truth) >= Type<T>::kLargest && std::signbit(value) == std::signbit(truth);
      if (value != truth && !(std::isinf(value) && overflow)) fail(value, truth);
    } else {
      const Real error = std::abs(value - truth);
      if (error > allowed + Type<T>::kTiny) fail(value, truth);
      errors_ += error * error;
      truths_ += truth * truth;
      slacks_ += slack * slack + Type<T>::kTiny * Type<T>::kTiny;
    }
    ++count_;
  }

  // Empty where all is well.
  std::string verdict() const {
    if (!failure_.empty()) return failure_;
    const Real allowed = 4 * Type<T>::kEpsilon * std::sqrt(truths_) + std::sqrt(slacks_);
    if (std::sqrt(errors_) > allowed)
      return "norm of the errors is " + std::to_string(double(std::sqrt(errors_) / allowed)) + " times the bound";
    return {};
  }

 private:
  void fail(Real value, Real truth) {
    if (failure_.empty())
      failure_ = "element " + std::to_string(count_) + " is " + std::to_string(double(value)) + ", expected " +
                 std::to_string(double(truth));
  }
  int64_t count_ = 0;
  Real errors_ = 0, truths_ = 0, slacks_ = 0;
  std::string failure_;
};

}  // namespace reference
