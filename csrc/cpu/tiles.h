// The tile instructions that the products use, behind seven calls: the hardware's, or, for isa_amx_model.cpp, a model
// of them in vectors of any processor. Included inside an instruction set's namespace, after vec.h.
//
// The compiler's own intrinsics are not used: GCC 12's _tile_loadd does not say that it reads memory, so that stores
// which fill a packed operand may be moved behind it. Each product configures the tiles and releases them; torch's own
// kernels do likewise before they return, so that neither finds the other's shapes.

// What LDTILECFG reads. It also clears every tile, so that shapes can change only between sums.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

#ifdef FUSED_GAN_TILE_MODEL
struct Tile {
  uint8_t bytes[16][64];
};
inline thread_local Tile tile_file[8];
inline thread_local TileConfig tile_shapes;

inline void tile_configure(const TileConfig& config) {
  tile_shapes = config;
  __builtin_memset(tile_file, 0, sizeof tile_file);
}
inline void tile_release() {}
template <int kTile> void tile_zero() { __builtin_memset(&tile_file[kTile], 0, sizeof(Tile)); }
template <int kTile> void tile_load(const void* from, int64_t row_bytes) {
  tile_zero<kTile>();
  for (int r = 0; r < tile_shapes.rows[kTile]; ++r)
    __builtin_memcpy(tile_file[kTile].bytes[r], static_cast<const char*>(from) + r * row_bytes,
                     tile_shapes.row_bytes[kTile]);
}
template <int kTile> void tile_store(void* to, int64_t row_bytes) {
  for (int r = 0; r < tile_shapes.rows[kTile]; ++r)
    __builtin_memcpy(static_cast<char*>(to) + r * row_bytes, tile_file[kTile].bytes[r], tile_shapes.row_bytes[kTile]);
}

// Every operand and every result below 2^-126 is a zero of its sign.
FUSED_GAN_FUNCTION Vec<float> tile_flushed(Vec<float> v) {
  const VecBits<float> bits = bit_cast<VecBits<float>>(v);
  return bit_cast<Vec<float>>((bits & 0x7f800000) == 0 ? bits & VecBits<float>(bit_cast<VecBits<float>>(-Vec<float>{}))
                                                       : bits);
}
// a · b + c, rounded once. A product of two bfloat16 numbers has 16 digits, so that the sum with c has at most 53, or
// so many zeros between the two that rounding it twice is rounding it once.
FUSED_GAN_FUNCTION Vec<float> tile_multiply_add(Vec<float> a, Vec<float> b, Vec<float> c) {
  typedef double Wide __attribute__((vector_size(2 * sizeof(Vec<float>))));
  const Wide sum =
      __builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide) + __builtin_convertvector(c, Wide);
  return tile_flushed(__builtin_convertvector(sum, Vec<float>));
}
// c (rows, 16 floats) += a (rows, pairs of bfloat16) · b (pairs, 16 columns of pairs). As the hardware does it, by
// Intel's description: the elements of even and of odd depth are summed apart, each by fused multiply-adds that begin
// at 0; the two sums are added, and that to c.
template <int kC, int kA, int kB> void tile_dot() {
  const auto even_of = [](VecBits<float> pairs) { return tile_flushed(bit_cast<Vec<float>>(pairs << 16)); };
  const auto odd_of = [](VecBits<float> pairs) {
    return tile_flushed(bit_cast<Vec<float>>(pairs & VecBits<float>(VecBits<float>{} + int32_t(0xffff0000))));
  };
  for (int m = 0; m < tile_shapes.rows[kC]; ++m) {
    Vec<float> even = {}, odd = {};
    for (int k = 0; k < tile_shapes.row_bytes[kA] / 4; ++k) {
      int32_t pair;
      __builtin_memcpy(&pair, tile_file[kA].bytes[m] + 4 * k, 4);
      const VecBits<float> a = VecBits<float>{} + pair, b = load_as<VecBits<float>>(tile_file[kB].bytes[k]);
      even = tile_multiply_add(even_of(a), even_of(b), even);
      odd = tile_multiply_add(odd_of(a), odd_of(b), odd);
    }
    const Vec<float> c = tile_flushed(load_as<Vec<float>>(tile_file[kC].bytes[m]));
    store_as(tile_file[kC].bytes[m], tile_flushed(c + tile_flushed(even + odd)));
  }
}
#else
FUSED_GAN_FUNCTION void tile_configure(const TileConfig& config) {
  asm volatile("ldtilecfg %0" ::"m"(config) : "memory");
}
FUSED_GAN_FUNCTION void tile_release() { asm volatile("tilerelease" ::: "memory"); }
template <int kTile> FUSED_GAN_FUNCTION void tile_zero() { asm volatile("tilezero %%tmm%c0" ::"i"(kTile)); }
template <int kTile> FUSED_GAN_FUNCTION void tile_load(const void* from, int64_t row_bytes) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(from), "r"(row_bytes) : "memory");
}
template <int kTile> FUSED_GAN_FUNCTION void tile_store(void* to, int64_t row_bytes) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(to), "r"(row_bytes) : "memory");
}
template <int kC, int kA, int kB> FUSED_GAN_FUNCTION void tile_dot() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
}
#endif
