// A product on the tensor cores of sm_80 and newer (mma.sync), with the activation, the activation gradient and the
// bias gradient in its epilogue. A block computes a tile of c: operands come through a ring of stages in shared memory
// by asynchronous copies, each warp multiplies its share of the tile, the sums pass through shared memory once more so
// that the epilogue sees whole rows. One file per precision instantiates it (mma_*.cu).
#pragma once

#include <atomic>

#include "../activations.h"
#include "kernel_facts.h"
#include "mma_operands.cuh"
#include "storage.cuh"

namespace fused_gan::cuda::mma {

// A block's tile of c, its warps side by side on it, and the stages in flight.
template <int kRows_, int kColumns_, int kWarpRows_, int kWarpColumns_, int kStages_> struct TileShape {
  static constexpr int kRows = kRows_, kColumns = kColumns_;                  // of the block
  static constexpr int kWarpRows = kWarpRows_, kWarpColumns = kWarpColumns_;  // of a warp
  static constexpr int kWarpsDown = kRows / kWarpRows, kWarpsAcross = kColumns / kWarpColumns;
  static constexpr int kThreads = 32 * kWarpsDown * kWarpsAcross, kStages = kStages_;
  // The epilogue's rows are padded, so that the fragments' eight rows fall into different banks.
  static constexpr int kEpilogueStride = kColumns + 8;
  static constexpr int kSharedBytes =
      std::max(kStages * (kRows + kColumns) * kStageBytes, kRows * kEpilogueStride * int(sizeof(float)));
};

template <Precision kPrecision, Direction kDirection, class Shape, int kAccess> struct Product {
  using Math = Arithmetic<kPrecision>;
  using T = typename Math::Element;
  static constexpr bool kForward = kDirection == Direction::kForward;
  static constexpr int kDepth = kStageBytes / sizeof(T);  // of a stage
  static constexpr int kSteps = kStageBytes / 32;         // fragments in a stage: 32 bytes of the depth each
  static constexpr int kTilesDown = Shape::kWarpRows / 16, kTilesAcross = Shape::kWarpColumns / 8;  // of a warp
  static constexpr int kWidth = kAccess == 16 ? kVector<T> : 1;  // elements that the epilogue moves at once
  // Blocks that must share a multiprocessor's registers; 0 leaves it to the compiler, which gives tf32 two registers
  // too many here for two blocks.
  static constexpr int kBlocks =
      kPrecision == Precision::kTf32 && kDirection == Direction::kBackward && Shape::kThreads == 256 ? 2 : 0;
  using ALayout = RowsOfDepth<kStageBytes>;
  using BLayout =
      std::conditional_t<kForward, RowsOfDepth<kStageBytes>, RowsOfColumns<Shape::kColumns* int(sizeof(T)), sizeof(T)>>;
  using ACopy = TileCopy<T, ALayout, Shape::kRows, Shape::kThreads, kAccess>;
  using BCopy = TileCopy<T, BLayout, kForward ? Shape::kColumns : kDepth, Shape::kThreads, kAccess>;
  using Sums = Tile[kTilesDown][kTilesAcross];

  // A warp's operands for one step, as they come from shared memory.
  struct Operands {
    uint32_t a[kTilesDown][4], b[kTilesAcross / 2][4];

    // warp_row, warp_column: where the warp's share begins in the tile.
    __device__ void load(uint32_t a_stage, uint32_t b_stage, int warp_row, int warp_column, int step) {
      const int lane = threadIdx.x % 32;
#pragma unroll
      for (int i = 0; i < kTilesDown; ++i)
        load_matrices(a[i], a_stage + ALayout::offset(warp_row + i * 16 + lane % 16, step * 32 + lane / 16 * 16));
#pragma unroll
      for (int i = 0; i < kTilesAcross / 2; ++i) {
        const int column = warp_column + i * 16;
        if constexpr (kForward) {
          load_matrices(b[i],
                        b_stage + BLayout::offset(column + lane / 16 * 8 + lane % 8, step * 32 + lane / 8 % 2 * 16));
        } else if constexpr (sizeof(T) == 2) {
          load_matrices_transposed(
              b[i], b_stage + BLayout::offset(step * 16 + lane % 16, (column + lane / 16 * 8) * int(sizeof(T))));
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int row = step * 8 + j % 2 * 4 + lane % 4;
            const int byte = (column + j / 2 * 8 + lane / 4) * int(sizeof(T));
            asm volatile("ld.shared.b32 %0, [%1];" : "=r"(b[i][j]) : "r"(b_stage + BLayout::offset(row, byte)));
          }
        }
      }
    }
    __device__ void multiply(Sums& sums) const {
      typename Math::template Fragment<4> left[kTilesDown];
#pragma unroll
      for (int i = 0; i < kTilesDown; ++i) left[i].prepare(a[i]);
#pragma unroll
      for (int j = 0; j < kTilesAcross; ++j) {
        typename Math::template Fragment<2> right;
        right.prepare({b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]});
#pragma unroll
        for (int i = 0; i < kTilesDown; ++i) Math::multiply(sums[i][j], left[i], right);
      }
    }
  };

  // sums += the warp's share of a stage.
  __device__ static void multiply_stage(Sums& sums, uint32_t a_stage, uint32_t b_stage, int warp_row, int warp_column) {
    Operands operands[2];
    operands[0].load(a_stage, b_stage, warp_row, warp_column, 0);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (step + 1 < kSteps) operands[(step + 1) % 2].load(a_stage, b_stage, warp_row, warp_column, step + 1);
      operands[step % 2].multiply(sums);
    }
  }

  // The sum at (row, column) over depth [begin, end) in plain float32.
  __device__ static float plain_sum(const ProductArguments& p, int64_t row, int64_t column, int64_t begin,
                                    int64_t end) {
    const T *a = static_cast<const T*>(p.a) + row * p.a_stride, *b = static_cast<const T*>(p.b);
    float sum = 0;
    for (int64_t k = begin; k < end; ++k)
      sum = fmaf(float(a[k]), float(kForward ? b[column * p.b_stride + k] : b[k * p.b_stride + column]), sum);
    return sum;
  }
  // Undoes the scaling of both factors.
  __device__ static float unscaled(float sum) {
    if constexpr (Math::kPromotes) return sum * Math::kUnscale;
    else return sum;
  }
  // Whether scaling and splitting the factors may have spoiled a sum: they turn an infinity into NaN, and factors from
  // 2⁹⁸ and sums from 2⁶⁸ on into infinities.
  __device__ static bool is_doubtful(float sum) { return Math::kPromotes && !(fabsf(sum) <= 0x1.fffffep127f); }
};

// c (rows, columns) or its parts, as ProductArguments and Partials say; depth_part: a multiple of a stage's depth.
template <Precision kPrecision, Direction kDirection, class Shape, int kAccess>
__global__ void __launch_bounds__(Shape::kThreads, Product<kPrecision, kDirection, Shape, kAccess>::kBlocks)
    mma_kernel(const ProductArguments p, const Partials partials, int64_t depth_part) {
  using P = Product<kPrecision, kDirection, Shape, kAccess>;
  using T = typename P::T;
  constexpr int kWidth = P::kWidth;
  extern __shared__ __align__(128) char shared[];

  // Blocks that run at the same time lie in a square rather than in a line: they share more of a and b in L2.
  // In 32 bits, whose divisions are short; the launch has fewer blocks than that.
  constexpr unsigned kGroup = 8;
  const unsigned tiles_down = unsigned((p.rows + Shape::kRows - 1) / Shape::kRows);
  const unsigned tiles_across = unsigned((p.columns + Shape::kColumns - 1) / Shape::kColumns);
  const unsigned group = blockIdx.x / tiles_across / kGroup, in_group = blockIdx.x - group * kGroup * tiles_across;
  const unsigned group_rows = min(kGroup, tiles_down - group * kGroup);
  const int64_t tile_row = group * kGroup + in_group % group_rows, tile_column = in_group / group_rows;
  const int64_t row = tile_row * Shape::kRows, column = tile_column * Shape::kColumns;
  const int64_t begin = blockIdx.y * depth_part, end = min(begin + depth_part, p.depth);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_row = warp / Shape::kWarpsAcross * Shape::kWarpRows;
  const int warp_column = warp % Shape::kWarpsAcross * Shape::kWarpColumns;

  typename P::Sums sums = {};
  {
    typename P::ACopy a(p.a, p.a_stride, row, p.rows, begin, end);
    typename P::BCopy b = P::kForward ? typename P::BCopy(p.b, p.b_stride, column, p.columns, begin, end)
                                      : typename P::BCopy(p.b, p.b_stride, begin, end, column, p.columns);
    constexpr int kABytes = Shape::kRows * kStageBytes, kRingBytes = kABytes + Shape::kColumns * kStageBytes;
    const uint32_t ring = shared_address(shared);
    const int stages = int((end - begin + P::kDepth - 1) / P::kDepth);
    const auto start = [&](int stage) {
      if (stage < stages) {
        const uint32_t slot = ring + stage % Shape::kStages * kRingBytes;
        a.start(slot);
        b.start(slot + kABytes);
        a.advance_columns(P::kDepth);
        if constexpr (P::kForward) b.advance_columns(P::kDepth);
        else b.advance_rows(P::kDepth);
      }
      commit_copies();  // an empty group too: the waits below count groups
    };
#pragma unroll
    for (int stage = 0; stage < Shape::kStages - 1; ++stage) start(stage);
    for (int stage = 0; stage < stages; ++stage) {
      wait_for_copies<Shape::kStages - 2>();
      __syncthreads();  // the stage has arrived, and no thread still reads the slot that is filled next
      start(stage + Shape::kStages - 1);
      const uint32_t slot = ring + stage % Shape::kStages * kRingBytes;
      if constexpr (P::Math::kPromotes) {
        typename P::Sums partial = {};
        P::multiply_stage(partial, slot, slot + kABytes, warp_row, warp_column);
#pragma unroll
        for (int i = 0; i < P::kTilesDown; ++i)
#pragma unroll
          for (int j = 0; j < P::kTilesAcross; ++j)
#pragma unroll
            for (int k = 0; k < 4; ++k) sums[i][j][k] += partial[i][j][k];
      } else {
        P::multiply_stage(sums, slot, slot + kABytes, warp_row, warp_column);
      }
    }
    wait_for_copies<0>();
    __syncthreads();
  }

  // The sums as a matrix of rows.
  float* tile = reinterpret_cast<float*>(shared);
  bool doubtful = false;
#pragma unroll
  for (int i = 0; i < P::kTilesDown; ++i)
#pragma unroll
    for (int j = 0; j < P::kTilesAcross; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float* to = tile + (warp_row + i * 16 + half * 8 + lane / 4) * Shape::kEpilogueStride + warp_column + j * 8 +
                    lane % 4 * 2;
        const float left = P::unscaled(sums[i][j][half * 2]), right = P::unscaled(sums[i][j][half * 2 + 1]);
        doubtful = doubtful || P::is_doubtful(left) || P::is_doubtful(right);
        *reinterpret_cast<float2*>(to) = make_float2(left, right);
      }
  if constexpr (P::Math::kPromotes) {
    if (__syncthreads_or(doubtful)) {
      // Diagonally, as it is whole rows and whole columns that are spoiled.
      for (int i = threadIdx.x; i < Shape::kRows * Shape::kColumns; i += Shape::kThreads) {
        const int r = i / Shape::kColumns, c = (i + r) % Shape::kColumns;
        float& sum = tile[r * Shape::kEpilogueStride + c];
        if (P::is_doubtful(sum) && row + r < p.rows && column + c < p.columns)
          sum = P::plain_sum(p, row + r, column + c, begin, end);
      }
      __syncthreads();
    }
  } else {
    __syncthreads();
  }

  constexpr int kLanes = Shape::kColumns / kWidth, kRowStep = Shape::kThreads / kLanes;
  const int first_row = threadIdx.x / kLanes, tile_at = threadIdx.x % kLanes * kWidth;
  const int64_t at = column + tile_at;
  const auto sums_of = [&](int r, float (&values)[kWidth]) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] = tile[r * Shape::kEpilogueStride + tile_at + i];
  };
  const int64_t rows_left = p.rows - row;
  if (partials.parts) {
    if (at >= p.columns) return;
    for (int r = first_row; r < Shape::kRows && r < rows_left; r += kRowStep) {
      float values[kWidth];
      sums_of(r, values);
      float* to = partials.parts + blockIdx.y * p.rows * p.columns + (row + r) * p.columns + at;
#pragma unroll
      for (int i = 0; i < kWidth; i += kWidth > 1 ? 4 : 1) {
        if constexpr (kWidth > 1)
          *reinterpret_cast<float4*>(to + i) = make_float4(values[i], values[i + 1], values[i + 2], values[i + 3]);
        else to[i] = values[i];
      }
    }
    return;
  }

  // Rows whose y a thread asks for before it needs the first. (As stores may change what is read later, the compiler
  // keeps the order of a load and a store.)
  constexpr int kTrips = Shape::kRows / kRowStep, kInFlight = P::kForward ? 1 : std::min(kTrips, 8);
  static_assert(kTrips % kInFlight == 0);
  float column_sums[kWidth] = {};
  if (at < p.columns) {
    float bias[kWidth] = {};
    if (P::kForward && p.bias) {
      const auto pack = Pack<T, kWidth>::load(static_cast<const T*>(p.bias) + at);
      pack.widen(bias);
    }
    InlinedActivations::visit(p.activation.index, [&](auto act) {
      constexpr bool kReads = !P::kForward && !std::is_same_v<decltype(act), Identity>;
      const Parameters<float> parameters = p.activation.parameters();
      const T* below = static_cast<const T*>(p.below) + row * p.below_stride + at;
      T* result = static_cast<T*>(p.c) + row * p.columns + at;
      for (int first = first_row; first < Shape::kRows && first < rows_left; first += kInFlight * kRowStep) {
        Pack<T, kWidth> from[kInFlight];
        if constexpr (kReads) {
#pragma unroll
          for (int k = 0; k < kInFlight; ++k)
            if (const int r = first + k * kRowStep; r < rows_left)
              from[k] = Pack<T, kWidth>::load(below + r * p.below_stride);
        }
#pragma unroll
        for (int k = 0; k < kInFlight; ++k) {
          const int r = first + k * kRowStep;
          if (r >= rows_left) continue;
          float values[kWidth], x[kWidth] = {};
          sums_of(r, values);
          if constexpr (kReads) from[k].widen(x);
#pragma unroll
          for (int i = 0; i < kWidth; ++i) {
            if constexpr (P::kForward) values[i] = act.forward(values[i] + bias[i], parameters);
            else values[i] = act.gradient(values[i], x[i], parameters);
            if constexpr (!P::kForward) column_sums[i] += values[i];
          }
          Pack<T, kWidth> pack;
          pack.narrow(values);
          pack.store(result + r * p.columns);
        }
      }
    });
  }

  if constexpr (!P::kForward) {
    if (!p.bias_gradient) return;
    // Over the threads that share columns, by halving.
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kWidth; ++i) tile[threadIdx.x * kWidth + i] = column_sums[i];
#pragma unroll
    for (int half = kRowStep / 2; half > 0; half /= 2) {
      __syncthreads();
      if (first_row < half)
#pragma unroll
        for (int i = 0; i < kWidth; ++i)
          tile[threadIdx.x * kWidth + i] += tile[(threadIdx.x + half * kLanes) * kWidth + i];
    }
    if (first_row > 0 || at >= p.columns) return;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float sum = tile[threadIdx.x * kWidth + i];
      if (partials.sums) partials.sums[tile_row * partials.sum_stride + at + i] = sum;
      else static_cast<T*>(p.bias_gradient)[at + i] = Storage<T>::narrow(sum);
    }
  }
}

template <Precision kPrecision, Direction kDirection, class Shape, int kAccess>
cudaError_t launch(const ProductArguments& p, int splits, const Partials& partials, cudaStream_t stream) {
  const auto kernel = mma_kernel<kPrecision, kDirection, Shape, kAccess>;
  if constexpr (Shape::kSharedBytes > 48 * 1024) {
    // Asked for once a device: a bit each.
    static std::atomic<uint64_t> allowed = 0;
    int device = 0;
    if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
    const uint64_t bit = uint64_t(1) << device % 64;
    if (!(allowed.load() & bit)) {
      const cudaError_t error =
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::kSharedBytes);
      if (error != cudaSuccess) return error;
      allowed.fetch_or(bit);
    }
  }
  constexpr int kDepth = Product<kPrecision, kDirection, Shape, kAccess>::kDepth;
  const auto divide_up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const int64_t tiles = divide_up(p.rows, Shape::kRows) * divide_up(p.columns, Shape::kColumns);
  kernel<<<dim3(unsigned(tiles), unsigned(splits)), Shape::kThreads, Shape::kSharedBytes, stream>>>(
      p, partials, depth_part(p.depth, splits, kDepth));
  return cudaGetLastError();
}

using Large = TileShape<128, 128, 64, 32, 3>;
using Medium = TileShape<64, 64, 32, 32, 4>;
using Small = TileShape<32, 32, 16, 16, 6>;

template <Precision kPrecision, Direction kDirection>
cudaError_t choose(const ProductArguments& p, Choice choice, const Partials& partials, cudaStream_t stream) {
  constexpr int kElement = sizeof(typename Arithmetic<kPrecision>::Element);
  switch (choice.kernel) {
    case Kernel::kMma128x128:
      return launch<kPrecision, kDirection, Large, 16>(p, choice.splits, partials, stream);
    case Kernel::kMma64x64:
      return launch<kPrecision, kDirection, Medium, 16>(p, choice.splits, partials, stream);
    case Kernel::kMma32x32:
      return launch<kPrecision, kDirection, Small, 16>(p, choice.splits, partials, stream);
    case Kernel::kMmaAny:
      return launch<kPrecision, kDirection, Medium, kElement>(p, choice.splits, partials, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template <Precision kPrecision>
cudaError_t product(const ProductArguments& p, Choice choice, const Partials& partials, cudaStream_t stream) {
  return p.direction == Direction::kForward ? choose<kPrecision, Direction::kForward>(p, choice, partials, stream)
                                            : choose<kPrecision, Direction::kBackward>(p, choice, partials, stream);
}

}  // namespace fused_gan::cuda::mma
