// The truth that the kernels are compared with, written apart from them: plain loops in long double, one formula per
// activation, chosen by name. Also the storage types as the host sees them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <set>
#include <stdexcept>
#include <string>

#include "pointwise.h"

namespace reference {

using Real = long double;
using fused_gan::cuda::Dtype;
using Numbers = fused_gan::Parameters<double>;

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

// A number as the arithmetic of T holds it: rounded, and infinite above the largest.
template <class T> Real held(Real value) { return Arithmetic<T>::widen(Arithmetic<T>::round(value)); }

inline Real sigmoid(Real z) { return z >= 0 ? 1 / (1 + std::exp(-z)) : std::exp(z) / (1 + std::exp(z)); }
inline Real softplus(Real z) { return std::max<Real>(z, 0) + std::log1p(std::exp(-std::abs(z))); }
inline Real normal_cdf(Real z) { return std::erfc(-z / std::sqrt(Real(2))) / 2; }
inline Real normal_density(Real z) { return std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi_v<Real>); }
inline Real clamp(Real z, Real low, Real high) { return z < low ? low : z > high ? high : z; }
inline Real expm1_below(Real z, Real scale, Real alpha) { return z > 0 ? z : scale * std::expm1(z / alpha); }

// selu's constants, and those of the tanh form of gelu.
constexpr Real kScale = 1.0507009873554804934193349852946L, kAlpha = 1.6732632423543772848170429916717L;
constexpr Real kInner = 0.79788456080286535587989211986876L, kCube = 0.044715L;

// What torch computes for each activation, NaN and Inf included.
inline Real forward(const std::string& name, Real z, Numbers p) {
  if (name == "identity") return z;
  if (name == "relu") return z > 0 || std::isnan(z) ? z : 0;
  if (name == "leaky_relu") return z > 0 ? z : z * p.first;
  if (name == "tanh") return std::tanh(z);
  if (name == "sigmoid") return sigmoid(z);
  if (name == "relu6") return clamp(z, 0, 6);
  if (name == "hardtanh") return clamp(z, p.first, p.second);
  if (name == "hardsigmoid") return clamp(z + 3, 0, 6) / 6;
  if (name == "elu") return expm1_below(z, p.first, 1);
  if (name == "selu") return kScale * expm1_below(z, kAlpha, 1);
  if (name == "celu") return expm1_below(z, p.first, p.first);
  if (name == "softplus") return z * p.first > p.second ? z : softplus(z * p.first) / p.first;
  if (name == "gelu") return z * normal_cdf(z);
  if (name == "gelu_tanh") return z * sigmoid(2 * kInner * (z + kCube * z * z * z));
  if (name == "silu") return z * sigmoid(z);
  if (name == "mish") return z * std::tanh(softplus(z));
  throw std::logic_error("the reference has no activation '" + name + "'");
}

// Whether its gradient reads the pre-activation, not the output.
inline bool reads_input(const std::string& name, Numbers p) {
  const bool reads_output = name == "relu" || name == "tanh" || name == "sigmoid";
  return name != "identity" && !reads_output && (name != "leaky_relu" || p.first < 0);
}

// Its gradient from the output, or from the pre-activation.
template <class T> Real gradient(const std::string& name, Real dy, Real x, Numbers p) {
  const auto inside = [&](Real low, Real high) { return x > low && x < high ? dy : 0; };
  if (name == "identity") return dy;
  if (name == "relu") return x <= 0 ? 0 : dy;
  if (name == "leaky_relu") return x > 0 ? dy : dy * p.first;
  if (name == "tanh") return dy * (1 - x * x);
  if (name == "sigmoid") return dy * (1 - x) * x;
  if (name == "relu6") return inside(0, 6);
  if (name == "hardtanh") return inside(p.first, p.second);
  if (name == "hardsigmoid") return inside(-3, 3) / 6;
  if (name == "elu") return x > 0 ? dy : held<T>(dy * p.first) * std::exp(x);
  if (name == "selu") return x > 0 ? dy * kScale : held<T>(dy * kScale * kAlpha) * std::exp(x);
  if (name == "celu") return x > 0 ? dy : dy * std::exp(x / p.first);
  if (name == "softplus") return x * p.first > p.second ? dy : dy * sigmoid(x * p.first);
  if (name == "gelu") return dy * (normal_cdf(x) + x * normal_density(x));
  if (name == "gelu_tanh") {
    const Real s = sigmoid(2 * kInner * (x + kCube * x * x * x)), slope = held<T>(1 + 3 * kCube * x * x);
    return dy * (s + x * (s * (1 - s)) * 2 * kInner * slope);
  }
  if (name == "silu") return dy * sigmoid(x) * (1 + x * sigmoid(-x));
  if (name == "mish") {
    const Real t = std::tanh(softplus(x));
    return dy * (t + x * (sigmoid(x) * (1 - t * t)));
  }
  throw std::logic_error("the reference has no activation '" + name + "'");
}

// What any arithmetic, torch's too, loses where terms cancel, and where exp is asked of a rounded number, in units of
// its epsilon. y and dz: what comes out.
inline Real lost_forward(const std::string& name, Real z, Real y, Numbers p) {
  Real lost = 0;
  if (name == "gelu" || name == "gelu_tanh") lost = std::abs(z);
  if (name == "softplus") lost = std::abs(z * p.first * y);
  return std::isfinite(lost) ? lost : 0;
}
inline Real lost_gradient(const std::string& name, Real dy, Real x, Real dz, Numbers p) {
  static const std::set<std::string> kCancel = {"tanh", "sigmoid", "gelu", "gelu_tanh", "silu", "mish"};
  Real lost = kCancel.count(name) ? std::abs(dy) : 0;
  if (name == "softplus") lost = std::abs(x * p.first * dz);
  if (name == "celu" && x < 0) lost = std::abs(x / p.first * dz);
  return std::isfinite(lost) ? lost : 0;
}

// The same of an activation with what stands behind it. With a gain or a limit its gradient reads the pre-activation.
using fused_gan::Activation;
inline std::string name_of(const Activation& a) { return fused_gan::Activations::kNames[a.index]; }
inline bool reads_any(const Activation& a) { return name_of(a) != "identity" || std::isfinite(a.scale.limit); }
inline bool reads_input(const Activation& a) {
  return reads_any(a) && (is_scaled(a) || reads_input(name_of(a), a.parameters));
}
inline Real forward(const Activation& a, Real z) {
  const Real y = forward(name_of(a), z, a.parameters);
  return is_scaled(a) ? clamp(y * a.scale.gain, -a.scale.limit, a.scale.limit) : y;
}
// What the gradient of the activation alone gets: dy as gain and limit let it through, and what it reads.
struct Alone {
  Real dy, x;
};
inline Alone alone(const Activation& a, Real dy, Real x) {
  if (!is_scaled(a)) return {dy, x};
  const Real y = forward(name_of(a), x, a.parameters);
  const bool passes = std::isinf(a.scale.limit) || std::abs(y * a.scale.gain) <= a.scale.limit;
  const bool of_output = name_of(a) != "identity" && name_of(a) != "leaky_relu" && !reads_input(name_of(a), {});
  return {passes ? dy * a.scale.gain : 0, of_output ? y : x};
}
template <class T> Real gradient(const Activation& a, Real dy, Real x) {
  const Alone inner = alone(a, dy, x);
  return gradient<T>(name_of(a), is_scaled(a) ? held<T>(inner.dy) : dy, inner.x, a.parameters);
}
inline Real lost_forward(const Activation& a, Real z, Real y) {
  const Real inner = is_scaled(a) ? forward(name_of(a), z, a.parameters) : y;
  return lost_forward(name_of(a), z, inner, a.parameters) * std::abs(a.scale.gain);
}
inline Real lost_gradient(const Activation& a, Real dy, Real x, Real dz) {
  const Alone inner = alone(a, dy, x);
  // The output is computed again, and may be an epsilon or two off.
  return lost_gradient(name_of(a), inner.dy, inner.x, dz, a.parameters) * (is_scaled(a) ? 4 : 1);
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
