// dz = dy ⊙ act' and the bias gradient, the column sums of dz, in one pass. Each block takes a strip of columns and
// a chunk of rows (gradient_plan.h). Sums run in a fixed order: down a thread's rows, then over the block's threads by
// halving, then over the chunks in a second small kernel where there are several. Blocks never talk to each other: no
// atomics, no counters to reset, no fences, nothing that two streams or two graph replays could share.
#include <bit>
#include <type_traits>

#include "../activations.h"
#include "alignment.h"
#include "gradient_plan.h"
#include "storage.cuh"

namespace fused_gan::cuda {
namespace {

// Rows that a thread asks for before it needs the first: enough bytes on their way to hide memory's latency.
// The activations that products do not have inside need their registers for arithmetic.
template <class T, int kWidth, ActivationClass kClass>
constexpr int kInFlight = (kWidth * sizeof(T) >= 8 ? 2 : 4) / (kClass == ActivationClass::kInlined ? 1 : 2);
// In float64 their arithmetic would spill with as many blocks as all others.
template <class T, ActivationClass kClass>
constexpr int kResidentBlocks =
    !std::is_same_v<T, double> || kClass == ActivationClass::kInlined ? GradientPlan::kResidentBlocks
    : kClass == ActivationClass::kOther                               ? 3
                                                                      : 2;
constexpr int kPartialLanes = 8, kPartialRows = GradientPlan::kThreads / kPartialLanes;

// sum[i] over the threads of a block that share a lane. Complete in the block's first row, threads [0, 2^lane_bits).
template <int kWidth, class A> __device__ void sum_over_rows(A (&sum)[kWidth], int lane_bits) {
  __shared__ A shared[kWidth][GradientPlan::kThreads];
  const int thread = threadIdx.x;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) shared[i][thread] = sum[i];
  for (int half = blockDim.x / 2; half >> lane_bits > 0; half /= 2) {
    __syncthreads();
    if (thread >= half) continue;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) shared[i][thread] = sum[i] += shared[i][thread + half];
  }
}

// dy, kept (rows, columns); dz (rows, columns), contiguous, or null; bias_gradient (columns) or null;
// partial (chunks, columns), used where there are several chunks. kWidth > 1: columns side by side, all of it aligned.
template <class T, int kWidth, ActivationClass kClass>
__global__ void __launch_bounds__(GradientPlan::kThreads, kResidentBlocks<T, kClass>)
    gradient_kernel(Matrix dy, Matrix kept, T* dz, T* bias_gradient, Wide<T>* partial, int64_t rows, int64_t columns,
                    int64_t chunk_rows, int lane_bits, int activation, Parameters<Wide<T>> parameters,
                    Scale<Wide<T>> scale) {
  const int lane = threadIdx.x & ((1 << lane_bits) - 1), row_step = blockDim.x >> lane_bits;
  const int64_t column = ((int64_t(blockIdx.x) << lane_bits) + lane) * kWidth;
  const int64_t end = min((blockIdx.y + 1) * chunk_rows, rows);
  int64_t row = blockIdx.y * chunk_rows + (threadIdx.x >> lane_bits);
  // Where this thread reads and writes, and how far it is to its next row.
  const T* upper = static_cast<const T*>(dy.data) + row * dy.row_stride + column * dy.column_stride;
  const T* read = static_cast<const T*>(kept.data) + row * kept.row_stride + column * kept.column_stride;
  T* result = dz + row * columns + column;
  const int64_t upper_step = row_step * dy.row_stride, read_step = row_step * kept.row_stride;
  const int64_t result_step = row_step * columns;
  Wide<T> sum[kWidth] = {};

  if (column < columns) {
    visit<kClass>(activation, scale, [&](auto act) {
      // Identity with a gain alone reads nothing, which is seen at run time.
      const bool reads =
          kClass == ActivationClass::kScaled ? kept.data != nullptr : !std::is_same_v<decltype(act), Identity>;
      constexpr int kRows = kInFlight<T, kWidth, kClass>;
      for (; row < end; row += kRows * row_step) {
        Pack<T, kWidth> up[kRows], from[kRows];
#pragma unroll
        for (int k = 0; k < kRows; ++k) {
          if (row + k * row_step >= end) continue;
          up[k] = Pack<T, kWidth>::load(upper + k * upper_step);
          if (reads) from[k] = Pack<T, kWidth>::load(read + k * read_step);
        }
#pragma unroll
        for (int k = 0; k < kRows; ++k) {
          if (row + k * row_step >= end) continue;
          Wide<T> dy_k[kWidth], x_k[kWidth] = {};
          up[k].widen(dy_k);
          if (reads) from[k].widen(x_k);
#pragma unroll
          for (int i = 0; i < kWidth; ++i) {
            dy_k[i] = act.gradient(dy_k[i], x_k[i], parameters);
            sum[i] += dy_k[i];
          }
          up[k].narrow(dy_k);
          if (dz) up[k].store(result + k * result_step);
        }
        upper += kRows * upper_step;
        read += kRows * read_step;
        result += kRows * result_step;
      }
    });
  }

  if (!bias_gradient) return;
  sum_over_rows(sum, lane_bits);
  if (threadIdx.x >> lane_bits > 0 || column >= columns) return;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if (gridDim.y == 1) bias_gradient[column + i] = Storage<T>::narrow(sum[i]);
    else partial[blockIdx.y * columns + column + i] = sum[i];
  }
}

// bias_gradient (columns) = column sums of partial (chunks, columns).
template <class T>
__global__ void __launch_bounds__(GradientPlan::kThreads)
    add_partial_sums_kernel(const Wide<T>* partial, int64_t chunks, int64_t columns, T* bias_gradient) {
  const int64_t column = int64_t(blockIdx.x) * kPartialLanes + threadIdx.x % kPartialLanes;
  Wide<T> sum[1] = {};
  if (column < columns)
    for (int64_t chunk = threadIdx.x / kPartialLanes; chunk < chunks; chunk += kPartialRows)
      sum[0] += partial[chunk * columns + column];
  sum_over_rows(sum, std::countr_zero(unsigned(kPartialLanes)));
  if (threadIdx.x < kPartialLanes && column < columns) bias_gradient[column] = Storage<T>::narrow(sum[0]);
}

// Whether threads may load and store 16 bytes at a time.
template <class T> bool is_vectorisable(const GradientArguments& a) {
  const auto fits = [&](const Matrix& m) {
    return is_aligned(m.data) && m.column_stride == 1 && (a.rows == 1 || m.row_stride % kVector<T> == 0);
  };
  return a.columns % kVector<T> == 0 && fits(a.dy) && (!a.kept.data || fits(a.kept)) && is_aligned(a.dz);
}

template <class T> GradientPlan plan_for(const GradientArguments& a) {
  return plan_gradient(a.rows, a.columns, is_vectorisable<T>(a) ? kVector<T> : 1, sizeof(T), a.bias_gradient,
                       a.multiprocessors);
}

}  // namespace

int64_t gradient_workspace(const GradientArguments& a) {
  if (!a.bias_gradient) return 0;
  const int64_t chunks = with_storage(a.dtype, [&](auto storage) { return plan_for<decltype(storage)>(a).chunks; });
  return chunks > 1 ? chunks * a.columns : 0;
}

cudaError_t gradient(const GradientArguments& a, void* workspace, cudaStream_t stream) {
  if (a.columns == 0) return cudaSuccess;
  return with_storage(a.dtype, [&](auto storage) {
    using T = decltype(storage);
    const GradientPlan plan = plan_for<T>(a);
    const bool vectors = is_vectorisable<T>(a);
    const auto kernel = with_class(a.activation, [&](auto known) {
      return vectors ? gradient_kernel<T, kVector<T>, decltype(known)::value>
                     : gradient_kernel<T, 1, decltype(known)::value>;
    });
    auto* bias_gradient = static_cast<T*>(a.bias_gradient);
    auto* partial = static_cast<Wide<T>*>(workspace);
    kernel<<<dim3(unsigned(plan.strips), unsigned(plan.chunks)), plan.threads, 0, stream>>>(
        a.dy, a.kept, static_cast<T*>(a.dz), bias_gradient, partial, a.rows, a.columns, plan.chunk_rows, plan.lane_bits,
        a.activation.index, a.activation.template parameters_in<Wide<T>>(), a.activation.template scale_in<Wide<T>>());
    cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess && bias_gradient && plan.chunks > 1) {
      const int64_t blocks = (a.columns + kPartialLanes - 1) / kPartialLanes;
      add_partial_sums_kernel<T>
          <<<unsigned(blocks), GradientPlan::kThreads, 0, stream>>>(partial, plan.chunks, a.columns, bias_gradient);
      error = cudaGetLastError();
    }
    return error;
  });
}

}  // namespace fused_gan::cuda
