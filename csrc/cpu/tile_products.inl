// Products on tiles, with what follows them done while a block of 32 × 32 sums is in the first cache.
#include "isa.h"

namespace fused_gan::cpu::FUSED_GAN_ISA {
namespace {

#include "tiles.h"
//
#include "vector_activations.inl"
//
#include "tile_pack.inl"

template <class Act> FUSED_GAN_TILE_FUNCTION Vec<float> activated(const Act& act, Vec<float> z) {
  return act.forward(z);
}
template <class Act>
FUSED_GAN_TILE_FUNCTION Vec<float> activation_gradient(const Act& act, Vec<float> dy, Vec<float> x) {
  return act.gradient(dy, x);
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
  const Act act(p.activation);
  const Vec<float> low = p.bias ? widened(p.bias + j, count) : Vec<float>{};
  const Vec<float> high = p.bias ? widened(p.bias + j + kHalf, count - kHalf) : Vec<float>{};
  for (int64_t i = 0; i < height; ++i) {
    const int64_t at = (r + i) * p.c_row + j;
    const Vec<float> first = sums_at(c, i, 0) + low, second = sums_at(c, i, 1) + high;
    if (p.z) store_line(p.z + at, first, second, count);
    store_line(p.c + at, activated(act, first), activated(act, second), count);
  }
}

// The block is one of yᵀ. Rounded in pairs of its rows it is what the next layer wants as B, in `next`; those pairs
// transposed are y, or, with the identity as the activation, z.
template <class Act>
FUSED_GAN_FUNCTION void finish_columns(const Act& act, const TileProduct<BFloat16>& p, const TilePanels& next,
                                       BFloat16* y, int64_t r, int64_t j, int64_t height, const float* c) {
  for (int64_t h = 0; h < 2 && j + h * kHalf < p.columns; ++h) {
    Vec<float> pairs[kHalf];
#pragma GCC unroll 16
    for (int64_t i = 0; i < kHalf; ++i) {
      Vec<float> pair[2] = {};
#pragma GCC unroll 2
      for (int64_t e = 0; e < 2; ++e)
        if (const int64_t row = 2 * i + e; row < height) {
          const float bias = p.bias ? bit_cast<float>(uint32_t(p.bias[r + row].bits) << 16) : 0.f;
          pair[e] = activated(act, sums_at(c, row, h) + bias);
        }
      pairs[i] = bit_cast<Vec<float>>(pairs_of(rounded_exactly(pair[0], pair[1])));
    }
    if (next.data) {
      uint16_t* tile = next.data + j / kTileBlock * next.panel + r / kTileStep * next.step + h * kTileWords;
#pragma GCC unroll 16
      for (int i = 0; i < kHalf; ++i) store_as(tile + i * kTileStep, pairs[i]);
    }
    transpose_pairs(pairs);
    for (int64_t i = 0; i < at_most(kHalf, p.columns - j - h * kHalf); ++i) {
      BFloat16* to = y + (j + h * kHalf + i) * p.c_row + r;
      store_words(to, bit_cast<Line>(pairs[i]), height);
    }
  }
}
template <class Act>
void finish_columns(const TileProduct<BFloat16>& p, int64_t r, int64_t j, int64_t height, const float* c) {
  if (p.z) finish_columns(Inlined<Identity, float>(kIdentity), p, {}, p.z, r, j, height, c);
  finish_columns(Act(p.activation), p, p.next, p.c, r, j, height, c);
}

// Four rows are read before four are written, as y and the gradient often lie a multiple of 4 KiB apart. Sums of 32
// rows are in float32 where the result is shorter, in float64 where it is not.
template <class S, class Act>
void finish_gradient(const TileProduct<S>& p, int64_t r, int64_t j, int64_t height, const float* c) {
  constexpr int64_t kTogether = 4;
  typedef double Wide __attribute__((vector_size(2 * sizeof(Vec<float>))));
  using Sums = std::conditional_t<std::is_same_v<S, float>, Wide, Vec<float>>;
  const int64_t count = at_most(kTileBlock, p.columns - j);
  const Act act(p.activation);
  Sums sums[2] = {};
  for (int64_t i = 0; i < height; i += kTogether) {
    Vec<float> dz[kTogether][2];
#pragma GCC unroll 4
    for (int64_t e = 0; e < kTogether; ++e) {
      const bool inside = i + e < height;
#pragma GCC unroll 2
      for (int64_t h = 0; h < 2; ++h) {
        const Vec<float> dy = inside ? sums_at(c, i + e, h) : Vec<float>{};
        const Vec<float> x =
            p.kept ? widened(p.kept + (r + i + e) * p.kept_row + j + h * kHalf, inside ? count - h * kHalf : 0) : dy;
        dz[e][h] = activation_gradient(act, dy, x);
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

template <class S> Finish<S> finish_of(TileEnd end, const Activation& activation) {
  Finish<S> finish = finish_store<S>;
  with_activation<float>(activation, [&](const auto& act) {
    using Act = std::decay_t<decltype(act)>;
    if (end == TileEnd::kForward) finish = finish_forward<S, Act>;
    if (end == TileEnd::kGradient) finish = finish_gradient<S, Act>;
    if constexpr (kIsPlane<S>)
      if (end == TileEnd::kColumns) finish = finish_columns<Act>;
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

// A product's blocks of C within some rows and panels: by groups of rows, groups of panels, and parts of the depth.
template <class S, int kPlanes> class ProductOfTiles {
 public:
  ProductOfTiles(const TileProduct<S>& product, Range rows, Range panels, uint16_t* workspace)
      : p_(product), by_(product.blocking), rows_(rows), panels_(panels) {
    const int64_t all = tile_units(p_.depth, kTileStep);
    steps_ = p_.steps.end - p_.steps.begin;
    part_ = steps_ > 0 ? tile_depth_part(steps_, by_) : 1;
    const TileWorkspace sizes = tile_workspace(kPlanes, rows.end - rows.begin, panels.end - panels.begin, steps_, by_);
    sums_ = reinterpret_cast<float*>(workspace);
    own_a_ = workspace + sizes.c;
    own_b_ = own_a_ + sizes.a;
    as_it_lies_ = kIsPlane<S> && !p_.a_packed && !p_.a.across;
    rest_ = as_it_lies_ ? p_.depth % kTileStep : 0;
    again_ = panels.end - panels.begin > by_.panels;
    a_block_ = kRowStep * (p_.a_packed ? all : again_ ? steps_ : part_);
    finish_ = finish_of<S>(p_.steps.end == all ? p_.end : TileEnd::kStore, p_.activation);
  }

  ProductMagnitudes run() {
    for (int64_t g = rows_.begin; g < rows_.end; g += by_.rows) {
      const Range group{g, at_most(rows_.end, g + by_.rows)};
      copy_rests(group);
      for (int64_t first = panels_.begin; first < panels_.end; first += by_.panels) {
        const Range some{first, at_most(panels_.end, first + by_.panels)};
        for (int64_t k = 0; k < steps_ || k == 0; k += part_)
          multiply(group, some, {k, at_most(part_, steps_ - k), k + part_ >= steps_});
      }
    }
    tile_release();
    return met_;
  }

 private:
  static constexpr int64_t kRowStep = kPlanes * kTileWords, kPanelStep = kPlanes * kStepWords;

  // Steps of the depth, counted from the first of this call.
  struct Part {
    int64_t begin, count;
    bool last;
  };
  struct GroupOfA {
    TileRows rows;
    int64_t block;  // bytes from one block of 32 rows to the next
  };

  // The last numbers of rows that are read as they lie, with zeros behind: a tile load would read past the row.
  void copy_rests(Range group) {
    if constexpr (kIsPlane<S>)
      if (rest_)
        for (int64_t r = group.begin; r < group.end; ++r) {
          const uint16_t* last = &p_.a.data[r * p_.a.row + p_.depth - rest_].bits;
          store_as(own_a_ + (r - group.begin) * kTileStep,
                   line_of(halves(last, rest_), halves(last + kHalf, rest_ - kHalf)));
        }
  }

  // As they lie, packed by others, or packed here: when the first panels meet them, for all of them.
  GroupOfA rows_of_a(Range group, bool first_panels, Part part) {
    const int64_t step = p_.steps.begin + part.begin;
    if (as_it_lies_) {
      const char* data = reinterpret_cast<const char*>(p_.a.data + group.begin * p_.a.row + step * kTileStep);
      return {{data, p_.a.row * 2, kTileStep * 2, p_.a.row * kHalf * 2, nullptr}, p_.a.row * kTileBlock * 2};
    }
    const uint16_t* packed = p_.a_packed;
    if (packed) {
      packed += group.begin / kHalf * a_block_ + step * kRowStep;
    } else {
      uint16_t* to = own_a_ + (again_ ? part.begin * kRowStep : 0);
      if (first_panels)
        met_.a.include(pack_a<S, kPlanes>(p_.a.from_line(group.begin), {0, group.end - group.begin},
                                          {step, step + part.count}, p_.depth, to, a_block_));
      packed = to;
    }
    return {{reinterpret_cast<const char*>(packed), 64, kRowStep * 2, a_block_ * 2, nullptr}, 2 * a_block_ * 2};
  }

  // Packed by others, or here.
  TilePanels panels_of_b(Range some, Part part) {
    if (p_.b_packed.data)
      return {p_.b_packed.data + some.begin * p_.b_packed.panel + part.begin * p_.b_packed.step, p_.b_packed.panel,
              p_.b_packed.step};
    const int64_t step = p_.steps.begin + part.begin;
    const TilePanels own{own_b_, kPanelStep, (some.end - some.begin) * kPanelStep};
    met_.b.include(pack_b<S, kPlanes>(p_.b, p_.columns, some, {step, step + part.count}, p_.depth, own));
    return own;
  }

  void multiply(Range group, Range some, Part part) {
    const GroupOfA a = rows_of_a(group, some.begin == panels_.begin, part);
    const TilePanels b = panels_of_b(some, part);
    const int64_t blocks = tile_units(group.end - group.begin, kTileBlock), many = some.end - some.begin;
    for (int64_t i = 0; i < blocks * many; ++i) {
      const int64_t panel = by_.holds_rows ? i % many : i / blocks, q = by_.holds_rows ? i / many : i % blocks;
      TileRows rows = a.rows;
      rows.data += q * a.block;
      if (rest_ && part.last) rows.rest = reinterpret_cast<const char*>(own_a_ + q * 2 * kTileWords);
      float* sums = part_ == steps_ ? sums_ : sums_ + (panel * blocks + q) * kTileBlock * kTileBlock;
      block(group.begin + q * kTileBlock, group.end, some.begin + panel, rows, b.data + panel * b.panel, b.step, part,
            sums);
    }
  }

  // One block of C, from row r on.
  void block(int64_t r, int64_t end, int64_t panel, const TileRows& rows, const uint16_t* b, int64_t b_step, Part part,
             float* sums) {
    const int64_t height = at_most(kTileBlock, end - r), j = panel * kTileBlock;
    if (height != shaped_) shape_tiles(shaped_ = height);
    const int64_t whole = part.count - (rest_ && part.last);
    if (height > kHalf) multiply_block<true, kPlanes>(rows, b, b_step, whole, sums, part.begin > 0);
    else multiply_block<false, kPlanes>(rows, b, b_step, whole, sums, part.begin > 0);
    if (!part.last) return;
    if constexpr (std::is_same_v<S, float>)
      if (p_.steps.begin > 0) add_earlier(p_, r, j, height, sums);
    finish_(p_, r, j, height, sums);
  }

  const TileProduct<S>& p_;
  const TileBlocking by_;
  const Range rows_, panels_;
  int64_t steps_, part_;  // of the depth in this call, and in one part of it
  int64_t a_block_;       // words from 16 packed rows of A to the next
  int64_t rest_;          // numbers of the last, partial step of rows that are read as they lie
  bool as_it_lies_;
  bool again_;  // whether A's rows are met once for each group of panels
  float* sums_;
  uint16_t *own_a_, *own_b_;
  Finish<S> finish_;
  int64_t shaped_ = 0;  // rows of the block that the tiles are shaped for
  ProductMagnitudes met_;
};

template <class S, int kPlanes>
ProductMagnitudes product(const TileProduct<S>& p, Range rows, Range panels, uint16_t* workspace) {
  return ProductOfTiles<S, kPlanes>(p, rows, panels, workspace).run();
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
