// AVX-512: every x86-64 processor with F, BW, DQ and VL.
#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own intrinsics
#endif
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif

#define FUSED_GAN_ISA avx512
#define FUSED_GAN_VECTOR_BYTES 64
#define FUSED_GAN_AVX512
#include "kernels.inl"

namespace fused_gan::cpu::avx512 {
namespace {
bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
}  // namespace
}  // namespace fused_gan::cpu::avx512

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
