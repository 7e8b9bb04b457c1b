// AMX with bfloat16: Sapphire Rapids and what came after it.
#if defined(__x86_64__) && defined(__linux__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns of its own intrinsics
#endif
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(                                                                            \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,avx2,fma"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,avx2,fma")
#endif

#define FUSED_GAN_ISA amx
#define FUSED_GAN_VECTOR_BYTES 64
#define FUSED_GAN_AVX512
#define FUSED_GAN_TILES_NAME "amx"
#include "tile_kernels.h"
//
#include "tile_products.inl"

namespace fused_gan::cpu::amx {
namespace {
// Linux hands out the tiles' state on demand: asked for once, before any thread uses it, for the whole process. Refused
// where a signal stack is too small to hold it.
bool granted() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}
bool supported() {
  return avx512::kKernels.supported() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("amx-tile") &&
         __builtin_cpu_supports("amx-bf16") && granted();
}
}  // namespace
}  // namespace fused_gan::cpu::amx

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
