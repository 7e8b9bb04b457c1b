// The choice of instruction set: made once, for the whole process.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernel_table.h"
#include "tile_kernels.h"

namespace fused_gan::cpu {

static const Kernels* const kBestFirst[] = {
#if defined(__x86_64__)
    &avx512::kKernels,
    &avx2::kKernels,
#endif
    &portable::kKernels,
};
static const Tiles* const kTilesBestFirst[] = {
#if defined(__x86_64__) && defined(__linux__)
    &amx::kTiles,
#endif
    &amx_model::kTiles,  // last: for tests alone, where it is asked for by name
};

struct Choice {
  const Kernels* kernels;
  const Tiles* tiles;
  const char* name;
};

static Choice choose() {
  const char* variable = std::getenv("FUSED_GAN_CPU_CAPABILITY");
  const std::string wanted = variable ? variable : "";
  const Kernels* best = nullptr;  // beside tiles, for what does not run on them
  for (const Kernels* set : kBestFirst)
    if (!best && set->supported()) best = set;
  for (const Tiles* set : kTilesBestFirst) {
    const bool asked = wanted.empty() ? set != &amx_model::kTiles : wanted == set->name;
    if (asked && set->supported()) return {best, set, set->name};  // asking the system for tiles changes the process
  }
  for (const Kernels* set : kBestFirst)
    if ((wanted.empty() || wanted == set->name) && set->supported()) return {set, nullptr, set->name};

  std::string known;
  const auto offer = [&](const auto* set) {
    if (set->supported()) known += std::string(known.empty() ? "" : ", ") + set->name;
  };
  for (const Tiles* set : kTilesBestFirst) offer(set);
  for (const Kernels* set : kBestFirst) offer(set);
  throw std::runtime_error("FUSED_GAN_CPU_CAPABILITY is '" + wanted + "', expected one of: " + known);
}

static const Choice& chosen() {
  static const Choice choice = choose();
  return choice;
}

const char* capability() { return chosen().name; }
const Kernels& kernels() { return *chosen().kernels; }
const Tiles* tiles() { return chosen().tiles; }

const PairedKernels* paired_kernels() {
#if defined(__x86_64__)
  static const bool usable = &kernels() == &avx512::kKernels && avx512_bf16::kKernels.supported();
  return usable ? &avx512_bf16::kKernels : nullptr;
#else
  return nullptr;
#endif
}

}  // namespace fused_gan::cpu
