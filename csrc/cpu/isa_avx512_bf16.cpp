// AVX-512 with BF16: Zen 4, Cooper Lake and Sapphire Rapids and what came after them.
#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own intrinsics
#endif
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
#endif

#define FUSED_GAN_ISA avx512_bf16
#define FUSED_GAN_VECTOR_BYTES 64
#define FUSED_GAN_AVX512
#include "paired.inl"

namespace fused_gan::cpu::avx512_bf16 {
namespace {
bool supported() { return avx512::kKernels.supported() && __builtin_cpu_supports("avx512bf16"); }
}  // namespace
}  // namespace fused_gan::cpu::avx512_bf16

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
