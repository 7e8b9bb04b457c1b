// What PyTorch's settings want of products on tiles.
#include "tiled.h"

#include <ATen/Context.h>

#include <atomic>

namespace fused_gan::cpu {

Float32Setting float32_setting() {
  switch (at::globalContext().float32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL)) {
    case at::Float32Precision::BF16:
      return Float32Setting::kBFloat16;
    case at::Float32Precision::TF32:
      return Float32Setting::kTf32;
    default:
      return Float32Setting::kFull;
  }
}

static std::atomic<int64_t> least_work = kNever;
int64_t three_planes_from() { return least_work.load(std::memory_order_relaxed); }
void set_three_planes_from(int64_t work) { least_work = work; }

}  // namespace fused_gan::cpu
