// The choice of instruction set: made once, for the whole process.
#include "kernels.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace fused_gan::cpu {

static const Kernels* const kBestFirst[] = {
#if defined(__x86_64__)
    &avx512::kKernels,
    &avx2::kKernels,
#endif
    &portable::kKernels,
};

static const Kernels& choose() {
  const char* variable = std::getenv("FUSED_GAN_CPU_CAPABILITY");
  const std::string wanted = variable ? variable : "";
  std::string known;
  for (const Kernels* set : kBestFirst) {
    if (!set->supported()) continue;
    if (wanted.empty() || wanted == set->name) return *set;
    known += std::string(known.empty() ? "" : ", ") + set->name;
  }
  throw std::runtime_error("FUSED_GAN_CPU_CAPABILITY is '" + wanted + "', expected one of: " + known);
}

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

const PairedKernels* paired_kernels() {
#if defined(__x86_64__)
  static const bool usable = &kernels() == &avx512::kKernels && avx512_bf16::kKernels.supported();
  return usable ? &avx512_bf16::kKernels : nullptr;
#else
  return nullptr;
#endif
}

}  // namespace fused_gan::cpu
