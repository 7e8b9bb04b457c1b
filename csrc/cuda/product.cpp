// A product from its kernels: the one that multiplies, and those that finish what it was cut into.
#include "product.h"

#include "kernel_facts.h"

namespace fused_gan::cuda {
namespace {

// How the scratch memory is divided, in elements.
struct Layout {
  Launches launches;
  int64_t sum_stride;
  int64_t sums;  // of all row tiles; 0 where one tile writes the bias gradient itself
  int64_t parts;
};

Layout layout_of(const ProductArguments& p, Choice choice) {
  const int columns = std::max(facts(choice.kernel).columns, 1);
  Layout layout{launches_of(choice, p.direction, p.rows, p.bias_gradient)};
  layout.parts = layout.launches.finishes ? choice.splits * p.rows * p.columns : 0;
  // CUTLASS writes the column sums of whole tiles, also where one sticks out of the matrix.
  layout.sum_stride = (p.columns + columns - 1) / columns * columns;
  layout.sums = layout.launches.adds_sums ? layout.launches.row_tiles * layout.sum_stride : 0;
  return layout;
}

Dtype dtype_of(Precision precision) {
  if (precision == Precision::kBFloat16) return Dtype::kBFloat16;
  return precision == Precision::kFloat16 ? Dtype::kFloat16 : Dtype::kFloat32;
}

template <Precision kPrecision>
cudaError_t multiply(const ProductArguments& p, Choice choice, const Partials& partials, cudaStream_t stream) {
  if (!is_wgmma(choice.kernel)) return mma_product<kPrecision>(p, choice, partials, stream);
#ifdef FUSED_GAN_WITH_WGMMA
  if (p.direction == Direction::kForward) {
    if constexpr (exists(Kernel::kWgmma128x128, kPrecision, Direction::kForward))
      return wgmma_product<kPrecision, Direction::kForward>(p, choice, partials, stream);
  } else {
    if constexpr (exists(Kernel::kWgmma128x128, kPrecision, Direction::kBackward))
      return wgmma_product<kPrecision, Direction::kBackward>(p, choice, partials, stream);
  }
#endif
  return cudaErrorInvalidValue;
}

cudaError_t multiply_any(const ProductArguments& p, Choice choice, const Partials& partials, cudaStream_t stream) {
  switch (p.precision) {
    case Precision::kBFloat16:
      return multiply<Precision::kBFloat16>(p, choice, partials, stream);
    case Precision::kFloat16:
      return multiply<Precision::kFloat16>(p, choice, partials, stream);
    case Precision::kTf32:
      return multiply<Precision::kTf32>(p, choice, partials, stream);
    case Precision::kFloat32:
      return multiply<Precision::kFloat32>(p, choice, partials, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

int64_t product_workspace(const ProductArguments& p, Choice choice) {
  const Layout layout = layout_of(p, choice);
  return (layout.sums + layout.parts) * int64_t(sizeof(float));
}

cudaError_t product(const ProductArguments& p, Choice choice, void* workspace, cudaStream_t stream) {
  if (!is_inlined(p.activation.index)) return cudaErrorInvalidValue;
  if (p.rows == 0 || p.columns == 0) {
    // Nothing to multiply; a bias gradient over no rows is zero.
    if (p.direction == Direction::kForward || !p.bias_gradient || p.columns == 0) return cudaSuccess;
    return cudaMemsetAsync(p.bias_gradient, 0, p.columns * element_bytes(p.precision), stream);
  }
  const Layout layout = layout_of(p, choice);
  float* scratch = static_cast<float*>(workspace);
  const Partials partials{layout.sums ? scratch : nullptr, layout.sum_stride,
                          layout.parts ? scratch + layout.sums : nullptr};
  cudaError_t error = multiply_any(p, choice, partials, stream);
  if (error == cudaSuccess && layout.parts) error = finish_product(p, choice.splits, partials, stream);
  if (error == cudaSuccess && layout.sums)
    error = finish_sums(dtype_of(p.precision), partials.sums, layout.launches.row_tiles, layout.sum_stride, p.columns,
                        p.bias_gradient, stream);
  return error;
}

}  // namespace fused_gan::cuda
