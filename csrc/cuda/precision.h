// What PyTorch's settings want of a float32 product.
#pragma once

#include "product.h"

namespace fused_gan::cuda {

// kTf32 where PyTorch's settings allow it, by the old API (allow_tf32, set_float32_matmul_precision) or the new one
// (fp32_precision), and cuBLAS would make use of it; kFloat32 otherwise.
Precision float32_precision(int64_t rows, int64_t columns, int64_t depth);

}  // namespace fused_gan::cuda
