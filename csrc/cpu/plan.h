// Which blocked kernel runs for which shape on CPU, and how the work is cut for threads. Arithmetic on sizes, no data:
// the Python function fused_gan.plan() asks here too.
#pragma once

#include <ATen/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "kernel_table.h"

namespace fused_gan::plan {

// The least sizes of C and of the depth from which a product in blocks packs B, and A if that is read down its columns.
struct Packing {
  int64_t rows, columns, depth;
  bool bad_rows_alone = false;  // only where B's rows lie badly
};
inline constexpr Packing kNever{.rows = std::numeric_limits<int64_t>::max(), .columns = 0, .depth = 0};

// What differs between processors, measured on three of them (docs/design/cpu-kernels.md).
struct Family {
  const char* name;
  Packing weight_gradient, input_gradient;
  bool fetches_ahead;   // rows of B that are read as they lie
  int64_t bad_depth;    // rows of B at a time where they lie badly and are read as they lie
  int64_t share_from;   // multiply-adds that one core does while a second thread wakes up: from here on it pays
  int64_t stream_cost;  // of an element that a product reads or writes once, in multiply-adds
};
inline constexpr std::array kFamilies = {
    Family{.name = "Intel with AVX-512 (measured on a Xeon with AMX)",
           .weight_gradient = {.rows = 48, .columns = 128, .depth = 48},
           .input_gradient = {.rows = 192, .columns = 128, .depth = 48, .bad_rows_alone = true},
           .fetches_ahead = true,
           .bad_depth = 256,
           .share_from = 400'000,
           .stream_cost = 3},
    Family{.name = "other processors with AVX-512 (measured on an AMD Zen 4)",
           .weight_gradient = kNever,
           .input_gradient = kNever,
           .fetches_ahead = false,
           .bad_depth = cpu::kDepthBlock,
           .share_from = 200'000,
           .stream_cost = 1},
    Family{.name = "processors without AVX-512 (measured on an AMD Zen 3)",
           .weight_gradient = {.rows = 128, .columns = 192, .depth = 64},
           .input_gradient = {.rows = 64, .columns = 192, .depth = 192},
           .fetches_ahead = false,
           .bad_depth = cpu::kDepthBlock,
           .share_from = 200'000,
           .stream_cost = 1},
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
  kPanel,  // the batch packed in panels, tiles of yᵀ
  kRows,   // W packed in panels, tiles of y: many samples repay packing W, and y needs no transposition
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

// Rows of a multiple of 4 KiB meet in a few sets of the caches.
inline bool lie_badly(int64_t columns, int64_t element_bytes) { return columns * element_bytes % 4096 == 0; }

// Whether a float32 or float64 product packs B, and also A where A is read down its columns. Packing short rows of B
// gains nothing. Blocks of the depth are added one after the other, so a very long depth is not summed in this way.
inline bool packs_operands(bool down_columns, int64_t rows, int64_t columns, int64_t depth, int64_t element_bytes) {
  constexpr int64_t kDeepest = 16'384;
  const Packing& from = down_columns ? family().weight_gradient : family().input_gradient;
  if (rows < from.rows || columns < from.columns || depth < from.depth || depth > kDeepest) return false;
  return !from.bad_rows_alone || lie_badly(columns, element_bytes);
}

// How a product reads its operands. The choice rests on the sizes of the whole matrices. A thread's share and the
// strides have no part in it, so neither changes a bit of the result.
inline cpu::Reading reading(bool down_columns, int64_t rows, int64_t columns, int64_t depth, int64_t element_bytes) {
  cpu::Reading how{
      .depth_block = cpu::kDepthBlock, .fetches_ahead = family().fetches_ahead, .packed_columns = 0, .packs_a = false};
  if (packs_operands(down_columns, rows, columns, depth, element_bytes)) {
    how.depth_block = cpu::packed_depth(depth);
    how.packed_columns = cpu::packed_columns(down_columns, rows, columns, element_bytes);
    how.packs_a = down_columns;
  } else if (rows <= 12) {
    how.depth_block = 16;  // with few rows the time goes into reading B, so it is read a few whole rows at a time
  } else if (lie_badly(columns, element_bytes)) {
    how.depth_block = family().bad_depth;
  }
  return how;
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
