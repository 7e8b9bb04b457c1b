// Which products run on tiles, cut how, and whether their numbers allow it. Pure arithmetic, no data.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "plan.h"
#include "tile_kernels.h"

namespace fused_gan::cpu {

// The precision in which PyTorch's present settings allow float32 to be multiplied.
enum class Float32Setting { kFull, kTf32, kBFloat16 };
Float32Setting float32_setting();
inline int float32_planes() { return float32_setting() == Float32Setting::kBFloat16 ? 1 : 3; }

// The multiply-adds from which float32 is multiplied in three planes on tiles; kNever unless it was set.
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
int64_t three_planes_from();
void set_three_planes_from(int64_t work);

}  // namespace fused_gan::cpu

namespace fused_gan::plan {

inline bool worth_sharing_on_tiles(int64_t work, int planes) { return work * planes * (planes + 1) / 2 >= 1'500'000; }

enum class TileForm {
  kForwardColumns,  // yᵀ = W xᵀ: W as it lies, the batch packed, and each layer's output left packed for the next
  kForward,         // y = x Wᵀ
  kInputGradient,   // dz W
  kWeightGradient,  // dzᵀ x
};

// bfloat16 alone reads rows as they lie. Columns are better until W repays being packed.
inline TileForm tile_forward(bool rows_lie, int64_t samples, int64_t depth) {
  return !rows_lie || (samples >= 512 && samples >= depth) ? TileForm::kForward : TileForm::kForwardColumns;
}

// With few rows of C the threads share its columns: all of A is packed once (or lies), each panel of B where it is
// used. With more they share the rows, and B is packed once.
inline bool tile_splits_columns(TileForm form, int planes, int64_t rows) {
  if (form == TileForm::kForwardColumns) return false;
  if (form == TileForm::kInputGradient && planes == 1) return rows < 512;
  return rows <= (planes == 1 ? 64 : 256);
}

// Measured on a Xeon with 2 MiB of second-level cache a core (docs/design/cpu-kernels.md).
inline cpu::TileBlocking tile_blocking(TileForm form, int planes, bool splits_columns, int64_t rows, int64_t depth) {
  if (planes > 1) return {splits_columns ? 256 : 128, splits_columns ? 1 : 4, 16, false};
  if (form == TileForm::kForwardColumns) return {128, 8, 8, false};
  if (depth <= 512) return {32, 32, 16, true};
  return {splits_columns ? std::max<int64_t>(rows, 256) : 256, 4, 8, false};
}

// Steps of the depth that one call sums. float32 is summed in parts, which wait in C: the error of a long sum grows
// with the number of parts, and no more than a part of B is packed at a time.
inline int64_t tile_steps_at_a_time(bool waits, int64_t steps, cpu::TileBlocking by) {
  return waits ? std::max<int64_t>(cpu::tile_depth_part(steps, by), 1) : steps;
}

// Three planes hold a float32 number's digits as long as none rounds to infinity and what falls below 2^-126 does not
// count: neither of a plane (2^-16 of a number, with its own 8 digits) nor of a product of planes, both measured
// against the largest number of a row and of a column. So what a row gets from numbers far below its largest may be
// lost. Two planes of float16 are always exact; but Inf has no other planes (Inf − Inf).
inline bool tile_planes_hold(int planes, bool half, const cpu::ProductMagnitudes& met, int64_t depth) {
  constexpr uint32_t kInfinite = 0x7f800000, kRoundsToInfinity = 0x7f7f8000;
  if (planes == 1) return true;
  if (half) return met.a.largest < kInfinite && met.b.largest < kInfinite;
  if (met.a.largest >= kRoundsToInfinity || met.b.largest >= kRoundsToInfinity) return false;
  const auto exponent = [](uint32_t bits) { return int(bits >> 23) - 127; };
  int digits_of_depth = 0;
  while (digits_of_depth < 62 && int64_t(1) << digits_of_depth < depth) ++digits_of_depth;
  if (exponent(met.a.largest) + exponent(met.b.largest) + 2 + digits_of_depth >= 127) return false;
  constexpr uint32_t kNoLine = cpu::Magnitudes::kNoLine;
  if (met.a.smallest_line == kNoLine || met.b.smallest_line == kNoLine) return true;  // zeros alone
  const int a = exponent(met.a.smallest_line), b = exponent(met.b.smallest_line);
  return a >= -100 && b >= -100 && a + b >= -80;
}

// One plane always pays, above the size from which stock takes denormal numbers for zero; few rows do not repay packing
// two. Three are six times the work: faster than AVX-512 where a core has its tiles to itself, slower where the work of
// another one shares them, as it may on a rented machine (docs/design/cpu-kernels.md). So they are used only from the
// multiply-adds on that somebody has set.
inline bool tiles_pay(int planes, int64_t rows, int64_t columns, int64_t depth, int64_t three_planes_from) {
  const int64_t work = rows * columns * depth;
  if (planes == 1) return worth_pairing(work);
  const int64_t least = std::min({rows, columns, depth});
  return planes == 2 ? least >= 48 : least >= 16 && work >= three_planes_from;
}

}  // namespace fused_gan::plan
