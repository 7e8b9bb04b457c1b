// Vectors of 16 bytes, which the compiler turns into what its target has at least: SSE2, NEON, AltiVec.
#define FUSED_GAN_ISA portable
#define FUSED_GAN_VECTOR_BYTES 16
#include "kernels.inl"

namespace fused_gan::cpu::portable {
namespace {
bool supported() { return true; }
}  // namespace
}  // namespace fused_gan::cpu::portable
