// THE list of activations. One struct each: its name, y = forward(z, slope) and dz = gradient(dy, y, slope).
//
// T is float or double, or a vector of them (cpu/vec.h): comparisons then select lane by lane. Every gradient is a
// function of the output y alone, which the next layer keeps anyway, so no pre-activation is ever stored. Where
// PyTorch selects, these select too and never multiply by 0 or 1, so NaN and Inf propagate as in PyTorch.
// To add an activation: one struct and one name in `Activations` here, its form in ATen's operators in aten_forms.h
// (a missing one does not compile), and one row in fused_gan/ops/activations.py (a test misses it).
#pragma once

#include <cmath>
#include <type_traits>

#ifdef __CUDACC__
#define FUSED_GAN_FUNCTION __host__ __device__ __forceinline__
#else
#define FUSED_GAN_FUNCTION inline __attribute__((always_inline))
#endif

namespace fused_gan {

// The functions that activations need beyond arithmetic. cpu/isa.h specialises them for vectors.
template <class T> struct Math;
template <> struct Math<float> {
  FUSED_GAN_FUNCTION static float tanh(float z) { return ::tanhf(z); }
  FUSED_GAN_FUNCTION static float sigmoid(float z) { return 1.f / (1.f + ::expf(-z)); }
};
template <> struct Math<double> {
  FUSED_GAN_FUNCTION static double tanh(double z) { return ::tanh(z); }
  FUSED_GAN_FUNCTION static double sigmoid(double z) { return 1. / (1. + ::exp(-z)); }
};

struct Identity {
  static constexpr const char* kName = "identity";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, T) { return z; }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T, T) { return dy; }
};

struct Relu {
  static constexpr const char* kName = "relu";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, T) { return z < T{} ? T{} : z; }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T y, T) { return y <= T{} ? T{} : dy; }
};

struct LeakyRelu {
  static constexpr const char* kName = "leaky_relu";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, T slope) { return z > T{} ? z : z * slope; }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T y, T slope) { return y > T{} ? dy : dy * slope; }
};

struct Tanh {
  static constexpr const char* kName = "tanh";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, T) { return Math<T>::tanh(z); }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T y, T) { return dy * (1 - y * y); }
};

struct Sigmoid {
  static constexpr const char* kName = "sigmoid";
  template <class T> FUSED_GAN_FUNCTION static T forward(T z, T) { return Math<T>::sigmoid(z); }
  template <class T> FUSED_GAN_FUNCTION static T gradient(T dy, T y, T) { return dy * (1 - y) * y; }
};

// An activation's index is its place in the list. No index is written out anywhere.
template <class... Acts> struct ActivationList {
  static constexpr int kCount = sizeof...(Acts);
  static constexpr const char* kNames[] = {Acts::kName...};

  template <class Act> static constexpr int index_of() {
    int index = 0;
    bool found = false;
    ((found = found || std::is_same_v<Act, Acts>, index += !found), ...);
    return index;
  }

  // Choice at run time inside a kernel. It costs a branch that all threads take alike, and saves one kernel per
  // activation.
  template <class T> FUSED_GAN_FUNCTION static T forward(int index, T z, T slope) {
    T y = z;
    int at = 0;
    ((at++ == index ? void(y = Acts::forward(z, slope)) : void()), ...);
    return y;
  }
  template <class T> FUSED_GAN_FUNCTION static T gradient(int index, T dy, T y, T slope) {
    T dz = dy;
    int at = 0;
    ((at++ == index ? void(dz = Acts::gradient(dy, y, slope)) : void()), ...);
    return dz;
  }

  // Compile-time choice outside a loop: calls f(Act{}) with the struct at `index`.
  template <class F> FUSED_GAN_FUNCTION static void visit(int index, F&& f) {
    int at = 0;
    ((at++ == index ? void(f(Acts{})) : void()), ...);
  }
};

using Activations = ActivationList<Identity, Relu, LeakyRelu, Tanh, Sigmoid>;

// A layer's activation as kernels take it. T: the type of the slope.
template <class T> struct ActivationIn {
  int index;  // into Activations
  T slope;    // of leaky_relu
};
using Activation = ActivationIn<double>;

}  // namespace fused_gan
