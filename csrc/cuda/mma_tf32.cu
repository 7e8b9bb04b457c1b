// The sm_80 products in float32 multiplied as tf32.
#include "mma_product.cuh"

namespace fused_gan::cuda {

template <>
cudaError_t mma_product<Precision::kTf32>(const ProductArguments& p, Choice choice, const Partials& partials,
                                          cudaStream_t stream) {
  return mma::product<Precision::kTf32>(p, choice, partials, stream);
}

}  // namespace fused_gan::cuda
