// The sm_80 products in bfloat16.
#include "mma_product.cuh"

namespace fused_gan::cuda {

template <>
cudaError_t mma_product<Precision::kBFloat16>(const ProductArguments& p, Choice choice, const Partials& partials,
                                              cudaStream_t stream) {
  return mma::product<Precision::kBFloat16>(p, choice, partials, stream);
}

}  // namespace fused_gan::cuda
