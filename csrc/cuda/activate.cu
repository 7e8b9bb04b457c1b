// y = act(z + bias), in place or not, on the memory as one flat run: 16 bytes per access whatever the number of
// columns.
#include <algorithm>

#include "../activations.h"
#include "storage.cuh"

namespace fused_gan::cuda {
namespace {

constexpr int kThreads = 256;
// Blocks of a multiprocessor at the same time, which the kernels' registers allow, and vectors that a thread has asked
// for before it needs the first.
template <ActivationClass kClass> constexpr int kResidentBlocks = kClass == ActivationClass::kInlined ? 6 : 5;
template <ActivationClass kClass> constexpr int kVectorsInFlight = kClass == ActivationClass::kInlined ? 2 : 1;

// z, y (count), of which the first `head` elements lie before the first 16-byte boundary; bias (columns) or null. z may
// be y: each thread writes only what it alone has read.
template <class T, ActivationClass kClass>
__global__ void __launch_bounds__(kThreads, kResidentBlocks<kClass>)
    activate_kernel(const T* z, T* y, const T* __restrict__ bias, int64_t count, int64_t columns, int head,
                    int activation, Parameters<Wide<T>> parameters, Scale<Wide<T>> scale) {
  constexpr int kWidth = kVector<T>, kInFlight = kVectorsInFlight<kClass>;
  const int64_t thread = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, threads = int64_t(gridDim.x) * blockDim.x;
  const int64_t vectors = (count - head) / kWidth;

  // Chosen once for all vectors of a thread: a choice for each element takes up to half as many instructions again.
  visit<kClass>(activation, scale, [&](auto act) {
    // What `pack` holds of z, from z[at] on, activated.
    const auto apply = [&]<int kCount>(Pack<T, kCount>& pack, int64_t at) {
      Wide<T> values[kCount];
      pack.widen(values);
      if (bias) {
        int64_t column = at % columns;
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          values[i] += Storage<T>::widen(bias[column]);
          if (++column == columns) column = 0;
        }
      }
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[i] = act.forward(values[i], parameters);
      pack.narrow(values);
    };

    for (int64_t first = thread; first < vectors; first += kInFlight * threads) {
      Pack<T, kWidth> packs[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int64_t vector = first + i * threads;
        if (vector < vectors) packs[i] = Pack<T, kWidth>::load(z + head + vector * kWidth);
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int64_t vector = first + i * threads, at = head + vector * kWidth;
        if (vector >= vectors) continue;
        apply(packs[i], at);
        packs[i].store(y + at);
      }
    }

    // What lies before the first boundary and behind the last: fewer elements than a block has threads.
    if (thread < count - vectors * kWidth) {
      const int64_t at = thread < head ? thread : thread + vectors * kWidth;
      auto pack = Pack<T, 1>::load(z + at);
      apply(pack, at);
      pack.store(y + at);
    }
  });
}

template <class T, ActivationClass kClass> cudaError_t launch(const ActivateArguments& a, cudaStream_t stream) {
  const auto to_boundary = [](const void* data) { return -reinterpret_cast<uintptr_t>(data) % 16 / sizeof(T); };
  if (to_boundary(a.z) != to_boundary(a.y)) return cudaErrorInvalidValue;
  const int64_t count = a.rows * a.columns, head = std::min<int64_t>(count, to_boundary(a.z));
  const int64_t vectors = (count - head) / kVector<T> + 1;
  // Small work in small blocks, so that it reaches every multiprocessor; large work in as many as can be resident.
  const int threads = vectors < int64_t(kThreads) * a.multiprocessors ? kThreads / 4 : kThreads;
  const int64_t blocks =
      std::min<int64_t>((vectors + threads - 1) / threads, int64_t(kResidentBlocks<kClass>) * a.multiprocessors);
  activate_kernel<T, kClass><<<unsigned(blocks), threads, 0, stream>>>(
      static_cast<const T*>(a.z), static_cast<T*>(a.y), static_cast<const T*>(a.bias), count, a.columns, int(head),
      a.activation.index, a.activation.template parameters_in<Wide<T>>(), a.activation.template scale_in<Wide<T>>());
  return cudaGetLastError();
}

}  // namespace

cudaError_t activate(const ActivateArguments& a, cudaStream_t stream) {
  if (a.rows * a.columns == 0) return cudaSuccess;
  return with_storage(a.dtype, [&](auto storage) {
    using T = decltype(storage);
    return with_class(a.activation, [&](auto known) { return launch<T, decltype(known)::value>(a, stream); });
  });
}

}  // namespace fused_gan::cuda
