// The products with the activation inside: what they compute, which kernels there are, and how the host launches them.
// Raw pointers, sizes, strides and a stream, no torch: layers.cpp is the host file, tests/cuda runs them without a GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "pointwise.h"

namespace fused_gan::cuda {

// What a product reads and writes, and how it multiplies. Sums are float32 everywhere.
enum class Precision {
  kBFloat16,
  kFloat16,
  kTf32,     // float32 in memory, 11 bits of it multiplied
  kFloat32,  // float32 in memory, each factor as the sum of two tf32 numbers, three products of the four
};
constexpr int kPrecisions = 4;

enum class Direction {
  kForward,   // y = act(x Wᵀ + bias)
  kBackward,  // dz_below = (dz W) ⊙ act'_below, and its column sums, the gradient of the bias below
};
constexpr int kDirections = 2;

// One of InlinedActivations, without gain and limit; none of them takes more than one number. With room for two among
// their arguments ptxas gives some product kernels a third more registers.
struct ProductActivation {
  int index;
  double parameter;

  // Of no activation with a gain or a limit, which a kernel of its own applies.
  constexpr ProductActivation(Activation of = kIdentity)
      : index(is_scaled(of) ? -1 : of.index), parameter(of.parameters.first) {}
  FUSED_GAN_FUNCTION Parameters<float> parameters() const { return {float(parameter), 0}; }
};

// c (rows, columns) = epilogue(a (rows, depth) · b). Rows of a, b and below lie `_stride` elements apart, and their
// elements side by side.
struct ProductArguments {
  Precision precision;
  Direction direction;
  ProductActivation activation;  // backward: of the layer below
  const void* a;                 // x, or dz
  const void* b;                 // W: forward (columns, depth), backward (depth, columns)
  int64_t a_stride, b_stride;
  const void* bias;   // forward: (columns) or null
  const void* below;  // backward: what that activation's gradient reads (rows, columns); null for identity
  int64_t below_stride;
  void* c;              // (rows, columns), contiguous
  void* bias_gradient;  // backward: (columns) or null
  int64_t rows, columns, depth;
  int multiprocessors;
};

// The kernels. Which of them exist for a precision and a direction, and what they ask of the arguments, says
// kernel_facts.h.
enum class Kernel {
  kLibrary,       // cuBLAS and one pointwise kernel
  kWgmma128x256,  // sm_90a: operands by the copy engine, multiplied by warp groups
  kWgmma128x128,
  kMma128x128,  // sm_80 and newer
  kMma64x64,
  kMma32x32,
  kMmaAny,  // 64 × 64, operands of any alignment
};

// A kernel, and into how many parts the depth is cut; the parts are added, and the epilogue done, by a second kernel.
struct Choice {
  Kernel kernel;
  int splits = 1;
};

// Bytes that `product` needs as scratch memory, uninitialised, 16-byte aligned; often 0.
int64_t product_workspace(const ProductArguments&, Choice);
// Equal calls give equal bits: sums have an order that sizes, strides, alignment and choice decide. `choice` must be
// able to run (kernel_facts.h); no kernel but kLibrary is refused for its speed.
cudaError_t product(const ProductArguments&, Choice, void* workspace, cudaStream_t);

// ---- what product.cpp puts together --------------------------------------------------------------------------------
// Where a kernel leaves what is finished later: sums over a tile's rows, or over a part of the depth. Either may be
// null.
struct Partials {
  float* sums;         // (row tiles, columns): column sums of each tile; null: straight into the bias gradient
  int64_t sum_stride;  // elements from tile to tile
  float* parts;        // (splits, rows, columns): products of parts of the depth, without epilogue
};
template <Precision> cudaError_t mma_product(const ProductArguments&, Choice, const Partials&, cudaStream_t);
template <Precision, Direction>
cudaError_t wgmma_product(const ProductArguments&, Choice, const Partials&, cudaStream_t);
// c = epilogue(sum of parts), and the column sums, into `sums` where there are several blocks of rows.
cudaError_t finish_product(const ProductArguments&, int splits, const Partials&, cudaStream_t);
constexpr int kFinishRows = 64;  // of a block
// bias_gradient (columns) = column sums of sums (tiles, columns), rows sum_stride apart.
cudaError_t finish_sums(Dtype, const float* sums, int64_t tiles, int64_t sum_stride, int64_t columns,
                        void* bias_gradient, cudaStream_t);

}  // namespace fused_gan::cuda
