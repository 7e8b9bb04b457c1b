// Products in bfloat16 with sums in float32, on an instruction that multiplies pairs: c += a0 b0 + a1 b1. So the depth
// goes by pairs: A is read as it lies where its pairs do, B's block is packed so that the two of a pair lie together.
#include "isa.h"

namespace fused_gan::cpu::FUSED_GAN_ISA {
namespace {

#include "vector_activations.inl"

constexpr int kTileRows = 6, kTileVectors = 4, kLanes = Lanes<float>::kCount;
static_assert(kTileVectors * kLanes == kPairedPanel);

inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

FUSED_GAN_FUNCTION uint32_t pair_at(const BFloat16* from) {
  uint32_t pair;
  __builtin_memcpy(&pair, from, sizeof pair);
  return pair;
}

// c (kRows, kVectors vectors), rows kPairedPanel apart, = or += the product over `depth`; b holds pairs, rows
// kPairedPanel apart.
template <int kRows, int kVectors>
FUSED_GAN_FUNCTION void micro_tile(Pairs a, const uint32_t* b, float* c, int64_t depth, bool accumulate) {
  __m512 sum[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      sum[r][v] = accumulate ? _mm512_loadu_ps(c + r * kPairedPanel + v * kLanes) : _mm512_setzero_ps();
  const auto step = [&](auto pair_of_row) __attribute__((always_inline)) {
    __m512bh line[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) line[v] = (__m512bh)_mm512_loadu_si512(b + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512bh element = (__m512bh)_mm512_set1_epi32(int(pair_of_row(a.data + r * a.row)));
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], element, line[v]);
    }
  };
  for (int64_t k = 0; k + 1 < depth; k += 2, b += kPairedPanel, a.data += a.pair) step(pair_at);
  if (depth % 2) step([](const BFloat16* from) { return uint32_t(from->bits); });
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(c + r * kPairedPanel + v * kLanes, sum[r][v]);
}

// The micro-tile with `rows` ≤ kTileRows and `vectors` ≤ kTileVectors chosen at run time.
template <int kVectors = kTileVectors, int kRows = kTileRows>
void tile(int64_t rows, int64_t vectors, Pairs a, const uint32_t* b, float* c, int64_t depth, bool accumulate) {
  if constexpr (kVectors > 1)
    if (vectors < kVectors) return tile<kVectors - 1, kRows>(rows, vectors, a, b, c, depth, accumulate);
  if constexpr (kRows > 1)
    if (rows < kRows) return tile<kVectors, kRows - 1>(rows, vectors, a, b, c, depth, accumulate);
  micro_tile<kRows, kVectors>(a, b, c, depth, accumulate);
}

FUSED_GAN_FUNCTION __mmask16 lanes_of(int64_t columns) { return columns >= kLanes ? 0xffff : (1u << columns) - 1; }

// The pairs of two rows, or of one and zeros where it is the last.
FUSED_GAN_FUNCTION __m512i pair_of(const BFloat16* from, int64_t row, int64_t rows, __mmask16 lanes) {
  const __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, from));
  if (rows == 1) return even;
  return _mm512_or_si512(even,
                         _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, from + row)), 16));
}

// to[k / 2][j] = the pair of rows k and k + 1 at column j, zeros behind the last row and column.
void pack_across(const BFloat16* from, int64_t row, int64_t rows, int64_t columns, uint32_t* to) {
  for (int64_t k = 0; k < rows; k += 2, to += kPairedPanel)
    for (int64_t j = 0; j < columns; j += kLanes)
      _mm512_storeu_si512(to + j, pair_of(from + k * row + j, row, rows - k, lanes_of(columns - j)));
}

// to[k / 2][j] = the pair k, k + 1 of row j, zeros behind the last row and column: a transposition of pairs.
void pack_along(const BFloat16* from, int64_t row, int64_t rows, int64_t depth, uint32_t* to) {
  constexpr int64_t kStep = 2 * kLanes;
  for (int64_t j = 0; j < kPairedPanel; j += kLanes)
    for (int64_t k = 0; k < depth; k += kStep) {
      const int64_t count = at_most(kStep, depth - k);
      const __mmask32 lanes = count == kStep ? ~0u : (1u << count) - 1;
      Vec<float> square[kLanes];
      for (int64_t i = 0; i < kLanes; ++i)
        square[i] = j + i < rows
                        ? (Vec<float>)_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(lanes, from + (j + i) * row + k))
                        : Vec<float>{};
      transpose(square);
      for (int64_t i = 0; 2 * i < count; ++i) store_as(to + (k / 2 + i) * kPairedPanel + j, square[i]);
    }
}

static_assert(kPairedGroup % kTileRows == 0 && kPairedGroup % kLanes == 0 && kPairedRows % kPairedGroup == 0);

// finished(r, j, height, width, block) for every kPairedGroup rows of each block of columns, while they are in the
// first cache: block[i][n] is c[r + i][j + n], its rows kPairedPanel apart.
template <class Finished>
FUSED_GAN_FUNCTION void blocked_product(Pairs a, PairedOperand b, Range rows, int64_t columns, int64_t depth,
                                        uint32_t* workspace, const Finished& finished) {
  uint32_t* packed = workspace;
  // A short depth leaves room for several panels of B: so much longer are the pieces in which C's rows are written.
  const int64_t panel = paired_panel(depth), wide = paired_panels(columns, depth) * kPairedPanel;
  float* c = reinterpret_cast<float*>(workspace + paired_panels(columns, depth) * panel);
  const bool one_block = depth <= kPairedDepth;
  for (int64_t first = rows.begin; first < rows.end; first += kPairedRows)
    for (int64_t left = 0; left < columns; left += wide) {
      const int64_t last = at_most(rows.end, first + kPairedRows), right = at_most(columns, left + wide);
      for (int64_t k = 0; k < depth || k == 0; k += kPairedDepth) {
        const int64_t deep = at_most(kPairedDepth, depth - k);
        for (int64_t j = left; j < right; j += kPairedPanel) {
          uint32_t* to = packed + (j - left) / kPairedPanel * panel;
          const int64_t width = at_most(kPairedPanel, right - j);
          if (b.across) pack_across(b.data + k * b.row + j, b.row, deep, width, to);
          else pack_along(b.data + j * b.row + k, b.row, width, deep, to);
        }
        for (int64_t group = first, end; group < last; group = end) {
          end = at_most(last, (group / kPairedGroup + 1) * kPairedGroup);
          const BFloat16* rows_of_a =
              a.data + group / kPairedGroup * a.group + group % kPairedGroup * a.row + k / 2 * a.pair;
          for (int64_t j = left; j < right; j += kPairedPanel) {
            const int64_t width = at_most(kPairedPanel, right - j);
            float* block = c + (one_block ? 0 : (group - first) * kPairedPanel);
            for (int64_t r = group; r < end; r += kTileRows)
              tile<>(at_most(kTileRows, end - r), (width + kLanes - 1) / kLanes,
                     {rows_of_a + (r - group) * a.row, a.row, a.pair, a.group},
                     packed + (j - left) / kPairedPanel * panel, block + (r - group) * kPairedPanel, deep, k > 0);
            if (k + kPairedDepth >= depth) finished(group, j, end - group, width, block);
          }
        }
      }
    }
}

FUSED_GAN_FUNCTION void store_rounded(BFloat16* to, Vec<float> v, __mmask16 lanes) {
  _mm256_mask_storeu_epi16(to, lanes, (__m256i)Storage<BFloat16>::rounded(v));
}

// block with its bias -> z rows, unless z is null; activated, y rows.
template <class Act>
FUSED_GAN_FUNCTION void finish_rows(const Act& act, const float* block, const BFloat16* bias, BFloat16* y, BFloat16* z,
                                    int64_t y_row, int64_t samples, int64_t outputs) {
  for (int64_t n = 0; n < outputs; n += kLanes) {
    const __mmask16 lanes = lanes_of(outputs - n);
    const Vec<float> b = bias ? load_some(bias + n, at_most(kLanes, outputs - n)) : Vec<float>{};
    for (int64_t s = 0; s < samples; ++s) {
      const Vec<float> sum = load_as<Vec<float>>(block + s * kPairedPanel + n) + b;
      if (z) store_rounded(z + s * y_row + n, sum, lanes);
      store_rounded(y + s * y_row + n, act.forward(sum), lanes);
    }
  }
}

// block of yᵀ -> y, activated and transposed.
template <class Act>
FUSED_GAN_FUNCTION void finish_columns(const Act& act, const float* block, const BFloat16* bias, BFloat16* y,
                                       int64_t y_row, int64_t samples, int64_t outputs) {
  for (int64_t n = 0; n < outputs; n += kLanes) {
    const int64_t count = at_most(kLanes, outputs - n);
    const Vec<float> b = bias ? load_some(bias + n, count) : Vec<float>{};
    for (int64_t s = 0; s < samples; s += kLanes) {
      Vec<float> square[kLanes];
      for (int64_t i = 0; i < kLanes; ++i)
        square[i] =
            i < count ? act.forward(load_as<Vec<float>>(block + (n + i) * kPairedPanel + s) + b[i]) : Vec<float>{};
      transpose(square);
      for (int64_t i = 0; i < at_most(kLanes, samples - s); ++i)
        store_rounded(y + (s + i) * y_row + n, square[i], lanes_of(count));
    }
  }
}

void forward_rows(Activation activation, Pairs x, PairedOperand w, const BFloat16* bias, BFloat16* y, BFloat16* z,
                  int64_t y_row, Range samples, int64_t outputs, int64_t depth, uint32_t* workspace) {
  with_activation<float>(activation, [&](const auto& act) {
    blocked_product(x, w, samples, outputs, depth, workspace,
                    [&](int64_t s, int64_t n, int64_t height, int64_t width, const float* block) {
                      const int64_t at = s * y_row + n;
                      finish_rows(act, block, bias ? bias + n : nullptr, y + at, z ? z + at : nullptr, y_row, height,
                                  width);
                    });
  });
}

void forward_columns(Activation activation, Pairs w, PairedOperand x, const BFloat16* bias, BFloat16* y, BFloat16* z,
                     int64_t y_row, int64_t samples, Range outputs, int64_t depth, uint32_t* workspace) {
  const Inlined<Identity, float> keeps(kIdentity);
  with_activation<float>(activation, [&](const auto& act) {
    blocked_product(w, x, outputs, samples, depth, workspace,
                    [&](int64_t n, int64_t s, int64_t height, int64_t width, const float* block) {
                      const BFloat16* b = bias ? bias + n : nullptr;
                      const int64_t at = s * y_row + n;
                      if (z) finish_columns(keeps, block, b, z + at, y_row, width, height);
                      finish_columns(act, block, b, y + at, y_row, width, height);
                    });
  });
}

// Sums hold no denormal numbers, so the processor may round them: it makes those zero.
void product(Pairs a, PairedOperand b, BFloat16* c, int64_t c_row, Range rows, int64_t columns, int64_t depth,
             uint32_t* workspace) {
  blocked_product(a, b, rows, columns, depth, workspace,
                  [&](int64_t r, int64_t j, int64_t height, int64_t width, const float* block) {
                    for (int64_t i = 0; i < height; ++i)
                      for (int64_t n = 0; n < width; n += kLanes)
                        _mm256_mask_storeu_epi16(
                            c + (r + i) * c_row + j + n, lanes_of(width - n),
                            (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(block + i * kPairedPanel + n)));
                  });
}

void pair_rows(const BFloat16* from, int64_t row, int64_t rows, int64_t columns, uint32_t* to) {
  const int64_t group = (rows + 1) / 2 * kPairedGroup;
  for (int64_t j = 0; j < columns; j += kLanes) {
    uint32_t* lines = to + j / kPairedGroup * group + j % kPairedGroup;
    for (int64_t k = 0; k < rows; k += 2)
      _mm512_storeu_si512(lines + k / 2 * kPairedGroup,
                          pair_of(from + k * row + j, row, rows - k, lanes_of(columns - j)));
  }
}

bool supported();  // defined by isa_avx512_bf16.cpp

}  // namespace

extern const PairedKernels kKernels = {kTileRows, supported, forward_rows, forward_columns, product, pair_rows};

}  // namespace fused_gan::cpu::FUSED_GAN_ISA
