// Which blocked kernel runs for which shape on CPU, and how the work is cut for threads. Arithmetic on sizes, no data:
// the Python function fused_gan.plan() asks here too.
#pragma once

#include <ATen/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "kernel_table.h"

namespace fused_gan::plan {

// The costs that differ between processors, measured on two of them (docs/design/cpu-kernels.md).
struct Family {
  const char* name;
  bool packs_operands;  // of large products, else they are read as they lie
  int64_t share_from;   // multiply-adds that one core does while a second thread wakes up: from here on it pays
  int64_t stream_cost;  // of an element that a product reads or writes once, in multiply-adds
};
inline constexpr std::array kFamilies = {
    Family{"Intel with AVX-512 (measured on a Xeon with AMX)", true, 400'000, 3},
    Family{"other processors (measured on an AMD Zen 4)", false, 200'000, 1},
};
// This processor's family, unless a test has chosen another one.
const Family& family();
void use_family(std::optional<size_t> index);

// The cost of moving one element through a pointwise pass, in multiply-adds. Measured on one AVX-512 core.
constexpr int64_t kMoveCost = 8;

inline bool worth_sharing(int64_t work) { return work >= family().share_from; }

// The cost of a product: its multiply-adds, or moving its three matrices where that takes longer.
inline int64_t product_work(int64_t rows, int64_t columns, int64_t depth) {
  return std::max(rows * columns * depth, family().stream_cost * (rows * depth + depth * columns + rows * columns));
}

enum class Forward {
  kPanel,  // the batch packed in panels of 64, tiles of yᵀ
  kRows,   // W packed in panels of 64, tiles of y: many samples repay packing W, and y needs no transposition
  kDot,    // rows against rows as they lie: few samples leave a panel's lanes empty, few outputs do not repay packing
};
inline Forward forward(int64_t samples, int64_t depth, int64_t outputs, int64_t lanes) {
  if (2 * samples <= lanes || outputs <= 4) return Forward::kDot;
  return depth > 0 && samples >= std::min<int64_t>(512, 2 * depth) ? Forward::kRows : Forward::kPanel;
}

// Whether a product is large enough for vdpbf16ps, the instruction that multiplies pairs of bfloat16. It treats
// denormal numbers as zero, and stock uses it too (through oneDNN) for products above this size. A smaller product in
// 16-bit types multiplies rows with rows, because a call into torch would cost more than the arithmetic.
inline bool worth_pairing(int64_t work) { return work > 16 * 16 * 16; }

// For 16-bit types, paired or widened. kRows packs W again in every thread, which costs as much as the multiply-adds of
// 5.6 samples per thread. kPanel transposes y, which costs as much as 11 of the depth.
inline Forward paired_forward(int64_t samples, int64_t depth) {
  return samples >= std::max<int64_t>(128, depth) ? Forward::kRows : Forward::kPanel;
}

// From so many rows on, the threads share a gradient by rows, although its bias sums then need a pass of their own. For
// chains at batch 128 to 1024 that is 1 to 8 % faster than sharing it by columns, which cuts every row in two.
constexpr int64_t kManyRows = 128;

// Whether a float32 or float64 product packs B, and also A where A is read down its columns. The weight gradient does,
// and so does a product whose rows of B are a multiple of 4 KiB long, if C has many rows. Packing short rows of B gains
// nothing. Blocks of the depth are added one after the other, so a very long depth is not summed in this way.
inline bool packs_operands(bool down_columns, int64_t rows, int64_t columns, int64_t depth, int64_t element_bytes) {
  constexpr int64_t kDeepest = 16'384;
  if (!family().packs_operands || rows < 48 || depth < 48 || depth > kDeepest) return false;
  if (columns < 128) return false;
  return down_columns || (rows >= 192 && columns * element_bytes % 4096 == 0);
}

// How the depth of a product is cut, and whether the operands of its parts are packed. The choice rests on the sizes of
// the whole matrices. A thread's share and the strides have no part in it, so neither changes a bit of the result.
struct DepthCut {
  int64_t block;
  bool packs;
};
inline DepthCut depth_cut(bool down_columns, int64_t rows, int64_t columns, int64_t depth, int64_t element_bytes) {
  if (packs_operands(down_columns, rows, columns, depth, element_bytes)) return {cpu::packed_depth(depth), true};
  // With few rows the time goes into reading B, so it is read in blocks of a few whole rows.
  if (rows <= 12) return {16, false};
  // Rows that are a multiple of 4 KiB long meet in a few sets of the second cache, which hold half a block of them.
  return {columns * element_bytes % 4096 == 0 ? cpu::kDepthBlock / 2 : cpu::kDepthBlock, false};
}

// Whether a thread's share of the rows repays packing B. Reading B as it lies gives the same bits, except for a depth
// that would then be summed in one more level.
inline bool repays_packing(int64_t rows, int64_t depth) { return rows >= 48 || depth > cpu::kLongDepth; }

struct Grid {
  int64_t row_parts, column_parts;
};

inline int64_t units_of(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

// Returns the grid of at most `threads` parts whose largest part is smallest. A grid with fewer row parts has to be
// better by a sixteenth. Threads that write into the same rows disturb each other: the processor prefetches cache lines
// for one thread that another is writing, and the weight gradient of a batch of 16 took twice its time.
inline Grid grid(int64_t rows, int64_t row_unit, int64_t columns, int64_t column_unit, int64_t threads) {
  const int64_t row_units = units_of(rows, row_unit), column_units = units_of(columns, column_unit);
  Grid best{1, 1};
  int64_t smallest = row_units * column_units;
  for (int64_t parts = std::min(threads, row_units); parts >= 1; --parts) {
    const int64_t others = std::clamp<int64_t>(threads / parts, 1, std::max<int64_t>(column_units, 1));
    const int64_t largest = units_of(row_units, parts) * units_of(column_units, others);
    if (largest < smallest - smallest / 16) {
      smallest = largest;
      best = {parts, others};
    }
  }
  return best;
}

// The half-open range of part `index` of `parts`, in whole units.
inline std::pair<int64_t, int64_t> share(int64_t count, int64_t unit, int64_t parts, int64_t index) {
  const int64_t units = units_of(count, unit);
  const auto bound = [&](int64_t i) { return std::min(count, units * i / parts * unit); };
  return {bound(index), bound(index + 1)};
}

}  // namespace fused_gan::plan
