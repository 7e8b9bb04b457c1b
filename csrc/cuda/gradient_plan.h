// How the gradient pass is cut into blocks: a strip of columns × a chunk of rows each. Pure arithmetic on the host.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace fused_gan::cuda {

struct GradientPlan {
  static constexpr int kThreads = 256;       // in a block, at most
  static constexpr int kResidentBlocks = 4;  // of a multiprocessor at the same time, as registers allow; gradient.cu
                                             // has fewer in float64

  int lane_bits;       // 2^lane_bits threads lie side by side along a row, the others below them
  int threads;         // in a block, a power of two
  int64_t strips;      // blocks along a row
  int64_t chunks;      // blocks down the rows; more than one leaves partial sums to be added
  int64_t chunk_rows;  // rows in a chunk
};

// Up to here one chunk is summed faster than a second kernel would start; beyond, partial sums pay.
constexpr int64_t kFewRows = 2048;

// The shortest chunk: its row of partial sums is then a small share of what it reads and writes.
constexpr int64_t kChunkRows = 64;

// `width`: elements a thread loads at once; `element`: bytes in one.
inline GradientPlan plan_gradient(int64_t rows, int64_t columns, int width, int element, bool sums,
                                  int multiprocessors) {
  const auto divide_up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t most_chunks = sums && rows <= kFewRows ? 1 : std::max<int64_t>(1, divide_up(rows, kChunkRows));

  // A cache line is the best strip. Small work takes narrower ones, down to a sector, so that no multiprocessor idles.
  int strip_bytes = 128;
  const auto strips = [&] { return divide_up(columns * element, strip_bytes); };
  while (strip_bytes > 32 && strips() * most_chunks < 2 * multiprocessors) strip_bytes /= 2;

  GradientPlan plan;
  const int64_t row_threads = divide_up(columns, width);
  const int lanes = int(std::min<int64_t>(strip_bytes / (width * element), std::bit_ceil(uint64_t(row_threads))));
  plan.lane_bits = std::countr_zero(unsigned(lanes));
  plan.strips = divide_up(row_threads, lanes);
  const int64_t chunks = std::min(most_chunks, divide_up(GradientPlan::kResidentBlocks * multiprocessors, plan.strips));
  plan.chunk_rows = std::max<int64_t>(1, divide_up(rows, chunks));
  plan.chunks = std::max<int64_t>(1, divide_up(rows, plan.chunk_rows));
  const int64_t useful = std::min<int64_t>(plan.chunk_rows, GradientPlan::kThreads) * lanes;
  plan.threads = int(std::clamp<int64_t>(std::bit_ceil(uint64_t(useful)), 32, GradientPlan::kThreads));
  return plan;
}

}  // namespace fused_gan::cuda
