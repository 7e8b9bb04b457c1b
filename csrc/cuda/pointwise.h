// The hand-written CUDA kernels around a product: what they compute and how the host launches them. Raw pointers,
// sizes, strides and a stream, no torch: layers.cpp is the host file, tests/cuda runs them without a GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../activations.h"

namespace fused_gan::cuda {

// Arithmetic is float, for kFloat64 double.
enum class Dtype { kFloat32, kFloat64, kBFloat16, kFloat16 };

// Element (r, c) is data[r * row_stride + c * column_stride]; a stride may be 0.
struct Matrix {
  const void* data;
  int64_t row_stride, column_stride;  // in elements
};

// y = act(z + bias).
struct ActivateArguments {
  Dtype dtype;
  Activation activation;
  const void* z;     // (rows, columns), contiguous
  void* y;           // the same, as far before a 16-byte boundary; may be z, and must not overlap it otherwise
  const void* bias;  // (columns) or null
  int64_t rows, columns;
  int multiprocessors;  // of the device, to spread the work over
};
cudaError_t activate(const ActivateArguments&, cudaStream_t);

// dz = dy ⊙ act' and bias_gradient = column sums of dz, each only where its pointer is not null, in one pass over dy
// and what the activation's gradient reads. The sums are taken before dz is rounded to its dtype, in an order that
// sizes, strides, alignment and `multiprocessors` decide: equal calls give equal bits.
struct GradientArguments {
  Dtype dtype;
  Activation activation;
  Matrix dy;            // (rows, columns)
  Matrix kept;          // (rows, columns): y or z, as the activation says; none where it reads nothing
  void* dz;             // (rows, columns), contiguous, or null
  void* bias_gradient;  // (columns) or null
  int64_t rows, columns;
  int multiprocessors;
};
// Elements of the arithmetic type that `gradient` needs as scratch memory, uninitialised; often 0.
int64_t gradient_workspace(const GradientArguments&);
cudaError_t gradient(const GradientArguments&, void* workspace, cudaStream_t);

}  // namespace fused_gan::cuda
