// The vectors of one instruction set and the activations on them. isa_*.cpp set FUSED_GAN_ISA, FUSED_GAN_VECTOR_BYTES
// and the compiler's target before they include this file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "../activations.h"
#include "kernel_table.h"

namespace fused_gan::cpu::FUSED_GAN_ISA {
namespace {

#include "vec.h"
//
#include "vec_math.inl"

}  // namespace

template <class T> struct VectorMath {
  using Scalar = T;
  FUSED_GAN_FUNCTION static Vec<T> inverse(Vec<T> x) { return 1 / x; }
  FUSED_GAN_FUNCTION static Vec<T> tanh(Vec<T> z) { return tanh_of<T>(z); }
  FUSED_GAN_FUNCTION static Vec<T> sigmoid(Vec<T> z) { return sigmoid_of<T>(z); }
  FUSED_GAN_FUNCTION static Vec<T> exp(Vec<T> x) { return exp_of<T>(x); }
  FUSED_GAN_FUNCTION static Vec<T> expm1(Vec<T> x) { return expm1_of<T>(x); }
  FUSED_GAN_FUNCTION static Vec<T> log1p(Vec<T> x) { return log1p_of<T>(x); }
  FUSED_GAN_FUNCTION static Normal<Vec<T>> normal(Vec<T> z) { return normal_of<T>(z); }
};

}  // namespace fused_gan::cpu::FUSED_GAN_ISA

// Sets with vectors of one length share the type; these never meet another file's all the same, as they are always
// inlined.
template <>
struct fused_gan::Math<fused_gan::cpu::FUSED_GAN_ISA::Vec<float>> : fused_gan::cpu::FUSED_GAN_ISA::VectorMath<float> {};
template <>
struct fused_gan::Math<fused_gan::cpu::FUSED_GAN_ISA::Vec<double>> : fused_gan::cpu::FUSED_GAN_ISA::VectorMath<double> {
};
