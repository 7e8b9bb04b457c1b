// The table of CPU kernels of one instruction set. isa_*.cpp compile this file once for each.
#include "isa.h"

#define FUSED_GAN_STRING(name) FUSED_GAN_STRING_OF(name)
#define FUSED_GAN_STRING_OF(name) #name

namespace fused_gan::cpu::FUSED_GAN_ISA {
namespace {

#include "vector_activations.inl"
//
#include "product.inl"
//
#include "forward.inl"
//
#include "dots.inl"
//
#include "widened.inl"
//
#include "pointwise.inl"

template <class T> constexpr ProductKernels<T> products() {
  return {kTileRows,  Lanes<T>::kCount, kTileColumns<T>, pack<T>,
          forward<T>, forward_rows<T>,  product<T>,      product_gradient<T>};
}
template <class S> constexpr StorageKernels<S> storage() { return {activate<S>, gradient<S>, forward_dot<S>}; }

bool supported();  // defined by isa_*.cpp

}  // namespace

extern const Kernels kKernels = {FUSED_GAN_STRING(FUSED_GAN_ISA),
                                 supported,
                                 products<float>(),
                                 products<double>(),
                                 storage<float>(),
                                 storage<double>(),
                                 storage<BFloat16>(),
                                 storage<Float16>(),
                                 {widened_product<BFloat16>},
                                 {widened_product<Float16>}};

}  // namespace fused_gan::cpu::FUSED_GAN_ISA
