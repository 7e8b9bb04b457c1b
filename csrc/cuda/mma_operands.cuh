// The operands of the sm_80 products in shared memory: how they lie there, and how they come there.
#pragma once

#include "mma.cuh"

namespace fused_gan::cuda::mma {

constexpr int kStageBytes = 128;  // of the depth, in one stage of a K-major operand: eight chunks of 16 bytes

// Where an operand's elements lie in shared memory: rows of kRowBytes, whose chunks of 16 bytes are permuted so that
// the eight rows that a fragment load touches fall into different banks.
template <int kRowBytes_> struct RowsOfDepth {  // (rows or columns of c, depth)
  static constexpr int kRowBytes = kRowBytes_;
  static_assert(kRowBytes == 128);
  __device__ static uint32_t offset(int row, int byte) { return row * kRowBytes + (byte ^ (row % 8 * 16)); }
};
template <int kRowBytes_, int kElementBytes> struct RowsOfColumns {  // (depth, columns of c)
  static constexpr int kRowBytes = kRowBytes_;
  __device__ static uint32_t offset(int row, int byte) {
    // 16-bit elements are read eight rows at a time (ldmatrix), 32-bit ones by lanes of four rows × eight columns.
    const int turn = kElementBytes == 4 ? row % 4 * 2 : kRowBytes == 64 ? row / 2 % 4 : row % 8;
    return row * kRowBytes + (byte ^ (turn * 16));
  }
};

// One thread's share of copying a tile of kRows rows, kAccess bytes at a time. Outside of the matrix it writes zeros.
template <class T, class Layout, int kRows, int kThreads, int kAccess> class TileCopy {
  static constexpr int kPerRow = Layout::kRowBytes / kAccess, kRowStep = kThreads / kPerRow;
  static_assert(kThreads % kPerRow == 0 && kRows % kRowStep == 0);
  const T* from_;
  int64_t stride_, rows_left_, columns_left_;
  int row_, byte_;

 public:
  // matrix (rows, columns), rows `stride` elements apart; the tile begins at (row, column).
  __device__ TileCopy(const void* matrix, int64_t stride, int64_t row, int64_t rows, int64_t column, int64_t columns)
      : stride_(stride), row_(threadIdx.x / kPerRow), byte_(threadIdx.x % kPerRow * kAccess) {
    rows_left_ = rows - row - row_;
    column += byte_ / int(sizeof(T));
    columns_left_ = columns - column;
    from_ = static_cast<const T*>(matrix) + (row + row_) * stride + column;
  }
  __device__ void start(uint32_t stage) const {
    const int valid = int(min(max(columns_left_, int64_t(0)) * int64_t(sizeof(T)), int64_t(kAccess)));
    constexpr int kCopies = kRows / kRowStep;
    const auto to = [&](int i) { return stage + Layout::offset(row_ + i * kRowStep, byte_); };
    if constexpr (kAccess == 2) {
      // No asynchronous copy moves two bytes. All are asked for before the first is stored.
      uint16_t values[kCopies];
      const auto* from = reinterpret_cast<const uint16_t*>(from_);
#pragma unroll
      for (int i = 0; i < kCopies; ++i)
        values[i] = valid && i * kRowStep < rows_left_ ? from[i * kRowStep * stride_] : uint16_t(0);
#pragma unroll
      for (int i = 0; i < kCopies; ++i) store_shared(to(i), values[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kCopies; ++i)
        copy_async<kAccess>(to(i), from_ + i * kRowStep * stride_, i * kRowStep < rows_left_ ? valid : 0);
    }
  }
  __device__ void advance_columns(int count) {
    from_ += count;
    columns_left_ -= count;
  }
  __device__ void advance_rows(int count) {
    from_ += count * stride_;
    rows_left_ -= count;
  }
};

}  // namespace fused_gan::cuda::mma
