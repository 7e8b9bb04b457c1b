// What is left after a product whose depth, or whose rows, were cut into parts: the parts are added in their order, and
// the epilogue is done. A product for few rows has too few tiles to fill a device; cut along the depth it has more, and
// this small kernel after it costs less than the multiprocessors that would have idled.
#include <type_traits>

#include "../activations.h"
#include "product.h"
#include "storage.cuh"

namespace fused_gan::cuda {
namespace {

constexpr int kLanes = 32, kRowStep = 8, kThreads = kLanes * kRowStep;  // a block's columns, and rows at a time
constexpr int kBlockRows = 64;

// The sum over the threads of a block that share a lane, complete in threads [0, kLanes).
__device__ float sum_over_rows(float sum) {
  __shared__ float shared[kThreads];
  shared[threadIdx.x] = sum;
#pragma unroll
  for (int half = kThreads / 2; half >= kLanes; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] = sum += shared[threadIdx.x + half];
  }
  return sum;
}

// parts (splits, rows, columns) -> c (rows, columns); backward: the column sums of each block's rows.
template <class T, bool kForward>
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const ProductArguments p, const Partials partials, int splits) {
  const unsigned blocks_across = unsigned((p.columns + kLanes - 1) / kLanes), block_row = blockIdx.x / blocks_across;
  const int64_t column = int64_t(blockIdx.x % blocks_across) * kLanes + threadIdx.x % kLanes;
  const int64_t row = int64_t(block_row) * kBlockRows, end = min(row + kBlockRows, p.rows);
  float sum = 0;
  if (column < p.columns) {
    const float bias = kForward && p.bias ? Storage<T>::widen(static_cast<const T*>(p.bias)[column]) : 0.f;
    InlinedActivations::visit(p.activation.index, [&](auto act) {
      const Parameters<float> parameters = p.activation.parameters();
      for (int64_t r = row + threadIdx.x / kLanes; r < end; r += kRowStep) {
        const int64_t place = r * p.columns + column;
        float value = partials.parts[place];
        for (int part = 1; part < splits; ++part) value += partials.parts[part * p.rows * p.columns + place];
        if constexpr (kForward) {
          value = act.forward(value + bias, parameters);
        } else {
          float x = 0;
          if constexpr (!std::is_same_v<decltype(act), Identity>)
            x = Storage<T>::widen(static_cast<const T*>(p.below)[r * p.below_stride + column]);
          sum += value = act.gradient(value, x, parameters);
        }
        static_cast<T*>(p.c)[place] = Storage<T>::narrow(value);
      }
    });
  }
  if constexpr (!kForward) {
    if (!p.bias_gradient) return;
    sum = sum_over_rows(sum);
    if (threadIdx.x >= kLanes || column >= p.columns) return;
    if (partials.sums) partials.sums[block_row * partials.sum_stride + column] = sum;
    else static_cast<T*>(p.bias_gradient)[column] = Storage<T>::narrow(sum);
  }
}

// bias_gradient (columns) = column sums of sums (tiles, columns).
template <class T>
__global__ void __launch_bounds__(kThreads)
    sums_kernel(const float* sums, int64_t tiles, int64_t sum_stride, int64_t columns, T* bias_gradient) {
  const int64_t column = int64_t(blockIdx.x) * kLanes + threadIdx.x % kLanes;
  float sum = 0;
  if (column < columns)
    for (int64_t tile = threadIdx.x / kLanes; tile < tiles; tile += kRowStep) sum += sums[tile * sum_stride + column];
  sum = sum_over_rows(sum);
  if (threadIdx.x < kLanes && column < columns) bias_gradient[column] = Storage<T>::narrow(sum);
}

unsigned column_blocks(int64_t columns) { return unsigned((columns + kLanes - 1) / kLanes); }

}  // namespace

int64_t finish_row_blocks(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

cudaError_t finish_product(const ProductArguments& p, int splits, const Partials& partials, cudaStream_t stream) {
  const unsigned blocks = column_blocks(p.columns) * unsigned(finish_row_blocks(p.rows));
  const auto launch = [&](auto storage) {
    using T = decltype(storage);
    const auto kernel = p.direction == Direction::kForward ? finish_kernel<T, true> : finish_kernel<T, false>;
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
      sums_kernel<<<column_blocks(columns), kThreads, 0, stream>>>(sums, tiles, sum_stride, columns,
                                                                   static_cast<T*>(bias_gradient));
      return cudaGetLastError();
    }
  });
}

}  // namespace fused_gan::cuda
