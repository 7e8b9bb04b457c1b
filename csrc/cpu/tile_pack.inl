// Operands as tiles: loads of each storage type, planes, pairs of the depth brought together.

// The model is compiled for any processor, where these take many instructions: once, not in each place.
#ifdef FUSED_GAN_TILE_MODEL
#define FUSED_GAN_TILE_FUNCTION __attribute__((noinline))
#else
#define FUSED_GAN_TILE_FUNCTION FUSED_GAN_FUNCTION
#endif

using Words = VecBits<float>;  // 16 pairs of bfloat16
using Halves = VectorOf<float>::half_bits;
typedef uint16_t Line __attribute__((vector_size(64)));  // 32 bfloat16 numbers

constexpr int64_t kHalf = 16;                   // rows or columns of a tile
constexpr int64_t kStepWords = 2 * kTileWords;  // of B's panel, in one step of the depth and one plane

inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t between(int64_t low, int64_t value, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

// 16 numbers of 16 bits, zeros behind the first `count`, which may be any number; no memory behind them is read.
FUSED_GAN_TILE_FUNCTION Halves halves(const uint16_t* from, int64_t count) {
  if (count >= kHalf) return load_as<Halves>(from);
#ifdef FUSED_GAN_AVX512
  return masked_load(from, count > 0 ? (1u << count) - 1 : 0);
#else
  uint16_t buffer[kHalf] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = from[i];
  return load_as<Halves>(buffer);
#endif
}
// The same as float32, and stored.
FUSED_GAN_TILE_FUNCTION Vec<float> widened(const BFloat16* from, int64_t count) {
  return Storage<BFloat16>::widened(halves(&from->bits, count));
}
FUSED_GAN_TILE_FUNCTION Vec<float> widened(const Float16* from, int64_t count) {
  return Storage<Float16>::widened(halves(&from->bits, count));
}
FUSED_GAN_TILE_FUNCTION Vec<float> widened(const float* from, int64_t count) {
  return count >= kHalf ? load_as<Vec<float>>(from) : count > 0 ? load_some(from, count) : Vec<float>{};
}
FUSED_GAN_FUNCTION Line line_of(Halves low, Halves high) {
  Line line;
  __builtin_memcpy(&line, &low, sizeof low);
  __builtin_memcpy(reinterpret_cast<char*>(&line) + sizeof low, &high, sizeof high);
  return line;
}
template <int kAt> FUSED_GAN_FUNCTION Halves half_of(Line line) {
  Halves half;
  __builtin_memcpy(&half, reinterpret_cast<const char*>(&line) + kAt * sizeof half, sizeof half);
  return half;
}

// 32 numbers as bfloat16, to nearest, ties to even. Numbers below 2^-126 become zeros of their sign, as the processor's
// instruction has it.
FUSED_GAN_TILE_FUNCTION Line rounded(Vec<float> low, Vec<float> high) {
#ifdef FUSED_GAN_TILE_MODEL
  return line_of(Storage<BFloat16>::rounded(tile_flushed(low)), Storage<BFloat16>::rounded(tile_flushed(high)));
#else
  return (Line)_mm512_cvtne2ps_pbh(high, low);
#endif
}

// 16 × 16 pairs, rows to columns.
#ifdef FUSED_GAN_TILE_MODEL
inline void transpose_pairs(Vec<float> (&rows)[kHalf]) {  // without shuffles, a compiler needs a page of code for them
  int32_t square[kHalf][kHalf];
  __builtin_memcpy(square, rows, sizeof square);
  for (int i = 0; i < kHalf; ++i)
    for (int j = 0; j < i; ++j) std::swap(square[i][j], square[j][i]);
  __builtin_memcpy(rows, square, sizeof square);
}
#else
FUSED_GAN_FUNCTION void transpose_pairs(Vec<float> (&rows)[kHalf]) { transpose(rows); }
#endif

// The same with small numbers kept: what an activation makes of a sum may lie below 2^-126.
FUSED_GAN_TILE_FUNCTION Line rounded_exactly(Vec<float> low, Vec<float> high) {
#ifndef FUSED_GAN_TILE_MODEL
  constexpr int kDenormal = 0x20;
  if (!(_mm512_fpclass_ps_mask(low, kDenormal) | _mm512_fpclass_ps_mask(high, kDenormal))) return rounded(low, high);
#endif
  return line_of(Storage<BFloat16>::rounded(low), Storage<BFloat16>::rounded(high));
}

// The numbers of a line's first half beside those of its second: pairs of the depth.
FUSED_GAN_TILE_FUNCTION Words pairs_of(Line line) {
  return __builtin_convertvector(half_of<0>(line), Words) | __builtin_convertvector(half_of<1>(line), Words) << 16;
}

// Of two lines, the pairs of their first 16 numbers, and of their last.
template <int kAt> FUSED_GAN_TILE_FUNCTION Line pairs_of(Line even, Line odd) {
#ifdef FUSED_GAN_TILE_MODEL
  return bit_cast<Line>(pairs_of(line_of(half_of<kAt>(even), half_of<kAt>(odd))));
#else
  constexpr auto interleaved = []<size_t... kLane>(Line a, Line b, std::index_sequence<kLane...>) {
    return __builtin_shufflevector(a, b, (kAt * kHalf + kLane / 2 + (kLane & 1) * 2 * kHalf)...);
  };
  return interleaved(even, odd, std::make_index_sequence<2 * kHalf>{});
#endif
}

// The largest magnitudes met, lane by lane, as bits. NaN does not count: in all planes, it comes out as NaN.
FUSED_GAN_TILE_FUNCTION void meet(Words& largest, Vec<float> v) {
  const Words magnitude = bit_cast<Words>(v) & 0x7fffffff;
  largest = magnitude > largest && v == v ? magnitude : largest;
}

// 32 numbers as kPlanes planes of bfloat16.
template <int kPlanes> FUSED_GAN_TILE_FUNCTION void split(Vec<float> low, Vec<float> high, Line (&planes)[kPlanes]) {
#pragma GCC unroll 3
  for (int p = 0; p < kPlanes; ++p) {
    planes[p] = rounded(low, high);
    if (p + 1 == kPlanes) break;
    low -= Storage<BFloat16>::widened(half_of<0>(planes[p]));
    high -= Storage<BFloat16>::widened(half_of<1>(planes[p]));
  }
}
template <class S> constexpr bool kIsPlane = std::is_same_v<S, BFloat16>;

// Of many lines, the largest number of each being given in a lane.
struct Extent {
  Words largest = {}, smallest = {};

  FUSED_GAN_FUNCTION Extent() { smallest += int32_t(Magnitudes::kNoLine); }
  FUSED_GAN_TILE_FUNCTION void include(Words lines) {
    const Words counted = lines == 0 ? Words{} + int32_t(Magnitudes::kNoLine) : lines;
    largest = lines > largest ? lines : largest;
    smallest = counted < smallest ? counted : smallest;
  }
  // One vector per line.
  FUSED_GAN_TILE_FUNCTION void include(const Words* lines) {
    Vec<float> square[kHalf];
    for (int i = 0; i < kHalf; ++i) square[i] = bit_cast<Vec<float>>(lines[i]);
    transpose_pairs(square);
    Words most = {};
    for (int i = 0; i < kHalf; ++i) {
      const Words lanes = bit_cast<Words>(square[i]);
      most = lanes > most ? lanes : most;
    }
    include(most);
  }
  FUSED_GAN_FUNCTION Magnitudes value() const {
    Magnitudes met;
    for (int i = 0; i < Lanes<float>::kCount; ++i) met.include({uint32_t(largest[i]), uint32_t(smallest[i])});
    return met;
  }
};

// Of 32 lines, over at most kTileCut steps of the depth that begin at a multiple of it, so that it does not matter who
// packs which part.
template <class S> struct LinesMet {
  Words largest[kTileBlock] = {};  // a line each, or, across the depth, 16 lines in each of the first two

  FUSED_GAN_FUNCTION void end_step(int64_t step, int64_t last, bool across, Extent& extent) {
    if ((step + 1) % kTileCut != 0 && step != last) return;
    for (int64_t h = 0; h < 2; ++h) {
      if (across) extent.include(largest[h]);
      else extent.include(largest + h * kHalf);
    }
    for (Words& lanes : largest) lanes = Words{};
  }
};
template <> struct LinesMet<BFloat16> {  // one plane: nothing can be lost
  Words largest[kTileBlock];
  FUSED_GAN_FUNCTION void end_step(int64_t, int64_t, bool, Extent&) {}
};

// 16 lines of 32 numbers, side by side along the depth, of which `lines` and `depth` are there. to[plane] is a tile,
// planes `apart`: of A, or transposed, of B.
template <class S, int kPlanes, bool kTransposed>
FUSED_GAN_FUNCTION void pack_along(const S* from, int64_t row, int64_t lines, int64_t depth, uint16_t* to,
                                   int64_t apart, Words* largest) {
  Vec<float> square[kPlanes][kHalf];
  for (int64_t i = 0; i < kHalf; ++i) {
    const S* line = from + i * row;
    const int64_t count = i < lines ? depth : 0;
    Line planes[kPlanes];
    if constexpr (kIsPlane<S>) {
      planes[0] = line_of(halves(&line->bits, count), halves(&line->bits + kHalf, count - kHalf));
    } else {
      const Vec<float> low = widened(line, count), high = widened(line + kHalf, count - kHalf);
      meet(largest[i], low);
      meet(largest[i], high);
      split<kPlanes>(low, high, planes);
    }
#pragma GCC unroll 3
    for (int p = 0; p < kPlanes; ++p)
      if constexpr (kTransposed) square[p][i] = bit_cast<Vec<float>>(planes[p]);
      else store_as(to + p * apart + i * kTileStep, planes[p]);
  }
  if constexpr (kTransposed)
    for (int p = 0; p < kPlanes; ++p) {
      transpose_pairs(square[p]);
#pragma GCC unroll 16
      for (int i = 0; i < kHalf; ++i) store_as(to + p * apart + i * kTileStep, square[p][i]);
    }
}

// Rows `row` apart run across the depth: of 32 of them, `depth` being there, the pairs of 16 lines, `lines` being
// there. put(pair, plane, words).
template <class S, int kPlanes, class Put>
FUSED_GAN_TILE_FUNCTION void pair_up(const S* from, int64_t row, int64_t pair, int64_t lines, int64_t depth,
                                     Words& largest, const Put& put) {
  const S* even = from + 2 * pair * row;
  const int64_t even_count = 2 * pair < depth ? lines : 0, odd_count = 2 * pair + 1 < depth ? lines : 0;
  if constexpr (kIsPlane<S>) {
    put(pair, 0, pairs_of(line_of(halves(&even->bits, even_count), halves(&(even + row)->bits, odd_count))));
  } else {
    const Vec<float> low = widened(even, even_count), high = widened(even + row, odd_count);
    meet(largest, low);
    meet(largest, high);
    Line planes[kPlanes];
    split<kPlanes>(low, high, planes);
#pragma GCC unroll 3
    for (int p = 0; p < kPlanes; ++p) put(pair, p, pairs_of(planes[p]));
  }
}

// Rows across the depth often lie pages apart, where the processor fetches nothing ahead by itself: two of the next 32.
template <class S> FUSED_GAN_FUNCTION void fetch_next_step(const S* from, int64_t row) {
  __builtin_prefetch(from + kTileStep * row);
  __builtin_prefetch(from + (kTileStep + 1) * row);
}

// A tile of A, from rows across the depth: the pairs of 16 of A's rows, transposed.
template <class S, int kPlanes>
FUSED_GAN_FUNCTION void pack_across_a(const S* from, int64_t row, int64_t lines, int64_t depth, uint16_t* to,
                                      Words& largest) {
  Vec<float> square[kPlanes][kHalf];
#pragma GCC unroll 16
  for (int64_t i = 0; i < kHalf; ++i) {
    fetch_next_step(from + 2 * i * row, row);
    pair_up<S, kPlanes>(from, row, i, lines, depth, largest,
                        [&](int64_t pair, int p, Words words) { square[p][pair] = bit_cast<Vec<float>>(words); });
  }
  for (int p = 0; p < kPlanes; ++p) {
    transpose_pairs(square[p]);
#pragma GCC unroll 16
    for (int i = 0; i < kHalf; ++i) store_as(to + p * kTileWords + i * kTileStep, square[p][i]);
  }
}

template <class S, int kPlanes>
Magnitudes pack_a(TileOperand<S> a, Range rows, Range steps, int64_t depth, uint16_t* to, int64_t block) {
  Extent extent;
  // Two blocks of 16 together, as a row across the depth is a line of the cache for both.
  for (int64_t r = rows.begin; r < rows.end; r += kTileBlock, to += 2 * block) {
    LinesMet<S> met;
    for (int64_t s = steps.begin; s < steps.end; ++s) {
      const int64_t k = s * kTileStep, deep = at_most(kTileStep, depth - k);
      for (int64_t h = 0; h < 2 && r + h * kHalf < rows.end; ++h) {
        const int64_t count = at_most(kHalf, rows.end - r - h * kHalf);
        const S* from = a.from_line(r + h * kHalf).data;
        uint16_t* tile = to + h * block + (s - steps.begin) * kPlanes * kTileWords;
        if (a.across) pack_across_a<S, kPlanes>(from + k * a.row, a.row, count, deep, tile, met.largest[h]);
        else pack_along<S, kPlanes, false>(from + k, a.row, count, deep, tile, kTileWords, met.largest + h * kHalf);
      }
      met.end_step(s, steps.end - 1, a.across, extent);
    }
  }
  return extent.value();
}

template <class S, int kPlanes>
Magnitudes pack_b(TileOperand<S> b, int64_t columns, Range panels, Range steps, int64_t depth, TilePanels to) {
  constexpr int64_t kTogether = 4;  // panels, where rows run across the depth: whole lines of the cache
  Extent extent;
  for (int64_t first = panels.begin; first < panels.end; first += kTogether) {
    const int64_t many = at_most(kTogether, panels.end - first);
    LinesMet<S> met[kTogether];
    for (int64_t s = steps.begin; s < steps.end; ++s) {
      const int64_t k = s * kTileStep, deep = at_most(kTileStep, depth - k);
      uint16_t* step = to.data + (first - panels.begin) * to.panel + (s - steps.begin) * to.step;
      // f(panel, half, its first column, how many there are, its tile)
      const auto each_half = [&](const auto& f) __attribute__((always_inline)) {
        for (int64_t p = 0; p < many; ++p)
          for (int64_t h = 0; h < 2; ++h) {
            const int64_t j = (first + p) * kTileBlock + h * kHalf;
            f(p, h, b.from_line(j).data, between(0, columns - j, kHalf), step + p * to.panel + h * kTileWords);
          }
      };
      if (b.across)
        for (int64_t pair = 0; pair < kHalf; ++pair) {
          for (int64_t p = 0; p < many; ++p)
            fetch_next_step(b.from_line((first + p) * kTileBlock).data + (k + 2 * pair) * b.row, b.row);
          if constexpr (kIsPlane<S>)
            if (2 * pair + 1 < deep && (first + many) * kTileBlock <= columns) {  // nothing is missing
              for (int64_t p = 0; p < many; ++p) {
                const S* even = b.from_line((first + p) * kTileBlock).data + (k + 2 * pair) * b.row;
                const Line upper = load_as<Line>(even), lower = load_as<Line>(even + b.row);
                uint16_t* tile = step + p * to.panel + pair * kTileStep;
                store_as(tile, pairs_of<0>(upper, lower));
                store_as(tile + kTileWords, pairs_of<1>(upper, lower));
              }
              continue;
            }
          each_half([&](int64_t p, int64_t h, const S* from, int64_t count,
                        uint16_t* tile) __attribute__((always_inline)) {
            pair_up<S, kPlanes>(
                from + k * b.row, b.row, pair, count, deep, met[p].largest[h],
                [&](int64_t i, int plane, Words words) { store_as(tile + plane * kStepWords + i * kTileStep, words); });
          });
        }
      else
        each_half(
            [&](int64_t p, int64_t h, const S* from, int64_t count, uint16_t* tile) __attribute__((always_inline)) {
              pack_along<S, kPlanes, true>(from + k, b.row, count, deep, tile, kStepWords, met[p].largest + h * kHalf);
            });
      for (int64_t p = 0; p < many; ++p) met[p].end_step(s, steps.end - 1, b.across, extent);
    }
  }
  return extent.value();
}
