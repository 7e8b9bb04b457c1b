// What is left after a product whose depth, or whose rows, were cut into parts: the parts are added in their order, and
// the epilogue is done. A product for few rows has too few tiles to fill a device; cut along the depth it has more, and
// this small kernel after it costs less than the multiprocessors that would have idled.
#include <type_traits>

#include "../activations.h"
#include "alignment.h"
#include "product.h"
#include "storage.cuh"

namespace fused_gan::cuda {
namespace {

// A block's columns. 8 columns of the parts are the 32 bytes that memory moves at once, and make many blocks of few
// rows.
constexpr int kBlockColumns = 8, kThreads = 128;

// sum[i] over the threads of a block that share a lane, complete in threads [0, lanes).
template <int kWidth> __device__ void sum_over_rows(float (&sum)[kWidth], int lanes) {
  __shared__ float shared[kWidth][kThreads];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) shared[i][threadIdx.x] = sum[i];
  for (int half = kThreads / 2; half >= lanes; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) shared[i][threadIdx.x] = sum[i] += shared[i][threadIdx.x + half];
  }
}

// parts (splits, rows, columns) -> c (rows, columns); backward: the column sums of each block's rows. kWidth > 1:
// columns side by side, all of it aligned.
template <class T, int kWidth, bool kForward>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const ProductArguments p, const Partials partials, int splits) {
  constexpr int kLanes = kBlockColumns / kWidth, kRowStep = kThreads / kLanes;
  const unsigned blocks_across = unsigned((p.columns + kBlockColumns - 1) / kBlockColumns);
  const unsigned block_row = blockIdx.x / blocks_across;
  const int64_t column = int64_t(blockIdx.x % blocks_across) * kBlockColumns + threadIdx.x % kLanes * kWidth;
  const int64_t row = int64_t(block_row) * kFinishRows, end = min(row + kFinishRows, p.rows);
  float sum[kWidth] = {};
  if (column < p.columns) {
    float bias[kWidth] = {};
    if (kForward && p.bias) Pack<T, kWidth>::load(static_cast<const T*>(p.bias) + column).widen(bias);
    InlinedActivations::visit(p.activation.index, [&](auto act) {
      constexpr bool kReads = !kForward && !std::is_same_v<decltype(act), Identity>;
      const Parameters<float> parameters = p.activation.parameters();
      for (int64_t r = row + threadIdx.x / kLanes; r < end; r += kRowStep) {
        const int64_t place = r * p.columns + column;
        Pack<T, kWidth> from, to;
        if constexpr (kReads)
          from = Pack<T, kWidth>::load(static_cast<const T*>(p.below) + r * p.below_stride + column);
        float values[kWidth] = {}, x[kWidth] = {};
#pragma unroll 4
        for (int part = 0; part < splits; ++part) {
          float of_part[kWidth];
          Pack<float, kWidth>::load(partials.parts + part * p.rows * p.columns + place).widen(of_part);
#pragma unroll
          for (int i = 0; i < kWidth; ++i) values[i] = part ? values[i] + of_part[i] : of_part[i];
        }
        if constexpr (kReads) from.widen(x);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          if constexpr (kForward) values[i] = act.forward(values[i] + bias[i], parameters);
          else values[i] = act.gradient(values[i], x[i], parameters);
          if constexpr (!kForward) sum[i] += values[i];
        }
        to.narrow(values);
        to.store(static_cast<T*>(p.c) + place);
      }
    });
  }
  if constexpr (!kForward) {
    if (!p.bias_gradient) return;
    sum_over_rows(sum, kLanes);
    if (threadIdx.x >= kLanes || column >= p.columns) return;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      if (partials.sums) partials.sums[block_row * partials.sum_stride + column + i] = sum[i];
      else static_cast<T*>(p.bias_gradient)[column + i] = Storage<T>::narrow(sum[i]);
    }
  }
}

constexpr int kSumLanes = 32;  // columns of a block that adds column sums

// bias_gradient (columns) = column sums of sums (tiles, columns).
template <class T>
__global__ void __launch_bounds__(kThreads)
    sums_kernel(const float* sums, int64_t tiles, int64_t sum_stride, int64_t columns, T* bias_gradient) {
  const int64_t column = int64_t(blockIdx.x) * kSumLanes + threadIdx.x % kSumLanes;
  float sum[1] = {};
  if (column < columns)
    for (int64_t tile = threadIdx.x / kSumLanes; tile < tiles; tile += kThreads / kSumLanes)
      sum[0] += sums[tile * sum_stride + column];
  sum_over_rows(sum, kSumLanes);
  if (threadIdx.x < kSumLanes && column < columns) bias_gradient[column] = Storage<T>::narrow(sum[0]);
}

unsigned blocks_of(int64_t count, int64_t size) { return unsigned((count + size - 1) / size); }

// Whether threads may move four columns at a time.
bool is_vectorisable(const ProductArguments& p) {
  return p.columns % 4 == 0 && is_aligned(p.c) && is_aligned(p.bias) && is_aligned(p.below) &&
         (!p.below || p.below_stride % 4 == 0);
}

}  // namespace

cudaError_t finish_product(const ProductArguments& p, int splits, const Partials& partials, cudaStream_t stream) {
  const unsigned blocks = blocks_of(p.columns, kBlockColumns) * blocks_of(p.rows, kFinishRows);
  const auto launch = [&](auto storage) {
    using T = decltype(storage);
    const bool forward = p.direction == Direction::kForward;
    const auto kernel = is_vectorisable(p) ? forward ? finish_kernel<T, 4, true> : finish_kernel<T, 4, false>
                        : forward          ? finish_kernel<T, 1, true>
                                           : finish_kernel<T, 1, false>;
    kernel<<<blocks, kThreads, 0, stream>>>(p, partials, splits);
    return cudaGetLastError();
  };
  switch (p.precision) {
    case Precision::kBFloat16:
      return launch(__nv_bfloat16{});
    case Precision::kFloat16:
      return launch(__half{});
    default:
      return launch(float{});
  }
}

cudaError_t finish_sums(Dtype dtype, const float* sums, int64_t tiles, int64_t sum_stride, int64_t columns,
                        void* bias_gradient, cudaStream_t stream) {
  return with_storage(dtype, [&](auto storage) {
    using T = decltype(storage);
    if constexpr (std::is_same_v<T, double>) {
      return cudaErrorInvalidValue;  // no product of ours sums in float64
    } else {
      sums_kernel<<<blocks_of(columns, kSumLanes), kThreads, 0, stream>>>(sums, tiles, sum_stride, columns,
                                                                          static_cast<T*>(bias_gradient));
      return cudaGetLastError();
    }
  });
}

}  // namespace fused_gan::cuda
