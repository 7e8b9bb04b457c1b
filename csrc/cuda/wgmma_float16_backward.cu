// The sm_90a products in float16, backward.
#include "wgmma_product.cuh"

namespace fused_gan::cuda {

template <>
cudaError_t wgmma_product<Precision::kFloat16, Direction::kBackward>(const ProductArguments& p, Choice choice,
                                                                     const Partials& partials, cudaStream_t stream) {
  return wgmma::product<Precision::kFloat16, Direction::kBackward>(p, choice, partials, stream);
}

}  // namespace fused_gan::cuda
