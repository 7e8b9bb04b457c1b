// Layers on tiles: tensors as operands, memory, and the split over threads.
#pragma once

#include <vector>

#include "choice.h"
#include "layers.h"

namespace fused_gan::cpu {

inline uint16_t* words_of(const at::Tensor& scratch) { return static_cast<uint16_t*>(scratch.mutable_data_ptr()); }

// Whether there are tiles for a storage type.
template <class S> constexpr bool kHasTiles = !std::is_same_v<S, double>;

// Called only where Kernel::kTiles is the choice.
template <class S> const TileKernels<S>& tile_kernels() {
  if constexpr (std::is_same_v<S, BFloat16>) return tiles()->bfloat16;
  else if constexpr (std::is_same_v<S, Float16>) return tiles()->float16;
  else return float32_planes() == 1 ? tiles()->float32_in_one_plane : tiles()->float32_in_three_planes;
}

// An operand with its elements side by side in one direction; copied if they are not. `lines` is (lines, depth).
template <class S> struct TileSource {
  at::Tensor lines;
  TileOperand<S> operand;

  explicit TileSource(const at::Tensor& from) : lines(from) {
    const auto dense = [&](int64_t dim) { return lines.size(dim) <= 1 || lines.stride(dim) == 1; };
    if (!dense(0) && !dense(1)) lines = lines.contiguous();
    const bool across = !dense(1);
    operand = {data<S>(lines), lines.stride(across ? 1 : 0), across};
  }
};

// One product, in as many rounds as there are parts of the depth. In a round all threads first pack what all will read
// (`pack`), then compute their shares of C (`compute`); several products may go through the two together. The sources
// of A and B have to outlive it.
template <class S> class TiledProduct {
 public:
  TiledProduct(const TileKernels<S>& kernels, plan::TileForm form, const TileSource<S>& a, const TileSource<S>& b)
      : kernels_(kernels) {
    TileProduct<S>& p = product;
    p.rows = a.lines.size(0), p.columns = b.lines.size(0), p.depth = a.lines.size(1);
    p.a = a.operand, p.b = b.operand;
    splits_columns_ = plan::tile_splits_columns(form, kernels.planes, p.rows);
    p.blocking = plan::tile_blocking(form, kernels.planes, splits_columns_, p.rows, p.depth);
    steps_ = plan::units_of(p.depth, kTileStep);
    at_a_time_ = plan::tile_steps_at_a_time(std::is_same_v<S, float>, steps_, p.blocking);
    panels_ = plan::units_of(p.columns, kTileBlock);
    // bfloat16 of a few rows is read as it lies.
    packs_ = !splits_columns_ || kernels.planes > 1 || std::is_same_v<S, float> || p.a.across;
  }

  // B is there already, packed by the layer before.
  void take_panels(TilePanels panels) {
    product.b_packed = panels;
    packs_ = false;
  }

  int64_t rounds() const { return splits_columns_ ? 1 : std::max<int64_t>(plan::units_of(steps_, at_a_time_), 1); }
  bool packs() const { return packs_; }
  int64_t work() const { return product.rows * product.columns * product.depth; }
  bool worth_sharing() const { return plan::worth_sharing_on_tiles(work(), kernels_.planes); }

  // Memory for so many threads.
  void begin(int64_t parts) {
    parts_ = parts;
    const int64_t high = splits_columns_ ? product.rows : longest_share(product.rows, kTileBlock);
    const int64_t wide = splits_columns_ ? longest_share(panels_, 1) : panels_;
    words_ = tile_workspace(kernels_.planes, high, wide, std::min(at_a_time_, steps_), product.blocking).words();
    words_ = plan::units_of(words_, kLine) * kLine;
    workspace_ = at::empty({parts * words_}, at::kShort);
    met_.resize(size_t(parts));
    if (!packs_) return;
    const int64_t step = kernels_.planes * kTileWords;
    const int64_t tiles =
        splits_columns_ ? plan::units_of(product.rows, kTileBlock) * 2 * steps_ : panels_ * at_a_time_ * 2;
    packed_ = at::empty({tiles * step}, at::kShort);
    if (splits_columns_) product.a_packed = words_of(packed_);
    else product.b_packed = {words_of(packed_), at_a_time_ * 2 * step, 2 * step};
  }

  void pack(int64_t part, int64_t round) {
    if (!packs_ || (splits_columns_ && round > 0)) return;
    const Range steps = steps_of(round);
    if (!splits_columns_) {
      const auto [p, end] = plan::share(panels_, 1, parts_, part);
      TilePanels to = product.b_packed;
      to.data += p * to.panel;
      if (p < end) met(part).b.include(kernels_.pack_b(product.b, product.columns, {p, end}, steps, product.depth, to));
      return;
    }
    // A few rows: they are shared by blocks of two tiles, or, if there are fewer than threads, by their depth.
    const int64_t step = kernels_.planes * kTileWords, block = steps_ * step;
    const bool by_rows = plan::units_of(product.rows, kTileBlock) >= parts_;
    const auto [r, r_end] =
        by_rows ? plan::share(product.rows, kTileBlock, parts_, part) : std::pair(int64_t(0), product.rows);
    const auto [s, s_end] = by_rows ? std::pair(int64_t(0), steps_) : plan::share(steps_, kTileCut, parts_, part);
    if (r < r_end && s < s_end)
      met(part).a.include(kernels_.pack_a(product.a.from_line(r), {0, r_end - r}, {s, s_end}, product.depth,
                                          words_of(packed_) + r / 16 * block + s * step, block));
  }

  void compute(int64_t part, int64_t round) {
    Range rows{0, product.rows}, panels{0, panels_};
    const auto share = [&](int64_t count, int64_t unit) {
      const auto [begin, end] = plan::share(count, unit, parts_, part);
      return Range{begin, end};
    };
    if (splits_columns_) panels = share(panels_, 1);
    else rows = share(product.rows, kTileBlock);
    if (rows.begin >= rows.end || panels.begin >= panels.end) return;
    uint16_t* own = words_of(workspace_) + part * words_;
    for (int64_t r = round; r < (splits_columns_ ? parts_of_depth() : round + 1); ++r) {
      TileProduct<S> p = product;
      p.steps = steps_of(r);
      met(part).include(kernels_.product(p, rows, panels, own));
    }
    if (splits_columns_) add_sums(panels);
  }

  // Where the threads have shared the rows: the column sums, when all are there.
  bool has_sums_left() const { return !splits_columns_ && sums_.defined(); }
  void add_sums(int64_t part) {
    const auto [begin, end] = plan::share(panels_, 1, parts_, part);
    if (begin < end) add_sums(Range{begin, end});
  }

  // The column sums of kGradient go to `to`.
  void sum_columns(const at::Tensor& to) {
    sums_ = at::empty({plan::units_of(product.rows, kTileBlock), panels_ * kTileBlock}, at::kDouble);
    product.sums = mutable_data<double>(sums_);
    sums_to_ = mutable_data<S>(to);
  }

  // Whether the numbers that were met let the planes be exact. If not, C has to be computed in another way.
  bool holds() const {
    ProductMagnitudes all;
    for (const Met& one : met_) all.include(one.met);
    return plan::tile_planes_hold(kernels_.planes, std::is_same_v<S, Float16>, all, product.depth);
  }

  TileProduct<S> product{};

 private:
  struct alignas(kLine) Met {  // a line of the cache for each thread
    ProductMagnitudes met;
  };

  ProductMagnitudes& met(int64_t part) { return met_[size_t(part)].met; }
  int64_t parts_of_depth() const { return std::max<int64_t>(plan::units_of(steps_, at_a_time_), 1); }
  int64_t longest_share(int64_t count, int64_t unit) const {
    return plan::units_of(plan::units_of(count, unit), parts_) * unit;
  }
  Range steps_of(int64_t round) const {
    return {std::min(round * at_a_time_, steps_), std::min((round + 1) * at_a_time_, steps_)};
  }
  void add_sums(Range panels) {
    if (!sums_.defined()) return;
    const int64_t j = panels.begin * kTileBlock, columns = std::min(panels.end * kTileBlock, product.columns) - j;
    kernels_.add_sums(product.sums + j, sums_.stride(0), sums_.size(0), columns, sums_to_ + j);
  }

  const TileKernels<S>& kernels_;
  bool splits_columns_, packs_;
  int64_t steps_, at_a_time_, panels_, parts_ = 1, words_ = 0;
  at::Tensor packed_, workspace_, sums_;
  S* sums_to_ = nullptr;
  std::vector<Met> met_;
};

// All products together: two parallel sections a round, and one for sums that are left.
template <class... Products> void compute_together(Products&... products) {
  const bool share = (products.worth_sharing() || ...);
  const int64_t parts = share ? at::get_num_threads() : 1;
  (products.begin(parts), ...);
  const int64_t rounds = std::max({products.rounds()...});
  const auto each = [&](const auto& f) { over_parts(parts, f); };
  for (int64_t round = 0; round < rounds; ++round) {
    if (((products.packs() && round < products.rounds()) || ...))
      each([&](int64_t part) { ((round < products.rounds() ? products.pack(part, round) : void()), ...); });
    each([&](int64_t part) { ((round < products.rounds() ? products.compute(part, round) : void()), ...); });
  }
  if ((products.has_sums_left() || ...))
    each([&](int64_t part) { ((products.has_sums_left() ? products.add_sums(part) : void()), ...); });
}

// A batch in panels, left by one layer of a chain for the next.
struct TiledBatch {
  at::Tensor memory;
  TilePanels panels{};

  TiledBatch() = default;
  TiledBatch(int64_t samples, int64_t features) {
    const int64_t steps = plan::units_of(features, kTileStep), step = 2 * kTileWords;
    memory = at::empty({plan::units_of(samples, kTileBlock) * steps * step}, at::kShort);
    panels = {words_of(memory), steps * step, step};
  }
};

// y (samples, outputs) = act(z), z = x · wᵀ + bias; y, z and bias contiguous. z is kept where it is defined. In
// bfloat16 the batch may be there in panels, and y may be left so. Returns false if the numbers do not allow it: y then
// holds nothing of use.
template <class S>
bool tiled_forward(const TileKernels<S>& kernels, Activation activation, const at::Tensor& x, const at::Tensor& w,
                   const at::Tensor& bias, const at::Tensor& y, const at::Tensor& z, const TiledBatch& batch,
                   const TiledBatch& next) {
  const plan::TileForm form = plan::tile_forward(std::is_same_v<S, BFloat16>, x.size(0), x.size(1));
  const bool columns = form == plan::TileForm::kForwardColumns;
  const TileSource<S> a(columns ? w : x), b(columns ? x : w);
  TiledProduct<S> forward(kernels, form, a, b);
  TileProduct<S>& p = forward.product;
  p.end = columns ? TileEnd::kColumns : TileEnd::kForward;
  p.activation = activation;
  p.c = mutable_data<S>(y);
  p.c_row = y.stride(0);
  p.z = mutable_data<S>(z);
  p.bias = data<S>(bias);
  p.next = next.panels;
  if (batch.memory.defined()) forward.take_panels(batch.panels);
  compute_together(forward);
  return forward.holds();
}

// dx (samples, ins) = dz · w, of a layer below (ins) multiplied by its activation's gradient, which reads kept_below,
// and summed down the columns; weight_gradient (outs, ins) = dzᵀ · x. What is undefined is not computed. Returns false
// if the numbers do not allow it.
template <class S>
bool tiled_backward(const TileKernels<S>& kernels, const at::Tensor& dz, const at::Tensor& w, const at::Tensor& x,
                    const at::Tensor& dx, const at::Tensor& weight_gradient,
                    const std::optional<Activation>& below = std::nullopt, const at::Tensor& kept_below = {},
                    const at::Tensor& bias_gradient = {}) {
  std::optional<TileSource<S>> dz_lines, w_lines, dz_columns, x_columns;
  std::optional<TiledProduct<S>> down, across;
  if (dx.defined()) {
    down.emplace(kernels, plan::TileForm::kInputGradient, dz_lines.emplace(dz), w_lines.emplace(w.t()));
    TileProduct<S>& p = down->product;
    p.end = below ? TileEnd::kGradient : TileEnd::kStore;
    p.c = mutable_data<S>(dx);
    p.c_row = dx.stride(0);
    if (below) {
      p.activation = *below;
      p.kept = data<S>(kept_below);
      p.kept_row = kept_below.defined() ? kept_below.stride(0) : 0;
      if (bias_gradient.defined()) down->sum_columns(bias_gradient);
    }
  }
  if (weight_gradient.defined()) {
    across.emplace(kernels, plan::TileForm::kWeightGradient, dz_columns.emplace(dz.t()), x_columns.emplace(x.t()));
    TileProduct<S>& p = across->product;
    p.end = TileEnd::kStore;
    p.c = mutable_data<S>(weight_gradient);
    p.c_row = weight_gradient.stride(0);
  }
  // Together they have fewer parallel sections; apart, packed copies of w and of x are not there at the same time.
  constexpr int64_t kManyRows = 512;
  if (down && across && dz.size(0) < kManyRows) {
    compute_together(*down, *across);
    return down->holds() && across->holds();
  }
  bool holds = true;
  if (down) {
    compute_together(*down);
    holds = down->holds();
    down.reset();
  }
  if (across && holds) {
    compute_together(*across);
    holds = across->holds();
  }
  return holds;
}

}  // namespace fused_gan::cpu
