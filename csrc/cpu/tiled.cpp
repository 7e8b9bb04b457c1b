// What PyTorch's settings want of products on tiles.
#include "tiled.h"

#include <ATen/Context.h>

#include <atomic>

namespace fused_gan::cpu {

int float32_planes() {
  const auto precision = at::globalContext().float32Precision(at::Float32Backend::MKLDNN, at::Float32Op::MATMUL);
  return precision == at::Float32Precision::BF16 ? 1 : 3;
}

static std::atomic<int64_t> least_work = kNever;
int64_t three_planes_from() { return least_work.load(std::memory_order_relaxed); }
void set_three_planes_from(int64_t work) { least_work = work; }

}  // namespace fused_gan::cpu
