// Whether memory can be moved 16 bytes at a time, the widest access there is.
#pragma once

#include <cstdint>

namespace fused_gan::cuda {

inline bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

}  // namespace fused_gan::cuda
