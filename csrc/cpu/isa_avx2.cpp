// AVX2 with FMA: x86-64 processors since about 2013.
#if defined(__x86_64__)
#include <cmath>
#include <cstdint>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define FUSED_GAN_ISA avx2
#define FUSED_GAN_VECTOR_BYTES 32
#include "kernels.inl"

namespace fused_gan::cpu::avx2 {
namespace {
bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
}  // namespace
}  // namespace fused_gan::cpu::avx2

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
