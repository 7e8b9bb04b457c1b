// What the CPU kernels offer, and the choice of instruction set. Kernels know pointers, sizes and strides, no torch;
// linear_act.cpp and chain.cpp check, layers.h allocates and spreads them over threads.
//
// All three products of a linear layer are one kernel, C = A B, with the vectors along B's and C's rows and A read
// element by element in any stride. B is packed in panels as wide as a tile, or read as it lies:
//     forward          yᵀ (out, batch)  =  W (out, in)      ·  xᵀ (in, batch)   xᵀ packed
//       many samples   y (batch, out)   =  x (batch, in)    ·  Wᵀ (in, out)     Wᵀ packed
//     input gradient   dx (batch, in)   =  dz (batch, out)  ·  W (out, in)      W packed or not
//     weight gradient  dW (out, in)     =  dzᵀ (out, batch) ·  x (batch, in)    both packed or not
// plan.h says where; docs/design/cpu-kernels.md has the measurements behind it.
#pragma once

#include <cstdint>

#include "../activations.h"  // FUSED_GAN_FUNCTION: no inline function may be left to the linker (see vec.h)

namespace fused_gan::cpu {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

constexpr int64_t kShare = 64;                   // samples or outputs that threads do not divide: whole panels of B
constexpr int64_t kDepthBlock = 512;             // rows of B that stay in the second cache while some rows of A pass
constexpr int64_t kLongDepth = 8 * kDepthBlock;  // a deeper one is summed in one more level

// Rows of A, read as they lie, that stay in the second cache while all columns of B pass: where A is larger than the
// cache, it would come from behind it again for every tile's columns. A multiple of every tile's rows and of a line.
template <class T> FUSED_GAN_FUNCTION constexpr int64_t rows_at_a_time(int64_t depth) {
  constexpr int64_t kBytes = 512 * 1024, kUnit = 48;
  const int64_t units = kBytes / int64_t(sizeof(T)) / kUnit / (depth > 0 ? depth : 1);
  return kUnit * (units > 1 ? units : 1);
}

// Outputs whose rows of W a thread packs and keeps in the second cache while all its samples pass.
template <class T> FUSED_GAN_FUNCTION constexpr int64_t outputs_at_a_time(int64_t depth) {
  constexpr int64_t kBytes = 512 * 1024;
  const int64_t shares = kBytes / int64_t(sizeof(T)) / kShare / (depth > 0 ? depth : 1);
  return kShare * (shares > 1 ? shares : 1);
}
// A thread's workspace for them, in elements.
template <class T> FUSED_GAN_FUNCTION constexpr int64_t forward_workspace(int64_t outputs, int64_t depth) {
  const int64_t all = (outputs + kShare - 1) / kShare * kShare, most = outputs_at_a_time<T>(depth);
  return depth * (all < most ? all : most);
}

// How a product reads its operands, B where it lies or packed, A where it lies or, if that is down its columns, packed.
struct Reading {
  int64_t depth_block;     // rows of B at a time, at most kDepthBlock
  bool fetches_ahead;      // rows of B where it lies
  int64_t packed_columns;  // of B that are kept packed, a multiple of kShare; 0 if it is read where it lies
  bool packs_a;
};

// Of a product that packs: a block of B and some rows of A share the second cache. The depth is cut into few and even
// blocks, because each of them reads and writes all of C.
constexpr int64_t kPackedDepth = 512, kPackedRows = 96;
static_assert(kPackedDepth <= kDepthBlock);
FUSED_GAN_FUNCTION constexpr int64_t packed_depth(int64_t depth) {
  const int64_t blocks = (depth + kPackedDepth - 1) / kPackedDepth;
  return blocks > 1 ? (depth + blocks - 1) / blocks : depth;
}
// Where all rows of C pass at once, and no rows of A are packed for it, a panel is read but once, so few are kept.
FUSED_GAN_FUNCTION constexpr int64_t packed_columns(bool packs_a, int64_t rows, int64_t columns,
                                                    int64_t element_bytes) {
  const int64_t most = 2048 / element_bytes, all = (columns + kShare - 1) / kShare * kShare;
  return rows <= kPackedRows && !packs_a ? kShare : all < most ? all : most;
}
// A is packed in strips of a tile's rows. Behind each of them is room for the rest of a vector.
constexpr int64_t kStripsRoom = 256;  // 16 strips of a vector of at most 16
// A thread's workspace, in elements.
FUSED_GAN_FUNCTION constexpr int64_t packed_workspace(const Reading& reading, int64_t depth) {
  if (!reading.packed_columns) return 0;
  const int64_t block = packed_depth(depth);
  return block * reading.packed_columns + (reading.packs_a ? kPackedRows * block + kStripsRoom : 0);
}

// Element (i, k) is data[i * row + k * column].
template <class T> struct Strided {
  const T* data;
  int64_t row, column;
};

// Kernels for every storage type S.
template <class S> struct StorageKernels {
  // y[i] = act(z[i]) for `count` elements; y may be z.
  void (*activate)(Activation, const S* z, S* y, int64_t count);
  // dz = dy ⊙ act' and bias_gradient = column sums of dz, `rows` × `columns`, rows `*_row` elements apart. kept is what
  // act' reads, the output or the pre-activation, and may be null for identity; dz or bias_gradient may be null. Sums
  // run down the rows in order: reproducible.
  void (*gradient)(Activation, const S* dy, int64_t dy_row, const S* kept, int64_t kept_row, S* dz, int64_t dz_row,
                   S* bias_gradient, int64_t rows, int64_t columns);

  // y = act(z), z = x · wᵀ + bias for few samples or few outputs: both operands read along the depth as they lie,
  // nothing packed. Here and below z is kept, laid out as y, unless it is null.
  void (*forward_dot)(Activation, const S* x, int64_t x_row, const S* w, int64_t w_row, const S* bias, S* y, S* z,
                      int64_t y_row, int64_t samples, int64_t outputs, int64_t depth);
};

// Products, for the types T that they compute in.
template <class T> struct ProductKernels {
  int64_t row_tile;     // rows of C that the micro-kernel finishes together
  int64_t lanes;        // columns of C in one vector
  int64_t panel_width;  // columns of B in a packed panel, as many as a tile has: what is read together lies together

  // panel[k][s] = x[s][k] for s < samples ≤ panel_width and first ≤ k < last, zeros behind the last sample.
  void (*pack)(const T* x, int64_t x_row, int64_t samples, int64_t first, int64_t last, T* panel);

  // z[s][n] = Σ_k w[n][k] panel[k][s] + bias[n] and y = act(z) for one panel and `outputs` rows of w; bias may be null.
  // The tile of yᵀ is just what the next layer wants packed, in next[n][s]. Either of y and next may be null.
  void (*forward)(Activation, Strided<T> w, const T* panel, const T* bias, T* y, T* z, int64_t y_row, T* next,
                  int64_t outputs, int64_t samples, int64_t depth);

  // The same for many samples: x as it lies, and w packed into the workspace (forward_workspace). depth > 0.
  void (*forward_rows)(Activation, const T* x, int64_t x_row, const T* w, int64_t w_row, const T* bias, T* y, T* z,
                       int64_t y_row, int64_t samples, int64_t outputs, int64_t depth, T* workspace);

  // c (rows, columns) = a (rows, depth) · b (depth, columns). Without a workspace (packed_workspace) both are read
  // where they lie, whatever the reading says; with one, rows and depth are not 0, and a.row is 1 if it packs a.
  void (*product)(Strided<T> a, const T* b, int64_t b_row, T* c, int64_t c_row, int64_t rows, int64_t columns,
                  int64_t depth, const Reading& reading, T* workspace);

  // The step down a chain: dz (rows, columns) = (a · b) ⊙ act' and bias_gradient = its column sums, unless null. kept
  // is what act' reads.
  void (*product_gradient)(Activation, Strided<T> a, const T* b, int64_t b_row, const T* kept, int64_t kept_row, T* dz,
                           int64_t dz_row, T* bias_gradient, int64_t rows, int64_t columns, int64_t depth,
                           const Reading& reading, T* workspace);
};

// Products of 16-bit numbers S in float32: operands are widened block by block, sums rounded once.
constexpr int64_t kWidenedColumns = 64;  // columns of B that are widened together: whole panels
constexpr int64_t kWidenedGroup = 48;    // rows of A that are widened together
constexpr int64_t kWidenedRows = 240;    // rows of C that are summed together where the depth is more than one block

// A widened row of A; rows that lie 2 KiB apart would evict each other from the first cache.
constexpr int64_t widened_row(int64_t depth) { return (depth + 15) / 16 * 16 + 16; }

// A thread's workspace, in floats: kWidenedColumns of B, kWidenedGroup rows of A, and sums.
constexpr int64_t widened_workspace(int64_t rows, int64_t depth) {
  const int64_t deepest = depth < kDepthBlock ? depth : kDepthBlock,
                groups = (rows + kWidenedGroup - 1) / kWidenedGroup;
  const int64_t summed = depth <= kDepthBlock                    ? 1
                         : groups < kWidenedRows / kWidenedGroup ? groups
                                                                 : kWidenedRows / kWidenedGroup;
  return deepest * kWidenedColumns + kWidenedGroup * (widened_row(deepest) + summed * kWidenedColumns);
}

// C = act(Z), Z = A B + bias, element (i, j) at data[i * row + j], bias by columns; transposed: at data[j * row + i],
// by rows.
template <class S> struct WidenedResult {
  Activation activation;
  const S* bias;  // may be null
  S* data;
  S* z;  // laid out as data; may be null
  int64_t row;
  bool transposed;
};

template <class S> struct WidenedKernels {
  // a (rows, depth) and b (depth, columns), each with one stride of 1: a's row or column, b's row or column.
  void (*product)(Strided<S> a, Strided<S> b, WidenedResult<S> c, int64_t rows, int64_t columns, int64_t depth,
                  float* workspace);
};

// Products in bfloat16 on an instruction that multiplies pairs along the depth. Sums are in float32.
constexpr int64_t kPairedPanel = 64;                       // columns of B in a packed panel, and of a tile
constexpr int64_t kPairedGroup = 48;                       // rows of C that are finished together
constexpr int64_t kPairedDepth = 1024, kPairedRows = 480;  // a packed block of B and one of C share the second cache

// A thread's workspace, in 32-bit words: B's panels, the wider the shorter they are, then rows of C. Where the depth is
// one block, each kPairedGroup of those is finished before the next one begins.
constexpr int64_t paired_panel(int64_t depth) {
  return ((depth < kPairedDepth ? depth : kPairedDepth) + 1) / 2 * kPairedPanel;
}
constexpr int64_t paired_panels(int64_t columns, int64_t depth) {
  const int64_t panels = (columns + kPairedPanel - 1) / kPairedPanel;
  const int64_t room = depth > 0 ? kPairedDepth / 2 * kPairedPanel / paired_panel(depth) : panels;
  return panels < room ? panels : room;
}
constexpr int64_t paired_rows(int64_t depth) { return depth > kPairedDepth ? kPairedRows : kPairedGroup; }
constexpr int64_t paired_workspace(int64_t columns, int64_t depth) {
  return paired_panels(columns, depth) * paired_panel(depth) + paired_rows(depth) * kPairedPanel;
}

// A: in the g-th kPairedGroup rows, the pair of depth 2 k and 2 k + 1 in row i is data[g * group + i * row + k * pair]
// and the element after it.
struct Pairs {
  const BFloat16* data;
  int64_t row, pair, group;
};

// B: element (k, j) is data[k * row + j] if across, else data[j * row + k].
struct PairedOperand {
  const BFloat16* data;
  int64_t row;
  bool across;
};

struct Range {
  int64_t begin, end;
};

struct PairedKernels {
  int64_t row_tile;  // rows of C that the micro-kernel finishes together
  bool (*supported)();

  // y (samples, outputs) = act(z), z = x · wᵀ + bias, the batch being A's rows or B's columns. Of the product's rows
  // those of the range; where the outputs are the rows, it begins at a multiple of 16.
  void (*forward_rows)(Activation, Pairs x, PairedOperand w, const BFloat16* bias, BFloat16* y, BFloat16* z,
                       int64_t y_row, Range samples, int64_t outputs, int64_t depth, uint32_t* workspace);
  void (*forward_columns)(Activation, Pairs w, PairedOperand x, const BFloat16* bias, BFloat16* y, BFloat16* z,
                          int64_t y_row, int64_t samples, Range outputs, int64_t depth, uint32_t* workspace);

  // c (rows, columns) = a · b, the rows of the range.
  void (*product)(Pairs a, PairedOperand b, BFloat16* c, int64_t c_row, Range rows, int64_t columns, int64_t depth,
                  uint32_t* workspace);

  // The transposed matrix as A: to[j / kPairedGroup][k][j % kPairedGroup] = the pair of elements (2 k, j) and
  // (2 k + 1, j), zeros where there is none.
  void (*pair_rows)(const BFloat16* from, int64_t row, int64_t rows, int64_t columns, uint32_t* to);
};

struct Kernels {
  const char* name;  // "avx512", "avx2", "portable"
  bool (*supported)();
  ProductKernels<float> product_float;
  ProductKernels<double> product_double;
  StorageKernels<float> storage_float;
  StorageKernels<double> storage_double;
  StorageKernels<BFloat16> storage_bfloat16;
  StorageKernels<Float16> storage_float16;
  WidenedKernels<BFloat16> widened_bfloat16;
  WidenedKernels<Float16> widened_float16;
};

// The best that this processor supports, or the one that FUSED_GAN_CPU_CAPABILITY names.
const Kernels& kernels();

// Its name: that of the kernels, or of the tiles that some products run on before them (tile_kernels.h).
const char* capability();

// Null where the processor has no such instruction, or FUSED_GAN_CPU_CAPABILITY names a set without it.
const PairedKernels* paired_kernels();

namespace avx512 {
extern const Kernels kKernels;
}
namespace avx512_bf16 {
extern const PairedKernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace portable {
extern const Kernels kKernels;
}

}  // namespace fused_gan::cpu
