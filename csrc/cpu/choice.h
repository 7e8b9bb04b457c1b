// Which kernel multiplies a layer on CPU: one that was measured for its shape and the threads in use
// (fused_gan.autotune()), or else what the tables in plan.h and tile_plan.h say.
#pragma once

#include <array>
#include <string>

#include "tile_plan.h"

namespace fused_gan::cpu {

enum class Kernel {
  kBlocks,   // kernels.inl, paired.inl: blocks of vectors, pairs, widened blocks, dots
  kTiles,    // tile_products.inl
  kLibrary,  // torch's product, then one pass
};
enum class Direction {
  kForward,   // y
  kBackward,  // dx and dW, or the one of them that is asked for
};
enum class Precision { kFloat32, kFloat64, kBFloat16, kFloat16, kFloat32AsTf32, kFloat32AsBFloat16 };

// The names that Python knows, in the order of the enumerations.
inline constexpr std::array kKernelNames = {"blocks", "tiles", "library"};
inline constexpr std::array kDirectionNames = {"forward", "backward"};
inline constexpr std::array kPrecisionNames = {"float32", "float64",         "bfloat16",
                                               "float16", "float32 as tf32", "float32 as bfloat16"};
static_assert(kKernelNames.size() == size_t(Kernel::kLibrary) + 1 &&
              kDirectionNames.size() == size_t(Direction::kBackward) + 1 &&
              kPrecisionNames.size() == size_t(Precision::kFloat32AsBFloat16) + 1);

// Returns the precision that PyTorch's present settings allow for a dtype. Of these permissions our kernels use
// bfloat16, on tiles only, and never tf32. torch's product may use either.
Precision precision_of(at::ScalarType dtype);

struct LayerProduct {
  Precision precision;
  Direction direction;
  int64_t samples, inputs, outputs;
  bool operator==(const LayerProduct&) const = default;
};

struct Decision {
  Kernel kernel;
  bool measured;
};
Decision decide(const LayerProduct&);

// Whether there is anything to decide. If not, every layer runs on blocks, and PyTorch's settings are not asked.
bool has_choices();

// Why a kernel cannot run a product on this processor; empty where it can.
std::string obstacle(Kernel, const LayerProduct&);

// Keeps a measured choice: from now on `decide` returns it for this product whenever torch runs so many threads.
// Returns the obstacle if there is one, and keeps nothing then.
std::string keep(const LayerProduct&, int threads, Kernel);
void forget();

// How a layer's forward and backward are computed, and why that way, in words.
struct Words {
  std::string forward, backward;
};
Words explain(at::ScalarType dtype, int64_t samples, int64_t inputs, int64_t outputs);

}  // namespace fused_gan::cpu
