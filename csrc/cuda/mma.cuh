// The instructions that the sm_80 products are made of: asynchronous copies, fragment loads, tensor-core products.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "product.h"

namespace fused_gan::cuda::mma {

__device__ inline uint32_t shared_address(const void* pointer) { return uint32_t(__cvta_generic_to_shared(pointer)); }

// Copies kBytes into shared memory, which arrive at the latest when their group is waited for; the bytes from `valid`
// on are zero.
template <int kBytes> __device__ void copy_async(uint32_t to, const void* from, int valid) {
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(kBytes), "r"(valid)
                 : "memory");
}
__device__ inline void store_shared(uint32_t to, uint16_t value) {
  asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(value) : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most kPending groups of this thread are on their way.
template <int kPending> __device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 × 8 matrices of 16 bits (8 × 4 of 32 bits); lane i gives the address of row i % 8 of matrix i / 8.
__device__ inline void load_matrices(uint32_t (&words)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&words)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(address)
               : "memory");
}

// Float to tf32, to nearest; what the 13 bits that tf32 lacks hold, tensor cores do not read.
__device__ inline uint32_t to_tf32(uint32_t bits) {
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(bits)));
  return rounded;
}

// c (16, 8) += a (16, 32 bytes) · b (32 bytes, 8), spread over a warp.
using Tile = float[4];
using A = uint32_t[4];
using B = uint32_t[2];

__device__ inline void multiply_tf32(Tile& c, const A& a, const B& b) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// How a precision multiplies: its element in memory, what becomes of the words of a fragment, and the product of two.
template <Precision> struct Arithmetic;
template <> struct Arithmetic<Precision::kBFloat16> {
  using Element = __nv_bfloat16;
  static constexpr bool kPromotes = false;
  template <int kWords> struct Fragment {
    uint32_t words[kWords];
    __device__ void prepare(const uint32_t (&loaded)[kWords]) {
#pragma unroll
      for (int i = 0; i < kWords; ++i) words[i] = loaded[i];
    }
  };
  __device__ static void multiply(Tile& c, const Fragment<4>& a, const Fragment<2>& b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.words[0]), "r"(a.words[1]), "r"(a.words[2]), "r"(a.words[3]), "r"(b.words[0]), "r"(b.words[1]));
  }
};
template <> struct Arithmetic<Precision::kFloat16> {
  using Element = __half;
  static constexpr bool kPromotes = false;
  template <int kWords> using Fragment = Arithmetic<Precision::kBFloat16>::Fragment<kWords>;
  __device__ static void multiply(Tile& c, const Fragment<4>& a, const Fragment<2>& b) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.words[0]), "r"(a.words[1]), "r"(a.words[2]), "r"(a.words[3]), "r"(b.words[0]), "r"(b.words[1]));
  }
};
template <> struct Arithmetic<Precision::kTf32> {
  using Element = float;
  static constexpr bool kPromotes = false;
  template <int kWords> struct Fragment {
    uint32_t words[kWords];
    __device__ void prepare(const uint32_t (&loaded)[kWords]) {
#pragma unroll
      for (int i = 0; i < kWords; ++i) words[i] = to_tf32(loaded[i]);
    }
  };
  __device__ static void multiply(Tile& c, const Fragment<4>& a, const Fragment<2>& b) {
    multiply_tf32(c, a.words, b.words);
  }
};
// Each factor is big + small; small · small is below float32's precision. Tensor cores truncate as they add, so partial
// sums are promoted into float32 registers, which round, before that shows (docs/design/cuda.md). A factor is
// multiplied by 2³⁰ before, so that the small half of any number is 0 or a normal number; a sum is divided by 2⁶⁰ at
// the end.
template <> struct Arithmetic<Precision::kFloat32> {
  using Element = float;
  static constexpr bool kPromotes = true;
  static constexpr float kScale = 0x1p30f, kUnscale = 0x1p-60f;
  template <int kWords> struct Fragment {
    uint32_t big[kWords], small[kWords];
    __device__ void prepare(const uint32_t (&loaded)[kWords]) {
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        const float scaled = __uint_as_float(loaded[i]) * kScale;
        big[i] = to_tf32(__float_as_uint(scaled)) & 0xffffe000;  // as it is to be subtracted
        small[i] = to_tf32(__float_as_uint(scaled - __uint_as_float(big[i])));
      }
    }
  };
  __device__ static void multiply(Tile& c, const Fragment<4>& a, const Fragment<2>& b) {
    multiply_tf32(c, a.small, b.big);
    multiply_tf32(c, a.big, b.small);
    multiply_tf32(c, a.big, b.big);
  }
};

}  // namespace fused_gan::cuda::mma
