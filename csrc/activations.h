// THE list of activations. One struct each: its name, its parameters, what its gradient reads, y = forward(z,
// parameters) and dz = gradient(dy, x, parameters), where x is the output y or the pre-activation z.
//
// T is float or double, or a vector of them (cpu/vec.h): comparisons then select lane by lane. A gradient reads what
// that of PyTorch's module reads when it does not work in place, so it is as exact. LeakyReLU is the exception: it
// reads the output, which the next layer keeps anyway, where the sign of the output tells that of z and nobody else can
// overwrite it (as its second number tells). Where PyTorch selects, these select too and never multiply by 0 or 1, so
// NaN and Inf propagate as in PyTorch. To add an activation: one struct and one name in `Activations` here, its form in
// ATen's operators in aten_forms.h (a missing one does not compile), and one row in fused_gan/ops/activations.py (a
// test misses it).
#pragma once

#include <limits>
#include <type_traits>

#include "activation_math.h"

namespace fused_gan {

// The numbers that an activation takes beside z. Which they are say the structs' kParameters.
template <class T> struct Parameters {
  T first, second;
};
struct Parameter {
  const char* name;  // as torch's module calls it
  double default_value;
};

enum class Reads { kNothing, kOutput, kInput };

template <Reads kWhat> struct Parameterless {
  static constexpr int kCount = 0;  // of parameters
  static constexpr Parameter kParameters[2] = {};
  static constexpr Reads reads(Parameters<double>) { return kWhat; }
};

struct Identity : Parameterless<Reads::kNothing> {
  static constexpr const char* kName = "identity";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) { return z; }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T, Parameters<T>) { return dy; }
};

struct Relu : Parameterless<Reads::kOutput> {
  static constexpr const char* kName = "relu";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) { return z < T{} ? T{} : z; }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T y, Parameters<T>) { return y <= T{} ? T{} : dy; }
};

// The second number is not 0 where somebody may overwrite the output. Then the gradient reads z.
struct LeakyRelu {
  static constexpr const char* kName = "leaky_relu";
  static constexpr int kCount = 1;
  static constexpr Parameter kParameters[2] = {{"negative_slope", 0.01}};
  static constexpr Reads reads(Parameters<double> p) {
    return p.first >= 0 && p.second == 0 ? Reads::kOutput : Reads::kInput;
  }
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T> p) { return z > T{} ? z : z * p.first; }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T x, Parameters<T> p) {
    return x > T{} ? dy : dy * p.first;
  }
};

struct Tanh : Parameterless<Reads::kOutput> {
  static constexpr const char* kName = "tanh";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) { return Math<T>::tanh(z); }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T y, Parameters<T>) { return dy * (1 - y * y); }
};

struct Sigmoid : Parameterless<Reads::kOutput> {
  static constexpr const char* kName = "sigmoid";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) { return Math<T>::sigmoid(z); }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T y, Parameters<T>) { return dy * (1 - y) * y; }
};

// NaN stays.
template <class T> FUSED_GAN_FUNCTION T clamped(T z, T low, T high) {
  const T raised = z < low ? low : z;
  return raised > high ? high : raised;
}
// dy where low < z < high. At NaN 0, as PyTorch has it wherever its loop goes by whole vectors.
template <class T> FUSED_GAN_FUNCTION T inside(T dy, T z, T low, T high) {
  const T above = z > low ? dy : T{};
  return z < high ? above : T{};
}

struct Relu6 : Parameterless<Reads::kInput> {
  static constexpr const char* kName = "relu6";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) { return clamped(z, T{}, constant<T>(6)); }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T>) {
    return inside(dy, z, T{}, constant<T>(6));
  }
};

struct Hardtanh {
  static constexpr const char* kName = "hardtanh";
  static constexpr int kCount = 2;
  static constexpr Parameter kParameters[2] = {{"min_val", -1}, {"max_val", 1}};
  static constexpr Reads reads(Parameters<double>) { return Reads::kInput; }
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T> p) { return clamped(z, p.first, p.second); }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T> p) {
    return inside(dy, z, p.first, p.second);
  }
};

struct Hardsigmoid : Parameterless<Reads::kInput> {
  static constexpr const char* kName = "hardsigmoid";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) {
    return clamped(z + 3, T{}, constant<T>(6)) / 6;
  }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T>) {
    return inside(dy * Scalar<T>(1. / 6), z, constant<T>(-3), constant<T>(3));
  }
};

struct Elu {  // https://arxiv.org/abs/1511.07289
  static constexpr const char* kName = "elu";
  static constexpr int kCount = 1;
  static constexpr Parameter kParameters[2] = {{"alpha", 1}};
  static constexpr Reads reads(Parameters<double>) { return Reads::kInput; }
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T> p) {
    return z > T{} ? z : p.first * Math<T>::expm1(z);
  }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T> p) {
    return z > T{} ? dy : dy * p.first * Math<T>::exp(z);
  }
};

struct Selu : Parameterless<Reads::kInput> {  // https://arxiv.org/abs/1706.02515
  static constexpr const char* kName = "selu";
  static constexpr double kScale = 1.0507009873554804934, kAlpha = 1.6732632423543772848;
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) {
    return z > T{} ? z * Scalar<T>(kScale) : Math<T>::expm1(z) * Scalar<T>(kScale * kAlpha);
  }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T>) {
    return z > T{} ? dy * Scalar<T>(kScale) : dy * Scalar<T>(kScale * kAlpha) * Math<T>::exp(z);
  }
};

struct Celu {  // https://arxiv.org/abs/1704.07483
  static constexpr const char* kName = "celu";
  static constexpr int kCount = 1;
  static constexpr Parameter kParameters[2] = {{"alpha", 1}};
  static constexpr Reads reads(Parameters<double>) { return Reads::kInput; }
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T> p) {
    return z > T{} ? z : p.first * Math<T>::expm1(z / p.first);
  }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T> p) {
    return z > T{} ? dy : dy * Math<T>::exp(z / p.first);
  }
};

// log(1 + e^(beta z)) / beta, and z itself where beta z is above the threshold. The output does not tell on which side
// z was, as it is above the threshold too where z lies a little below.
struct Softplus {
  static constexpr const char* kName = "softplus";
  static constexpr int kCount = 2;
  static constexpr Parameter kParameters[2] = {{"beta", 1}, {"threshold", 20}};
  static constexpr Reads reads(Parameters<double>) { return Reads::kInput; }
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T> p) {
    const T x = z * p.first, above = x > T{} ? x : T{};
    return x > p.second ? z : (above + Math<T>::log1p(Math<T>::exp(x > T{} ? -x : x))) / p.first;
  }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T> p) {
    const T x = z * p.first;
    return x > p.second ? dy : dy * logistic(x).value;
  }
};

struct Gelu : Parameterless<Reads::kInput> {  // https://arxiv.org/abs/1606.08415
  static constexpr const char* kName = "gelu";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) { return z * Math<T>::normal(z).cdf; }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T>) {
    const auto normal = Math<T>::normal(z);
    return dy * (normal.cdf + z * normal.density);
  }
};

// z (1 + tanh u) / 2 = z sigmoid(2 u), u = √(2/π) (z + 0.044715 z³)
struct GeluTanh : Parameterless<Reads::kInput> {
  static constexpr const char* kName = "gelu_tanh";
  static constexpr double kTwice = 1.5957691216057307118, kCube = 0.044715;
  template <class T> FUSED_GAN_FUNCTION static T argument(T z) {
    return Scalar<T>(kTwice) * (z + Scalar<T>(kCube) * z * z * z);
  }
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) { return z * logistic(argument(z)).value; }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T>) {
    const Logistic<T> s = logistic(argument(z));
    const T inner = Scalar<T>(kTwice) * (1 + Scalar<T>(3 * kCube) * (z * z));
    return dy * (s.value + z * (s.value * s.rest) * inner);
  }
};

struct Silu : Parameterless<Reads::kInput> {  // https://arxiv.org/abs/1710.05941, also called Swish
  static constexpr const char* kName = "silu";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) { return z * logistic(z).value; }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T>) {
    const Logistic<T> s = logistic(z);
    return dy * (s.value * (1 + z * s.rest));
  }
};

// z tanh(softplus(z)) = z n / d. With e = e^z: n = e² + 2 e and d = n + 2; for z > 0 both times e^-2z, so that neither
// overflows. https://arxiv.org/abs/1908.08681
struct Mish : Parameterless<Reads::kInput> {
  static constexpr const char* kName = "mish";
  template <class T> struct Fraction {
    T e, square, n, d;
  };
  template <class T> FUSED_GAN_FUNCTION static Fraction<T> fraction(T z) {
    const T e = Math<T>::exp(z > T{} ? -z : z), square = e * e;
    const T n = z > T{} ? 1 + 2 * e : square + 2 * e;
    return {e, square, n, z > T{} ? n + 2 * square : n + 2};
  }
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T>) {
    const Fraction<T> f = fraction(z);
    return z * (f.n / f.d);
  }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T>) {
    const Fraction<T> f = fraction(z);
    const T inverse = 1 / f.d;
    const T slope = 4 * (z > T{} ? f.square : f.e) * (1 + f.e) * inverse * inverse;  // (1 - tanh²) sigmoid(z)
    return dy * (f.n * inverse + z * slope);
  }
};

// What StyleGAN's layers have behind an activation: y = clamp(gain a, -limit, limit), a = forward(z, parameters).
template <class T> struct Scale {
  T gain, limit;
};
inline constexpr Scale<double> kUnscaled{1, std::numeric_limits<double>::infinity()};

// An activation with a gain and a limit behind it. The gradient reads z, whatever that of the activation alone reads;
// but for identity with a gain alone, where z may be any number.
template <class Act> struct Scaled {
  // Whether the activation's own gradient reads its output, which is then computed again.
  static constexpr bool kOfOutput = std::is_base_of_v<Parameterless<Reads::kOutput>, Act>;

  template <class T> FUSED_GAN_FUNCTION static T forward(T z, Parameters<T> p, Scale<T> s) {
    return clamped(Act::forward(z, p) * s.gain, -s.limit, s.limit);
  }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T z, Parameters<T> p, Scale<T> s) {
    const T a = Act::forward(z, p);
    const T da = within(dy, a * s.gain, s.limit) * s.gain;
    return Act::gradient(da, kOfOutput ? a : z, p);
  }

 private:
  // dy where |scaled| ≤ limit, at NaN 0, as torch.clamp has it; without a limit dy everywhere.
  template <class T> FUSED_GAN_FUNCTION static T within(T dy, T scaled, T limit) {
    const T above = scaled >= -limit ? dy : T{}, both = scaled <= limit ? above : T{};
    return limit > constant<T>(std::numeric_limits<Scalar<T>>::max()) ? dy : both;
  }
};

// An activation's index is its place in the list. No index is written out anywhere.
template <class... Acts> struct ActivationList {
  static constexpr int kCount = sizeof...(Acts);
  static constexpr const char* kNames[] = {Acts::kName...};
  static constexpr int kParameterCounts[] = {Acts::kCount...};
  static constexpr const Parameter* kParameters[] = {Acts::kParameters...};

  template <class Act> static constexpr int index_of() {
    int index = 0;
    bool found = false;
    ((found = found || std::is_same_v<Act, Acts>, index += !found), ...);
    return index;
  }

  // Choice at run time inside a kernel. It costs a branch that all threads take alike, and saves one kernel per
  // activation.
  template <class T> FUSED_GAN_FUNCTION static T forward(int index, T z, Parameters<T> p) {
    T y = z;
    int at = 0;
    ((at++ == index ? void(y = Acts::forward(z, p)) : void()), ...);
    return y;
  }
  template <class T> FUSED_GAN_FUNCTION static T gradient(int index, T dy, T x, Parameters<T> p) {
    T dz = dy;
    int at = 0;
    ((at++ == index ? void(dz = Acts::gradient(dy, x, p)) : void()), ...);
    return dz;
  }

  // Compile-time choice outside a loop: calls f(Act{}) with the struct at `index`.
  template <class F> FUSED_GAN_FUNCTION static void visit(int index, F&& f) {
    int at = 0;
    ((at++ == index ? void(f(Acts{})) : void()), ...);
  }
};

using Activations = ActivationList<Identity, Relu, LeakyRelu, Tanh, Sigmoid, Relu6, Hardtanh, Hardsigmoid, Elu, Selu,
                                   Celu, Softplus, Gelu, GeluTanh, Silu, Mish>;
// The first of them are part of every kernel that has them at its end. The others would make such kernels large and
// slow to build: on CPU they are called there, on CUDA they follow as a pass.
using InlinedActivations = ActivationList<Identity, Relu, LeakyRelu, Tanh, Sigmoid>;
FUSED_GAN_FUNCTION constexpr bool is_inlined(int index) { return index >= 0 && index < InlinedActivations::kCount; }

// A layer's activation, with what stands behind it.
struct Activation {
  int index;  // into Activations
  Parameters<double> parameters;
  Scale<double> scale = kUnscaled;

  // Everything but the index, as lists hold it.
  static constexpr int kNumbers = 4;
  static Activation of(int index, const double* numbers) {
    return {index, {numbers[0], numbers[1]}, {numbers[2], numbers[3]}};
  }
  void write_numbers(double* to) const {
    const double numbers[kNumbers] = {parameters.first, parameters.second, scale.gain, scale.limit};
    for (int i = 0; i < kNumbers; ++i) to[i] = numbers[i];
  }

  template <class T> FUSED_GAN_FUNCTION Parameters<T> parameters_in() const {
    return {T(parameters.first), T(parameters.second)};
  }
  template <class T> FUSED_GAN_FUNCTION Scale<T> scale_in() const { return {T(scale.gain), T(scale.limit)}; }
};
inline constexpr Activation kIdentity{Activations::index_of<Identity>(), {}};

constexpr bool is_scaled(const Activation& activation) {
  return activation.scale.gain != kUnscaled.gain || activation.scale.limit != kUnscaled.limit;
}
inline bool is_inlined(const Activation& activation) { return is_inlined(activation.index) && !is_scaled(activation); }
inline bool is_identity(const Activation& activation) {
  return activation.index == kIdentity.index && !is_scaled(activation);
}

inline Reads reads(const Activation& activation) {
  Reads found = Reads::kNothing;
  Activations::visit(activation.index, [&](auto act) { found = decltype(act)::reads(activation.parameters); });
  const bool gain_alone = found == Reads::kNothing && activation.scale.limit == kUnscaled.limit;
  return is_scaled(activation) && !gain_alone ? Reads::kInput : found;
}
inline bool reads_nothing(const Activation& activation) { return reads(activation) == Reads::kNothing; }
inline bool reads_input(const Activation& activation) { return reads(activation) == Reads::kInput; }

}  // namespace fused_gan
