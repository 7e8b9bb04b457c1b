// The name of each product kernel, what it asks of its arguments, and how a product is cut for it. Pure arithmetic on
// the host, for the launchers and the plan.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string_view>

#include "alignment.h"
#include "product.h"

namespace fused_gan::cuda {

struct KernelFacts {
  Kernel kernel;
  std::string_view name;
  int rows, columns;     // of a block's tile
  bool aligned;          // wants every row of every matrix to begin at a multiple of 16 bytes
  bool splits;           // can cut the depth into parts
  int least_capability;  // ten times the major version, plus the minor one
  int most_capability;
};
constexpr int kNewest = 1 << 20;
constexpr std::array kKernels = {
    KernelFacts{Kernel::kLibrary, "library", 0, 0, false, false, 0, kNewest},
    KernelFacts{Kernel::kWgmma128x256, "wgmma_128x256", 128, 256, true, false, 90, 90},
    KernelFacts{Kernel::kWgmma128x128, "wgmma_128x128", 128, 128, true, false, 90, 90},
    KernelFacts{Kernel::kMma128x128, "mma_128x128", 128, 128, true, true, 80, kNewest},
    KernelFacts{Kernel::kMma64x64, "mma_64x64", 64, 64, true, true, 80, kNewest},
    KernelFacts{Kernel::kMma32x32, "mma_32x32", 32, 32, true, true, 80, kNewest},
    KernelFacts{Kernel::kMmaAny, "mma_any", 64, 64, false, true, 80, kNewest},
};
constexpr bool in_order_of_the_enumeration() {
  for (size_t i = 0; i < kKernels.size(); ++i)
    if (kKernels[i].kernel != Kernel(i)) return false;
  return kKernels.size() == size_t(Kernel::kMmaAny) + 1;
}
static_assert(in_order_of_the_enumeration());
constexpr const KernelFacts& facts(Kernel kernel) { return kKernels[size_t(kernel)]; }

inline const KernelFacts* find_kernel(std::string_view name) {
  for (const KernelFacts& kernel : kKernels)
    if (kernel.name == name) return &kernel;
  return nullptr;
}

constexpr bool is_wgmma(Kernel kernel) { return kernel == Kernel::kWgmma128x256 || kernel == Kernel::kWgmma128x128; }

// Whether a kernel was written for a precision and direction: wgmma reads tf32 operands along the depth only, and
// float32's two parts of a factor would have to be split in shared memory.
constexpr bool exists(Kernel kernel, Precision precision, Direction direction) {
  if (!is_wgmma(kernel)) return true;
  return precision != Precision::kFloat32 && (precision != Precision::kTf32 || direction == Direction::kForward);
}

// Whether it is compiled into this library.
constexpr bool is_built([[maybe_unused]] Kernel kernel) {
#ifdef FUSED_GAN_WITH_WGMMA
  return true;
#else
  return !is_wgmma(kernel);
#endif
}

constexpr int element_bytes(Precision precision) {
  return precision == Precision::kBFloat16 || precision == Precision::kFloat16 ? 2 : 4;
}

// Bytes of the depth that a kernel takes in one stage.
constexpr int kStageDepthBytes = 128;

// The depth of one of `splits` parts: whole stages, the last part takes what is left.
constexpr int64_t depth_part(int64_t depth, int splits, int stage_depth) {
  const int64_t stages = (depth + stage_depth - 1) / stage_depth;
  return std::max<int64_t>(1, (stages + splits - 1) / splits) * stage_depth;
}

// As many parts as are not empty, at most `wanted`.
constexpr int useful_splits(int64_t depth, int wanted, Precision precision) {
  const int stage_depth = kStageDepthBytes / element_bytes(precision);
  const int64_t part = depth_part(depth, wanted, stage_depth);
  return int(std::max<int64_t>(1, (depth + part - 1) / part));
}

// Whether every row of every matrix begins at a multiple of 16 bytes.
inline bool is_aligned(const ProductArguments& p) {
  const int64_t width = 16 / element_bytes(p.precision);
  const auto fits = [&](const void* data, int64_t stride) { return is_aligned(data) && stride % width == 0; };
  return fits(p.a, p.a_stride) && fits(p.b, p.b_stride) && fits(p.c, p.columns) && is_aligned(p.bias) &&
         fits(p.below, p.below_stride);
}

// c (rows, columns) from a depth, and what the epilogue is for.
struct Shape {
  Precision precision;
  Direction direction;
  int64_t rows, columns, depth;
  bool aligned;   // as is_aligned says
  bool epilogue;  // whether a product without one needs a pointwise kernel after it
  bool operator==(const Shape&) const = default;
};

// The kernels of a product. The plan counts them, and `product` launches them.
struct Launches {
  int64_t row_tiles;  // of which, backward, each has column sums
  bool finishes;      // a second kernel adds the parts of the depth
  bool adds_sums;     // one more adds the column sums of several tiles; CUTLASS's always leave theirs in memory
  constexpr int count() const { return 1 + finishes + adds_sums; }
};
constexpr Launches launches_of(Choice choice, Direction direction, int64_t rows, bool bias_gradient) {
  const KernelFacts& kernel = facts(choice.kernel);
  const bool finishes = choice.splits > 1;
  const int64_t tile = finishes ? kFinishRows : std::max(kernel.rows, 1), row_tiles = (rows + tile - 1) / tile;
  return {row_tiles, finishes,
          direction == Direction::kBackward && bias_gradient && (row_tiles > 1 || is_wgmma(choice.kernel))};
}

// Why a kernel cannot run on a device; empty where it can.
inline std::string_view obstacle(Kernel kernel, const Shape& shape, int capability) {
  const KernelFacts& k = facts(kernel);
  if (!exists(kernel, shape.precision, shape.direction)) return "no such kernel for this precision and direction";
  if (!is_built(kernel)) return "not in this build, which was made without CUTLASS or without sm_90a";
  if (capability < k.least_capability || capability > k.most_capability) return "made for another compute capability";
  if (k.aligned && !shape.aligned) return "rows do not begin at multiples of 16 bytes";
  constexpr int64_t kInt = std::numeric_limits<int>::max();
  if (is_wgmma(kernel) && (shape.rows > kInt || shape.columns > kInt || shape.depth > kInt))
    return "a size is over 2³¹";
  if (is_wgmma(kernel) && shape.depth == 0) return "nothing to add up";
  // CUTLASS refuses it, though rows of a padded matrix may well begin at multiples of 16 bytes.
  if (is_wgmma(kernel) && shape.depth % (16 / element_bytes(shape.precision)) != 0)
    return "a row's elements do not fill multiples of 16 bytes";
  return {};
}

}  // namespace fused_gan::cuda
