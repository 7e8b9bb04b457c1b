// Element types in memory and in registers: vector access, conversion, and the choice of type at run time.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <iterator>
#include <type_traits>

#include "pointwise.h"

namespace fused_gan::cuda {

// The arithmetic type of a storage type T, and the way there and back; of 16-bit types also for two in one word.
template <class T> struct Storage {
  using Wide = T;
  static __device__ T widen(T value) { return value; }
  static __device__ T narrow(T value) { return value; }
};
template <> struct Storage<__nv_bfloat16> {
  using Wide = float;
  static __device__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
  static __device__ __nv_bfloat16 narrow(float value) { return __float2bfloat16_rn(value); }
  static __device__ float2 widen_pair(uint32_t word) {
    return __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(word));
  }
  static __device__ uint32_t narrow_pair(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
};
template <> struct Storage<__half> {
  using Wide = float;
  static __device__ float widen(__half value) { return __half2float(value); }
  static __device__ __half narrow(float value) { return __float2half_rn(value); }
  static __device__ float2 widen_pair(uint32_t word) { return __half22float2(reinterpret_cast<const __half2&>(word)); }
  static __device__ uint32_t narrow_pair(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
};
template <class T> using Wide = typename Storage<T>::Wide;

// Elements in one access of 16 bytes, the widest there is.
template <class T> constexpr int kVector = 16 / sizeof(T);

// kWidth neighbours, moved by one instruction. 16-bit elements stay two in a word until they are used: a register each
// would spill.
template <class T, int kWidth> class alignas(kWidth * sizeof(T)) Pack {
  static constexpr bool kPairs = sizeof(T) == 2 && kWidth > 1;
  std::conditional_t<kPairs, uint32_t, T> words_[kPairs ? kWidth / 2 : kWidth];

 public:
  static __device__ Pack load(const T* from) { return *reinterpret_cast<const Pack*>(from); }
  __device__ void store(T* to) const { *reinterpret_cast<Pack*>(to) = *this; }

  __device__ void widen(Wide<T> (&values)[kWidth]) const {
#pragma unroll
    for (int i = 0; i < int(std::size(words_)); ++i) {
      if constexpr (kPairs) {
        const float2 pair = Storage<T>::widen_pair(words_[i]);
        values[2 * i] = pair.x;
        values[2 * i + 1] = pair.y;
      } else {
        values[i] = Storage<T>::widen(words_[i]);
      }
    }
  }
  __device__ void narrow(const Wide<T> (&values)[kWidth]) {
#pragma unroll
    for (int i = 0; i < int(std::size(words_)); ++i) {
      if constexpr (kPairs) words_[i] = Storage<T>::narrow_pair(values[2 * i], values[2 * i + 1]);
      else words_[i] = Storage<T>::narrow(values[i]);
    }
  }
};

// What a pointwise kernel is compiled for: the activations that products have inside, the others, or any of them with a
// gain or a limit behind it. A kernel for all would need the registers of the last also for the first.
enum class ActivationClass { kInlined, kOther, kScaled };

inline ActivationClass class_of(const Activation& activation) {
  if (is_scaled(activation)) return ActivationClass::kScaled;
  return is_inlined(activation) ? ActivationClass::kInlined : ActivationClass::kOther;
}

// An activation as the kernels call it, with a gain and a limit. T: the type of the numbers.
template <class Act, class T> struct ScaledBy {
  Scale<T> scale;
  __device__ __forceinline__ T forward(T z, Parameters<T> p) const { return Scaled<Act>::forward(z, p, scale); }
  __device__ __forceinline__ T gradient(T dy, T z, Parameters<T> p) const {
    return Scaled<Act>::gradient(dy, z, p, scale);
  }
};

// Calls f(act) with an activation of the class.
template <ActivationClass kClass, class T, class F>
__device__ __forceinline__ void visit(int activation, Scale<T> scale, F&& f) {
  Activations::visit(activation, [&](auto act) {
    using Act = decltype(act);
    constexpr bool inlined = is_inlined(Activations::index_of<Act>());
    if constexpr (kClass == ActivationClass::kScaled) f(ScaledBy<Act, T>{scale});
    else if constexpr (inlined == (kClass == ActivationClass::kInlined)) f(act);
  });
}

// Calls f(std::integral_constant<ActivationClass, ...>) with the class of the activation.
template <class F> auto with_class(const Activation& activation, F&& f) {
  switch (class_of(activation)) {
    case ActivationClass::kInlined:
      return f(std::integral_constant<ActivationClass, ActivationClass::kInlined>{});
    case ActivationClass::kOther:
      return f(std::integral_constant<ActivationClass, ActivationClass::kOther>{});
    case ActivationClass::kScaled:
      break;
  }
  return f(std::integral_constant<ActivationClass, ActivationClass::kScaled>{});
}

// Calls f(T{}) with the storage type of `dtype`.
template <class F> auto with_storage(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::kFloat32:
      return f(float{});
    case Dtype::kFloat64:
      return f(double{});
    case Dtype::kBFloat16:
      return f(__nv_bfloat16{});
    default:
      return f(__half{});
  }
}

}  // namespace fused_gan::cuda
