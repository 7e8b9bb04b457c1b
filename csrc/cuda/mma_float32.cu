// The sm_80 products in float32, three tf32 products in place of one.
#include "mma_product.cuh"

namespace fused_gan::cuda {

template <>
cudaError_t mma_product<Precision::kFloat32>(const ProductArguments& p, Choice choice, const Partials& partials,
                                             cudaStream_t stream) {
  return mma::product<Precision::kFloat32>(p, choice, partials, stream);
}

}  // namespace fused_gan::cuda
