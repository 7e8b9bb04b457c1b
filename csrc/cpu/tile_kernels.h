// Products on tiles (Intel's AMX): what the kernels offer. They know pointers, sizes and strides, no torch; tiled.h
// allocates and spreads them over threads, tile_products.inl does the work.
//
// A tile product multiplies bfloat16 and sums in float32: C (16 rows, 16 columns) += A (16, 32) · B (32, 16). Other
// types go through as a sum of bfloat16 planes, x = x1 + x2 + …, each the bfloat16 nearest to what the planes before it
// leave over: float32 is three planes, float16 two. Of three planes the products that are too small to count are left
// out.
//
//     A   [block of 16 rows][step of 32 in depth][plane][16 rows][32 of depth]; one plane may also be read as it lies
//     B   [panel of 32 columns] and [step] in any order, [plane][half of 16 columns][16 pairs of depth][16 columns][2]
#pragma once

#include <cstdint>

#include "kernel_table.h"

namespace fused_gan::cpu {

constexpr int64_t kTileStep = 32;    // of the depth
constexpr int64_t kTileBlock = 32;   // rows and columns of C that are summed together, in four tiles
constexpr int64_t kTileCut = 16;     // steps of the depth after which magnitudes are looked at anew
constexpr int64_t kTileWords = 512;  // bfloat16 numbers in a tile

// An operand as it lies. Its lines are A's rows or B's columns. Element k of line i is data[i * row + k], or, if the
// memory's rows run across the depth, data[k * row + i].
template <class S> struct TileOperand {
  const S* data;
  int64_t row;
  bool across;

  FUSED_GAN_FUNCTION TileOperand from_line(int64_t i) const { return {data + (across ? i : i * row), row, across}; }
};

// Of packed numbers, as the bits of a float32, in which Inf and NaN exceed every number: the largest magnitude, and
// the smallest of the largest in each line, lines of zeros left out. Lines are cut every 512 numbers.
struct Magnitudes {
  static constexpr uint32_t kNoLine = 0x7fffffff;
  uint32_t largest = 0, smallest_line = kNoLine;

  FUSED_GAN_FUNCTION void include(Magnitudes other) {
    if (other.largest > largest) largest = other.largest;
    if (other.smallest_line < smallest_line) smallest_line = other.smallest_line;
  }
};

struct ProductMagnitudes {
  Magnitudes a, b;

  FUSED_GAN_FUNCTION void include(ProductMagnitudes other) {
    a.include(other.a);
    b.include(other.b);
  }
};

struct TilePanels {
  uint16_t* data;
  int64_t panel, step;  // from one to the next
};

// How the blocks of C follow one another: `rows` × `panels` of them at a time, the depth in parts of `steps`. If
// holds_rows, panels pass while a block of rows stays in the first cache, else rows pass a panel of B.
struct TileBlocking {
  int64_t rows, panels, steps;
  bool holds_rows;
};

// The work that follows on a block of C once its sums are complete.
enum class TileEnd {
  kStore,     // c, rounded
  kForward,   // act(z), z = c + bias, the columns being outputs
  kColumns,   // act(z) transposed, the rows being outputs; and for the next layer its panels of B
  kGradient,  // c ⊙ act', with its column sums
};

template <class S> struct TileProduct {
  int64_t rows, columns, depth;
  TileOperand<S> a, b;       // as they lie; b's lines are its columns
  const uint16_t* a_packed;  // all rows, or null: then A is read as it lies or packed on the way
  TilePanels b_packed;       // all panels, or null: then packed on the way
  Range steps;               // the part of the depth that this call sums, of a float32 C; else all of it
  TileBlocking blocking;

  TileEnd end;
  Activation activation;
  S* c;             // of kColumns: y (columns, rows)
  int64_t c_row;    // elements from one row of it to the next
  S* z;             // of kForward and kColumns: laid out as c, or null
  const S* bias;    // may be null
  TilePanels next;  // of kColumns: data may be null
  const S* kept;    // of kGradient: what act' reads; may be null for identity
  int64_t kept_row;
  double* sums;  // of kGradient: [32 rows][columns, padded to 32]; may be null
};

template <class S> struct TileKernels {
  int planes;

  // Rows [rows) of A, steps [steps) of its depth, to `to`, whose blocks of 16 rows are `block` apart.
  Magnitudes (*pack_a)(TileOperand<S> a, Range rows, Range steps, int64_t depth, uint16_t* to, int64_t block);
  // Panels [panels) and steps [steps) of B; `to` is where the first of them goes.
  Magnitudes (*pack_b)(TileOperand<S> b, int64_t columns, Range panels, Range steps, int64_t depth, TilePanels to);

  // Rows [rows) and panels [panels) of C, with the magnitudes of what was packed on the way.
  ProductMagnitudes (*product)(const TileProduct<S>& product, Range rows, Range panels, uint16_t* workspace);

  // to[j] = the sum of `blocks` rows of sums, which are `row` apart, for `columns` columns.
  void (*add_sums)(const double* sums, int64_t row, int64_t blocks, int64_t columns, S* to);
};

struct Tiles {
  const char* name;  // "amx", "amx_model"
  bool (*supported)();
  TileKernels<BFloat16> bfloat16;
  TileKernels<Float16> float16;
  TileKernels<float> float32_in_one_plane, float32_in_three_planes;
};

FUSED_GAN_FUNCTION constexpr int64_t tile_units(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }

// A thread's workspace for a product, in 16-bit words: a part of C in float32, packed rows of A or the rest of the
// depth of rows that are read as they lie, packed panels of B.
FUSED_GAN_FUNCTION constexpr int64_t tile_depth_part(int64_t steps, TileBlocking by) {
  return steps <= by.steps + by.steps / 2 ? steps : tile_units(steps, tile_units(steps, by.steps));
}
struct TileWorkspace {
  int64_t c, a, b;
  FUSED_GAN_FUNCTION constexpr int64_t words() const { return c + a + b; }
};
FUSED_GAN_FUNCTION constexpr TileWorkspace tile_workspace(int planes, int64_t rows, int64_t panels, int64_t steps,
                                                          TileBlocking by) {
  const int64_t high = rows < by.rows ? rows : by.rows, wide = panels < by.panels ? panels : by.panels;
  const int64_t part = tile_depth_part(steps, by), blocks = tile_units(high, kTileBlock);
  const bool again = panels > by.panels;  // A's rows are met once for each group of panels
  return {2 * kTileBlock * kTileBlock * (part == steps ? 1 : blocks * wide),
          2 * blocks * kTileWords * planes * (again ? steps : part), 2 * wide * kTileWords * planes * part};
}

// Null where the processor has no such instructions, or FUSED_GAN_CPU_CAPABILITY names a set without them.
const Tiles* tiles();

#if defined(__x86_64__) && defined(__linux__)
namespace amx {
extern const Tiles kTiles;
}
#endif
namespace amx_model {
extern const Tiles kTiles;
}

}  // namespace fused_gan::cpu
