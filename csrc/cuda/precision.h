// What PyTorch's settings want of a float32 product.
#pragma once

#include "product.h"

namespace fused_gan::cuda {

// kTf32 or kFloat32, as set by the old API (allow_tf32, set_float32_matmul_precision) or the new one (fp32_precision).
Precision float32_precision();

}  // namespace fused_gan::cuda
