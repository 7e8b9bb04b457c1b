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

}  // namespace
}  // namespace fused_gan::cpu::FUSED_GAN_ISA

// Sets with vectors of one length share the type; these never meet another file's all the same, as they are always
// inlined.
template <> struct fused_gan::Math<fused_gan::cpu::FUSED_GAN_ISA::Vec<float>> {
  using Vec = fused_gan::cpu::FUSED_GAN_ISA::Vec<float>;
  FUSED_GAN_FUNCTION static Vec tanh(Vec z) { return fused_gan::cpu::FUSED_GAN_ISA::tanh_of<float>(z); }
  FUSED_GAN_FUNCTION static Vec sigmoid(Vec z) { return fused_gan::cpu::FUSED_GAN_ISA::sigmoid_of<float>(z); }
};
template <> struct fused_gan::Math<fused_gan::cpu::FUSED_GAN_ISA::Vec<double>> {
  using Vec = fused_gan::cpu::FUSED_GAN_ISA::Vec<double>;
  FUSED_GAN_FUNCTION static Vec tanh(Vec z) { return fused_gan::cpu::FUSED_GAN_ISA::tanh_of<double>(z); }
  FUSED_GAN_FUNCTION static Vec sigmoid(Vec z) { return fused_gan::cpu::FUSED_GAN_ISA::sigmoid_of<double>(z); }
};
