// A model of AMX's instructions in vectors that the compiler turns into what its target has: the same kernels, and the
// same bits, on any processor, to be tested where there is no AMX.
#include <cstdint>
#include <type_traits>
#include <utility>

#define FUSED_GAN_ISA amx_model
#define FUSED_GAN_VECTOR_BYTES 64
#define FUSED_GAN_TILE_MODEL
#define FUSED_GAN_TILES_NAME "amx_model"
#include "tile_kernels.h"
//
#include "tile_products.inl"

namespace fused_gan::cpu::amx_model {
namespace {
bool supported() { return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__; }  // pairs of bfloat16 lie as on x86
}  // namespace
}  // namespace fused_gan::cpu::amx_model
