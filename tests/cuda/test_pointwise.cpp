// Executes the pointwise CUDA kernels and compares them with the reference: every dtype and activation, tiny, odd and
// larger sizes, any alignment and stride, empty matrices, NaN and Inf. Prints the fingerprint of all bias gradients,
// which has to be the same in every run. Links against the CUDA runtime, or against one that runs on a CPU. Arguments:
// "few", for what a slow tool has time for; "far", for operands whose offsets pass 2³¹ elements, which takes 4.3 GB.
#include <array>
#include <string>

#include "../../csrc/activations.h"
#include "../../csrc/cuda/gradient_plan.h"
#include "device.h"

namespace {

using namespace fused_gan;
using namespace fused_gan::cuda;
using reference::Real;
using reference::Type;

constexpr int kSpecialEvery = 9;
constexpr std::array kMultiprocessors = {132, 1};  // of an H100, and so few that blocks loop

int64_t comparisons = 0, failures = 0;
uint64_t fingerprint = 14695981039346656037u;  // FNV-1a over the bits of all bias gradients

void report(const std::string& verdict, const std::string& what) {
  ++comparisons;
  if (verdict.empty()) return;
  if (++failures <= 20) std::printf("FAILED %s: %s\n", what.c_str(), verdict.c_str());
}

// An activation and parameters other than its defaults, where it takes any; and once more those that take another way
// through the formulas.
struct Act {
  Activation activation;
  std::string text() const {
    const auto [first, second] = activation.parameters;
    const auto [gain, limit] = activation.scale;
    return reference::name_of(activation) + " (" + std::to_string(first) + ", " + std::to_string(second) + "), gain " +
           std::to_string(gain) + ", limit " + std::to_string(limit);
  }
};
template <class A> Act act(double first = 0, double second = 0, Scale<double> scale = kUnscaled) {
  return {{Activations::index_of<A>(), {first, second}, scale}};
}
std::vector<Act> all_activations() {
  std::vector<Act> all;
  for (int index = 0; index < Activations::kCount; ++index) {
    Parameters<double> parameters{};
    if (index == Activations::index_of<LeakyRelu>()) parameters = {0.2, 0};
    if (index == Activations::index_of<Hardtanh>()) parameters = {-0.625, 1.25};
    if (index == Activations::index_of<Elu>()) parameters = {0.8125, 0};
    if (index == Activations::index_of<Celu>()) parameters = {0.75, 0};
    if (index == Activations::index_of<Softplus>()) parameters = {1.75, 2.5};
    all.push_back({{index, parameters}});
    all.push_back({{index, parameters, {-1.375, 0.8125}}});
  }
  for (const Act& more : {act<LeakyRelu>(-0.3), act<Elu>(-0.5), act<Softplus>(1, 20), act<Softplus>(-0.75, 20),
                          act<Identity>(0, 0, {1.5, kUnscaled.limit}), act<Tanh>(0, 0, {1, 0.5}),
                          act<LeakyRelu>(-0.3, 0, {1.25, kUnscaled.limit})})
    all.push_back(more);
  return all;
}

struct Shape {
  int64_t rows, columns;
  std::string text() const { return std::to_string(rows) + " x " + std::to_string(columns); }
};

// ---- y = act(z + bias) ---------------------------------------------------------------------------------------------
template <class T>
void test_activate(const Act& act, Shape shape, int64_t offset, bool with_bias, bool in_place, int special_every,
                   int multiprocessors) {
  Generator generator(act.activation.index * 1000 + shape.rows * 31 + shape.columns);
  std::vector<T> z(shape.rows * shape.columns);
  for (T& value : z) value = special_every ? generator.value<T>(special_every) : generator.wide_value<T>();
  const auto bias = generator.values<T>(with_bias ? shape.columns : 0, special_every);
  DeviceArray<T> z_device(z, offset), bias_device(bias, offset % 2), other(in_place ? 0 : z.size(), offset);
  const DeviceArray<T>& y_device = in_place ? z_device : other;
  check(activate({Type<T>::kDtype, act.activation, z_device.data(), y_device.data(), bias_device.data(), shape.rows,
                  shape.columns, multiprocessors},
                 nullptr),
        "activate");
  check(cudaDeviceSynchronize(), "activate");

  const auto y = y_device.values();
  reference::Comparison<T> comparison;
  for (size_t i = 0; i < z.size(); ++i) {
    Real sum = Type<T>::widen(z[i]);
    if (with_bias) sum = reference::held<T>(sum + Type<T>::widen(bias[i % shape.columns]));
    const Real truth = reference::forward(act.activation, sum);
    comparison.add(y[i], truth,
                   reference::Arithmetic<T>::kEpsilon * reference::lost_forward(act.activation, sum, truth));
  }
  const std::string what = std::string("activate ") + Type<T>::kName + " " + act.text() + " " + shape.text() +
                           " offset " + std::to_string(offset) + (with_bias ? " bias" : "") +
                           (in_place ? " in place" : "");
  report(comparison.verdict(), what);
  if (!in_place && !z.empty() && std::memcmp(z_device.values().data(), z.data(), z.size() * sizeof(T)))
    report("z was written to", what);
}

// ---- dz and the bias gradient --------------------------------------------------------------------------------------
// Where element (r, c) of an operand lies. `gap`: elements between rows that nobody may read.
struct Layout {
  const char* name;
  int64_t gap, offset;
  bool same_rows, same_columns, transposed;
  void* memory = nullptr;  // where it is to lie; null: in an allocation of its own

  int64_t row_stride(Shape s) const { return same_rows ? 0 : transposed ? 1 : same_columns ? 1 : s.columns + gap; }
  int64_t column_stride(Shape s) const { return same_columns ? 0 : transposed ? s.rows : 1; }
};
constexpr Layout kLayouts[] = {
    {"contiguous", 0, 0, false, false, false},     {"unaligned", 0, 1, false, false, false},
    {"rows 16 apart", 16, 0, false, false, false}, {"rows 3 apart", 3, 0, false, false, false},
    {"one row", 0, 0, true, false, false},         {"one column", 0, 0, false, true, false},
    {"one element", 0, 0, true, true, false},      {"transposed", 0, 0, false, false, true},
};

// A matrix on the device, its gaps unwritten, and what it holds.
template <class T> class Operand {
 public:
  Operand(Shape shape, const Layout& layout, auto&& next)
      : rows_(layout.same_rows ? std::min<int64_t>(shape.rows, 1) : shape.rows),
        columns_(layout.same_columns ? std::min<int64_t>(shape.columns, 1) : shape.columns),
        row_(layout.row_stride(shape)),
        column_(layout.column_stride(shape)),
        values_(rows_ * columns_),
        own_(layout.memory || values_.empty() ? 0 : (rows_ - 1) * row_ + (columns_ - 1) * column_ + 1, layout.offset),
        data_(layout.memory ? static_cast<T*>(layout.memory) : own_.data()) {
    for (T& value : values_) value = next();
    if (layout.transposed) {
      std::vector<T> line(rows_);
      for (int64_t c = 0; c < columns_; ++c) {
        for (int64_t r = 0; r < rows_; ++r) line[r] = values_[r * columns_ + c];
        copy_to_device(data_ + c * column_, line.data(), rows_);
      }
    } else if (columns_) {
      for (int64_t r = 0; r < rows_; ++r) copy_to_device(data_ + r * row_, &values_[r * columns_], columns_);
    }
  }
  Matrix matrix() const { return {data_, row_, column_}; }
  Real at(int64_t r, int64_t c) const {
    return Type<T>::widen(values_[std::min(r, rows_ - 1) * columns_ + std::min(c, columns_ - 1)]);
  }

 private:
  int64_t rows_, columns_, row_, column_;  // rows and columns in memory, fewer where all are the same
  std::vector<T> values_;
  DeviceArray<T> own_;
  T* data_;
};

template <class T>
void test_gradient(const Act& act, Shape shape, const Layout& dy_layout, const Layout& kept_layout, bool with_dz,
                   bool with_sums, int special_every, int multiprocessors) {
  using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;
  Generator generator(act.activation.index * 1000 + shape.rows * 31 + shape.columns);
  const bool reads = reference::reads_any(act.activation), reads_input = reference::reads_input(act.activation);
  const Operand<T> dy(shape, dy_layout, [&] { return generator.value<T>(special_every); });
  const Operand<T> kept(reads ? shape : Shape{0, 0}, kept_layout, [&] {
    const T z = special_every ? generator.value<T>(special_every) : generator.wide_value<T>();
    return reads_input ? z : Type<T>::round(reference::forward(act.activation, Type<T>::widen(z)));
  });
  DeviceArray<T> dz(with_dz ? shape.rows * shape.columns : 0), sums(with_sums ? shape.columns : 0);
  const GradientArguments arguments{Type<T>::kDtype, act.activation, dy.matrix(),   kept.matrix(),  dz.data(),
                                    sums.data(),     shape.rows,     shape.columns, multiprocessors};
  DeviceArray<Wide> workspace(gradient_workspace(arguments));
  check(gradient(arguments, workspace.data(), nullptr), "gradient");
  check(cudaDeviceSynchronize(), "gradient");

  const auto dz_values = dz.values(), sum_values = sums.values();
  reference::Comparison<T> dz_comparison, sum_comparison;
  for (int64_t c = 0; c < shape.columns; ++c) {
    Real sum = 0, magnitude = 0, lost = 0;
    for (int64_t r = 0; r < shape.rows; ++r) {
      const Real x = reads ? kept.at(r, c) : 0;
      const Real truth = reference::gradient<T>(act.activation, dy.at(r, c), x);
      const Real lost_here = reference::lost_gradient(act.activation, dy.at(r, c), x, truth);
      if (with_dz)
        dz_comparison.add(dz_values[r * shape.columns + c], truth, lost_here * reference::Arithmetic<T>::kEpsilon);
      sum += truth;
      magnitude += std::isfinite(truth) ? std::abs(truth) : 0;
      lost += lost_here;
    }
    // Where partial sums may overflow, the order of summation decides what comes out.
    if (with_sums && magnitude < reference::Arithmetic<T>::kLargest)
      sum_comparison.add(sum_values[c], sum, (4 * magnitude + lost) * reference::Arithmetic<T>::kEpsilon);
  }
  const std::string what = std::string(Type<T>::kName) + " " + act.text() + " " + shape.text() + ", dy " +
                           dy_layout.name + ", kept " + kept_layout.name + ", multiprocessors " +
                           std::to_string(multiprocessors);
  if (with_dz) report(dz_comparison.verdict(), "gradient, dz: " + what);
  if (with_sums) report(sum_comparison.verdict(), "gradient, bias: " + what);

  for (const T& value : sum_values) {
    unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    if (!std::isnan(Type<T>::widen(value)))
      for (const unsigned char byte : bytes) fingerprint = (fingerprint ^ byte) * 1099511628211u;
  }
}

// What a slow tool, which looks at every access, has time for.
template <class T> void test_few() {
  const Act tanh = act<Tanh>(), gelu = act<Gelu>();
  for (const Shape shape : {Shape{5, 3}, {33, 257}})
    for (const int64_t offset : {0, 1}) {
      test_activate<T>(tanh, shape, offset, true, true, 0, 132);
      test_activate<T>(gelu, shape, offset, false, false, 0, 132);
    }
  for (const Layout& layout : kLayouts) {
    test_gradient<T>(tanh, {21, 32}, layout, layout, true, true, kSpecialEvery, 132);
    test_gradient<T>(gelu, {21, 32}, layout, layout, true, true, kSpecialEvery, 132);
  }
  test_gradient<T>(tanh, {2100, 16}, kLayouts[0], kLayouts[0], true, true, 0, 132);
}

// Offsets beyond 2³¹ elements in dy and kept: 16 bytes at a time, and one element at a time.
template <class T> void test_far() {
  const DeviceArray<T> memory(far_apart::kElements + far_apart::kRows);
  const Shape shape{far_apart::kRows, 72};
  for (const Act& activation : {act<Tanh>(), act<Gelu>()})
    for (const int64_t odd : {0, 1}) {
      Layout dy{"far", far_apart::kStride - shape.columns + odd, 0, false, false, false, memory.data()}, kept = dy;
      kept.memory = memory.data() + far_apart::kPlace;
      test_gradient<T>(activation, shape, dy, kept, true, true, 0, 132);
    }
}

// Every way through the kernels, for an activation of each kind: it reads nothing, y or z, is inlined or not, and has
// a gain and a limit behind it or not.
template <class T> void test_shapes(const Act& act) {
  constexpr Layout kPlain = kLayouts[0];
  for (const int multiprocessors : kMultiprocessors) {
    for (const Shape shape : {Shape{1, 1}, {1, 7}, {5, 3}, {0, 8}, {8, 0}, {33, 257}, {16, 1024}})
      for (const int64_t offset : {0, 1, 3})
        for (const bool with_bias : {false, true})
          for (const bool in_place : {false, true})
            test_activate<T>(act, shape, offset, with_bias, in_place, 0, multiprocessors);
    for (const Shape shape : {Shape{1, 1}, {7, 5}, {0, 8}, {8, 0}, {64, 100}, {13, 257}, {200, 48}, {3, 2000}})
      test_gradient<T>(act, shape, kPlain, kPlain, true, true, 0, multiprocessors);
    // Enough rows for several chunks, whose partial sums a second kernel adds.
    for (const Shape shape : {Shape{2049, 1}, {2100, 16}, {2500, 5}})
      test_gradient<T>(act, shape, kPlain, kPlain, true, true, 0, multiprocessors);
  }
  for (const Layout& layout : kLayouts) {
    for (const Shape shape : {Shape{1, 16}, {21, 32}, {9, 11}}) {
      test_gradient<T>(act, shape, layout, kPlain, true, true, 0, 132);
      test_gradient<T>(act, shape, kPlain, layout, true, false, 0, 132);
      test_gradient<T>(act, shape, layout, layout, false, true, 0, 132);
    }
    test_gradient<T>(act, {26, 24}, layout, kPlain, true, true, kSpecialEvery, 132);
  }
}

// Every formula: with vectors and without, and what NaN and Inf become.
template <class T> void test_formula(const Act& act) {
  constexpr Layout kPlain = kLayouts[0];
  for (const bool in_place : {false, true}) {
    for (const Shape shape : {Shape{33, 257}, {64, 96}})
      for (const bool with_bias : {false, true})
        test_activate<T>(act, shape, in_place ? 1 : 0, with_bias, in_place, 0, 132);
    for (const bool with_bias : {false, true})
      test_activate<T>(act, {19, 37}, 0, with_bias, in_place, kSpecialEvery, 132);
  }
  for (const Shape shape : {Shape{13, 257}, {200, 48}, {2100, 4}})
    test_gradient<T>(act, shape, kPlain, kPlain, true, true, 0, 132);
  for (const Shape shape : {Shape{26, 24}, {26, 25}})
    test_gradient<T>(act, shape, kPlain, kPlain, true, true, kSpecialEvery, 132);
}

template <class T> void test_misplaced() {
  const DeviceArray<T> z(16), y(17, 1);
  const cudaError_t error = activate({Type<T>::kDtype, kIdentity, z.data(), y.data(), nullptr, 4, 4, 132}, nullptr);
  report(error == cudaErrorInvalidValue ? "" : "was not refused", "activate, z and y at other places");
}

template <class T> void test_dtype() {
  for (const Act& kind : {act<Identity>(), act<LeakyRelu>(0.2), act<Tanh>(), act<Softplus>(1.75, 2.5),
                          act<LeakyRelu>(0.2, 0, {1.375, 0.8125})})
    test_shapes<T>(kind);
  for (const Act& each : all_activations()) test_formula<T>(each);
  test_misplaced<T>();
}

// ---- the plan ------------------------------------------------------------------------------------------------------
void test_plan() {
  constexpr int64_t kSizes[] = {0, 1, 2, 3, 64, 100, 1000, 2048, 2049, 65537, int64_t(1) << 33};
  for (const int64_t rows : kSizes)
    for (const int64_t columns : kSizes)
      for (const int element : {2, 4, 8})
        for (const int width : {1, 16 / element})
          for (const bool sums : {false, true})
            for (const int multiprocessors : {1, 46, 132}) {
              if (columns == 0) continue;
              const GradientPlan plan = plan_gradient(rows, columns, width, element, sums, multiprocessors);
              const int lanes = 1 << plan.lane_bits;
              const auto covers = [](int64_t parts, int64_t part, int64_t whole) {
                return parts * part >= whole && (parts == 1 || (parts - 1) * part < whole);
              };
              const bool good = covers(plan.strips, int64_t(lanes) * width, columns) &&
                                covers(plan.chunks, plan.chunk_rows, rows) && plan.chunks <= 65535 &&
                                plan.strips <= (int64_t(1) << 31) - 1 && lanes <= plan.threads && plan.threads >= 32 &&
                                plan.threads <= GradientPlan::kThreads && (plan.threads & (plan.threads - 1)) == 0 &&
                                (plan.chunks == 1 || !sums || rows > kFewRows);
              report(good ? "" : "does not cover the matrix, or is no legal launch",
                     "plan " + Shape{rows, columns}.text() + " width " + std::to_string(width));
            }
  // A small batch still reaches at least half of an H100's multiprocessors, a large one all of them three times over.
  const auto blocks = [](int64_t rows, int64_t columns, int element) {
    const GradientPlan plan = plan_gradient(rows, columns, 16 / element, element, true, 132);
    return plan.strips * plan.chunks;
  };
  report(blocks(64, 1024, 2) >= 64 && blocks(64, 1024, 4) >= 128 ? "" : "too few blocks", "plan 64 x 1024");
  report(blocks(16384, 1024, 2) >= 3 * 132 ? "" : "too few blocks", "plan 16384 x 1024");
}

}  // namespace

int main(int count, char** words) {
  const std::string extent = count > 1 ? words[1] : "all";
  int64_t plans = 0;
  if (extent == "few") {
    test_few<float>();
    test_few<double>();
    test_few<__nv_bfloat16>();
    test_few<__half>();
  } else if (extent == "far") {
    test_far<__nv_bfloat16>();
  } else if (extent == "all") {
    test_plan();
    plans = comparisons;
    test_dtype<float>();
    test_dtype<double>();
    test_dtype<__nv_bfloat16>();
    test_dtype<__half>();
  } else {
    std::fprintf(stderr, "expected 'few', 'far' or nothing, got '%s'\n", extent.c_str());
    return 2;
  }
  std::printf("%lld plans and %lld tensors, %lld failures\nbias gradients %016llx\n", static_cast<long long>(plans),
              static_cast<long long>(comparisons - plans), static_cast<long long>(failures),
              static_cast<unsigned long long>(fingerprint));
  return failures ? 1 : 0;
}
