// Products on tiles, with what follows them done while a block of 32 × 32 sums is in the first cache.
#include "isa.h"

namespace fused_gan::cpu::FUSED_GAN_ISA {
namespace {

#include "tiles.h"
//
#include "tile_pack.inl"

template <class Act> FUSED_GAN_TILE_FUNCTION Vec<float> activated(Vec<float> z, Vec<float> slope) {
  return Act::forward(z, slope);
}
template <class Act>
FUSED_GAN_TILE_FUNCTION Vec<float> activation_gradient(Vec<float> dy, Vec<float> y, Vec<float> slope) {
  return Act::gradient(dy, y, slope);
}

// ---- what is done with a block of sums: rows [r, r + height) and columns from j, rows of c 32 apart ----
FUSED_GAN_FUNCTION Vec<float> sums_at(const float* c, int64_t row, int64_t half) {
  return load_as<Vec<float>>(c + row * kTileBlock + half * kHalf);
}
// 32 numbers, of which `count` are there, rounded.
FUSED_GAN_FUNCTION void store_words(BFloat16* to, Line line, int64_t count) {
  if (count >= kTileBlock) return store_as(to, line);
#ifdef FUSED_GAN_AVX512
  _mm512_mask_storeu_epi16(to, (__mmask32(1) << count) - 1, (__m512i)line);
#else
  __builtin_memcpy(to, &line, size_t(count) * sizeof *to);
#endif
}
FUSED_GAN_FUNCTION void store_line(BFloat16* to, Vec<float> low, Vec<float> high, int64_t count) {
  store_words(to, rounded_exactly(low, high), count);
}
template <class S> FUSED_GAN_FUNCTION void store_line(S* to, Vec<float> low, Vec<float> high, int64_t count) {
  store_some(to, low, at_most(count, kHalf));
  if (count > kHalf) store_some(to + kHalf, high, at_most(count - kHalf, kHalf));
}

template <class S> void finish_store(const TileProduct<S>& p, int64_t r, int64_t j, int64_t height, const float* c) {
  for (int64_t i = 0; i < height; ++i)
    store_line(p.c + (r + i) * p.c_row + j, sums_at(c, i, 0), sums_at(c, i, 1), at_most(kTileBlock, p.columns - j));
}

template <class S, class Act>
void finish_forward(const TileProduct<S>& p, int64_t r, int64_t j, int64_t height, const float* c) {
  const int64_t count = at_most(kTileBlock, p.columns - j);
  const Vec<float> slope = broadcast(float(p.activation.slope));
  const Vec<float> low = p.bias ? widened(p.bias + j, count) : Vec<float>{};
  const Vec<float> high = p.bias ? widened(p.bias + j + kHalf, count - kHalf) : Vec<float>{};
  for (int64_t i = 0; i < height; ++i)
    store_line(p.c + (r + i) * p.c_row + j, activated<Act>(sums_at(c, i, 0) + low, slope),
               activated<Act>(sums_at(c, i, 1) + high, slope), count);
}

// The block is one of yᵀ. Rounded in pairs of its rows it is what the next layer wants as B; those pairs transposed
// are y.
template <class Act>
void finish_columns(const TileProduct<BFloat16>& p, int64_t r, int64_t j, int64_t height, const float* c) {
  const Vec<float> slope = broadcast(float(p.activation.slope));
  for (int64_t h = 0; h < 2 && j + h * kHalf < p.columns; ++h) {
    Vec<float> pairs[kHalf];
#pragma GCC unroll 16
    for (int64_t i = 0; i < kHalf; ++i) {
      Vec<float> y[2] = {};
#pragma GCC unroll 2
      for (int64_t e = 0; e < 2; ++e)
        if (const int64_t row = 2 * i + e; row < height) {
          const float bias = p.bias ? bit_cast<float>(uint32_t(p.bias[r + row].bits) << 16) : 0.f;
          y[e] = activated<Act>(sums_at(c, row, h) + bias, slope);
        }
      pairs[i] = bit_cast<Vec<float>>(pairs_of(rounded_exactly(y[0], y[1])));
    }
    if (p.next.data) {
      uint16_t* tile = p.next.data + j / kTileBlock * p.next.panel + r / kTileStep * p.next.step + h * kTileWords;
#pragma GCC unroll 16
      for (int i = 0; i < kHalf; ++i) store_as(tile + i * kTileStep, pairs[i]);
    }
    transpose_pairs(pairs);
    for (int64_t i = 0; i < at_most(kHalf, p.columns - j - h * kHalf); ++i) {
      BFloat16* to = p.c + (j + h * kHalf + i) * p.c_row + r;
      store_words(to, bit_cast<Line>(pairs[i]), height);
    }
  }
}

// Four rows are read before four are written, as y and the gradient often lie a multiple of 4 KiB apart. Sums of 32
// rows are in float32 where the result is shorter, in float64 where it is not.
template <class S, class Act>
void finish_gradient(const TileProduct<S>& p, int64_t r, int64_t j, int64_t height, const float* c) {
  constexpr int64_t kTogether = 4;
  typedef double Wide __attribute__((vector_size(2 * sizeof(Vec<float>))));
  using Sums = std::conditional_t<std::is_same_v<S, float>, Wide, Vec<float>>;
  const int64_t count = at_most(kTileBlock, p.columns - j);
  const Vec<float> slope = broadcast(float(p.activation.slope));
  Sums sums[2] = {};
  for (int64_t i = 0; i < height; i += kTogether) {
    Vec<float> dz[kTogether][2];
#pragma GCC unroll 4
    for (int64_t e = 0; e < kTogether; ++e) {
      const bool inside = i + e < height;
#pragma GCC unroll 2
      for (int64_t h = 0; h < 2; ++h) {
        const Vec<float> dy = inside ? sums_at(c, i + e, h) : Vec<float>{};
        const Vec<float> y =
            p.y ? widened(p.y + (r + i + e) * p.y_row + j + h * kHalf, inside ? count - h * kHalf : 0) : dy;
        dz[e][h] = activation_gradient<Act>(dy, y, slope);
        if (inside) sums[h] += __builtin_convertvector(dz[e][h], Sums);
      }
    }
    for (int64_t e = 0; e < at_most(kTogether, height - i); ++e)
      store_line(p.c + (r + i + e) * p.c_row + j, dz[e][0], dz[e][1], count);
  }
  if (!p.sums) return;
  double* to = p.sums + r / kTileBlock * tile_units(p.columns, kTileBlock) * kTileBlock + j;
  for (int64_t h = 0; h < 2; ++h) store_as(to + h * kHalf, __builtin_convertvector(sums[h], Wide));
}

template <class S> using Finish = void (*)(const TileProduct<S>&, int64_t r, int64_t j, int64_t height, const float* c);

template <class S> Finish<S> finish_of(TileEnd end, int activation) {
  Finish<S> finish = finish_store<S>;
  Activations::visit(activation, [&](auto act) {
    if (end == TileEnd::kForward) finish = finish_forward<S, decltype(act)>;
    if (end == TileEnd::kGradient) finish = finish_gradient<S, decltype(act)>;
    if constexpr (kIsPlane<S>)
      if (end == TileEnd::kColumns) finish = finish_columns<decltype(act)>;
  });
  return finish;
}

// ---- a block of 32 × 32 sums: tiles 0 to 3; of A 4 and, for the second 16 rows, 5; of B 6 and 7 ----
inline void shape_tiles(int64_t rows) {
  TileConfig config;
  const int64_t first = at_most(rows, kHalf), second = rows > kHalf ? rows - kHalf : 1;
  for (int t = 0; t < 8; ++t) {
    config.row_bytes[t] = 64;
    config.rows[t] = uint8_t(t >= 6 ? 16 : t == 0 || t == 1 || t == 4 ? first : second);
  }
  tile_configure(config);
}

// Of A, in bytes: where the block's rows begin, from one row of a tile to the next, from one step to the next, to the
// second 16 rows; and the last, partial step of rows that are read as they lie, or null.
struct TileRows {
  const char* data;
  int64_t row, step, second;
  const char* rest;
};

// One step of the depth. Planes of A from the smallest to the largest, each with those of B that it meets, likewise. Of
// three planes the products whose ranks add up to more than the last are left out, below 2^-24 of the whole; of two
// none is: 2^-16 of a float16 product shows where sums cancel.
template <bool kTwo, int kPlanes>
FUSED_GAN_FUNCTION void multiply_step(const char* a, int64_t row, int64_t second, const uint16_t* b) {
#pragma GCC unroll 3
  for (int p = kPlanes - 1; p >= 0; --p) {
    constexpr int64_t kBytes = kTileWords * sizeof(uint16_t);
    tile_load<4>(a + p * kBytes, row);
    if constexpr (kTwo) tile_load<5>(a + second + p * kBytes, row);
#pragma GCC unroll 3
    for (int q = kPlanes == 2 ? 1 : kPlanes - 1 - p; q >= 0; --q) {
      tile_load<6>(b + q * kStepWords, kTileStep * 2);
      tile_load<7>(b + q * kStepWords + kTileWords, kTileStep * 2);
      tile_dot<0, 4, 6>();
      tile_dot<1, 4, 7>();
      if constexpr (kTwo) {
        tile_dot<2, 5, 6>();
        tile_dot<3, 5, 7>();
      }
    }
  }
}

// c = or += the product over `steps` whole steps and the rest.
template <bool kTwo, int kPlanes>
void multiply_block(const TileRows& a, const uint16_t* b, int64_t b_step, int64_t steps, float* c, bool accumulate) {
  constexpr int64_t kRow = kTileBlock * sizeof(float);
  if (accumulate) {
    tile_load<0>(c, kRow);
    tile_load<1>(c + kHalf, kRow);
    if constexpr (kTwo) {
      tile_load<2>(c + kHalf * kTileBlock, kRow);
      tile_load<3>(c + kHalf * kTileBlock + kHalf, kRow);
    }
  } else {
    tile_zero<0>();
    tile_zero<1>();
    if constexpr (kTwo) {
      tile_zero<2>();
      tile_zero<3>();
    }
  }
  const char* from = a.data;
  for (int64_t k = 0; k < steps; ++k, from += a.step, b += b_step)
    multiply_step<kTwo, kPlanes>(from, a.row, a.second, b);
  if constexpr (kPlanes == 1)
    if (a.rest) multiply_step<kTwo, 1>(a.rest, kTileStep * 2, kTileWords * 2, b);
  tile_store<0>(c, kRow);
  tile_store<1>(c + kHalf, kRow);
  if constexpr (kTwo) {
    tile_store<2>(c + kHalf * kTileBlock, kRow);
    tile_store<3>(c + kHalf * kTileBlock + kHalf, kRow);
  }
}

// ---- the product ----
// The sums of earlier parts of the depth, which wait in a float32 C, are added to a block.
FUSED_GAN_FUNCTION void add_earlier(const TileProduct<float>& p, int64_t r, int64_t j, int64_t height, float* c) {
  const int64_t count = at_most(kTileBlock, p.columns - j);
  for (int64_t i = 0; i < height; ++i)
    for (int64_t h = 0; h < 2; ++h)
      store_as(c + i * kTileBlock + h * kHalf,
               widened(p.c + (r + i) * p.c_row + j + h * kHalf, count - h * kHalf) + sums_at(c, i, h));
}

template <class S, int kPlanes>
ProductMagnitudes product(const TileProduct<S>& p, Range rows, Range panels, uint16_t* workspace) {
  constexpr int64_t kRowStep = kPlanes * kTileWords, kPanelStep = kPlanes * kStepWords;
  const TileBlocking by = p.blocking;
  const int64_t all_steps = tile_units(p.depth, kTileStep), steps = p.steps.end - p.steps.begin;
  const int64_t part = steps > 0 ? tile_depth_part(steps, by) : 1;
  const TileWorkspace sizes = tile_workspace(kPlanes, rows.end - rows.begin, panels.end - panels.begin, steps, by);
  float* c = reinterpret_cast<float*>(workspace);
  uint16_t *own_a = workspace + sizes.c, *own_b = own_a + sizes.a;
  const bool again = panels.end - panels.begin > by.panels, last_call = p.steps.end == all_steps;
  const bool as_it_lies = kIsPlane<S> && !p.a_packed && !p.a.across;
  const Finish<S> finish = finish_of<S>(last_call ? p.end : TileEnd::kStore, p.activation.index);
  const int64_t rest = as_it_lies ? p.depth % kTileStep : 0;

  ProductMagnitudes met;
  int64_t shaped = 0;
  for (int64_t g = rows.begin; g < rows.end; g += by.rows) {
    const int64_t stop = at_most(rows.end, g + by.rows), blocks = tile_units(stop - g, kTileBlock);
    if constexpr (kIsPlane<S>)
      if (rest)  // with zeros behind: a tile load of the last numbers as they lie would read past the row
        for (int64_t r = g; r < stop; ++r) {
          const uint16_t* last = &p.a.data[r * p.a.row + p.depth - rest].bits;
          store_as(own_a + (r - g) * kTileStep, line_of(halves(last, rest), halves(last + kHalf, rest - kHalf)));
        }
    for (int64_t first = panels.begin; first < panels.end; first += by.panels) {
      const int64_t many = at_most(by.panels, panels.end - first);
      for (int64_t k = 0; k < steps || k == 0; k += part) {
        const int64_t count = at_most(part, steps - k), from = p.steps.begin + k;
        const bool last_part = k + part >= steps;
        TileRows a{nullptr, 64, kRowStep * 2, 0, nullptr};
        int64_t block_bytes = 0;  // from one block of 32 rows to the next
        if (as_it_lies) {
          a = {reinterpret_cast<const char*>(p.a.data + g * p.a.row + from * kTileStep), p.a.row * 2, kTileStep * 2,
               p.a.row * kHalf * 2, nullptr};
          block_bytes = p.a.row * kTileBlock * 2;
        } else {
          const int64_t block = kRowStep * (p.a_packed ? all_steps : again ? steps : part);
          const uint16_t* packed = p.a_packed;
          if (packed) {
            packed += g / kHalf * block + from * kRowStep;
          } else {
            uint16_t* to = own_a + (again ? k * kRowStep : 0);
            if (first == panels.begin)
              met.a.include(
                  pack_a<S, kPlanes>(p.a.from_line(g), {0, stop - g}, {from, from + count}, p.depth, to, block));
            packed = to;
          }
          a.data = reinterpret_cast<const char*>(packed);
          a.second = block * 2;
          block_bytes = 2 * block * 2;
        }
        TilePanels b{p.b_packed.data + first * p.b_packed.panel + k * p.b_packed.step, p.b_packed.panel,
                     p.b_packed.step};
        if (!p.b_packed.data) {
          b = {own_b, kPanelStep, many * kPanelStep};
          met.b.include(pack_b<S, kPlanes>(p.b, p.columns, {first, first + many}, {from, from + count}, p.depth, b));
        }
        for (int64_t i = 0; i < blocks * many; ++i) {
          const int64_t panel = by.holds_rows ? i % many : i / blocks, q = by.holds_rows ? i / many : i % blocks;
          const int64_t r = g + q * kTileBlock, j = (first + panel) * kTileBlock;
          const int64_t height = at_most(kTileBlock, stop - r);
          if (height != shaped) shape_tiles(shaped = height);
          TileRows block = a;
          block.data += q * block_bytes;
          if (rest && last_part) block.rest = reinterpret_cast<const char*>(own_a + q * 2 * kTileWords);
          float* sums = part == steps ? c : c + (panel * blocks + q) * kTileBlock * kTileBlock;
          const int64_t whole = count - (rest && last_part);
          if (height > kHalf)
            multiply_block<true, kPlanes>(block, b.data + panel * b.panel, b.step, whole, sums, k > 0);
          else multiply_block<false, kPlanes>(block, b.data + panel * b.panel, b.step, whole, sums, k > 0);
          if (!last_part) continue;
          if constexpr (std::is_same_v<S, float>)
            if (p.steps.begin > 0) add_earlier(p, r, j, height, sums);
          finish(p, r, j, height, sums);
        }
      }
    }
  }
  tile_release();
  return met;
}

template <class S> void add_sums(const double* sums, int64_t row, int64_t blocks, int64_t columns, S* to) {
  typedef double Wide __attribute__((vector_size(2 * sizeof(Vec<float>))));
  for (int64_t j = 0; j < columns; j += kHalf) {
    Wide sum = {};
    for (int64_t b = 0; b < blocks; ++b) sum += load_as<Wide>(sums + b * row + j);
    store_some(to + j, __builtin_convertvector(sum, Vec<float>), at_most(kHalf, columns - j));
  }
}

template <class S, int kPlanes> constexpr TileKernels<S> tile_kernels() {
  return {kPlanes, pack_a<S, kPlanes>, pack_b<S, kPlanes>, product<S, kPlanes>, add_sums<S>};
}

bool supported();  // defined by isa_amx*.cpp

}  // namespace

extern const Tiles kTiles = {FUSED_GAN_TILES_NAME,        supported,
                             tile_kernels<BFloat16, 1>(), tile_kernels<Float16, 2>(),
                             tile_kernels<float, 1>(),    tile_kernels<float, 3>()};

}  // namespace fused_gan::cpu::FUSED_GAN_ISA
