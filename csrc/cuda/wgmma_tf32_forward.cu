// The sm_90a products in tf32, forward.
#include "wgmma_product.cuh"

namespace fused_gan::cuda {

template <>
cudaError_t wgmma_product<Precision::kTf32, Direction::kForward>(const ProductArguments& p, Choice choice,
                                                                 const Partials& partials, cudaStream_t stream) {
  return wgmma::product<Precision::kTf32, Direction::kForward>(p, choice, partials, stream);
}

}  // namespace fused_gan::cuda
