// Executes every product kernel and compares it with the reference: precisions, directions, activations, sizes that
// fill tiles and sizes that do not, rows apart, any alignment, the depth cut into parts, NaN and infinities. Prints the
// fingerprint of all results, which has to be the same in every run. Links against the CUDA runtime, or against one
// that runs on a CPU. Arguments: the name of a precision, for that one alone; "few", for what a slow tool has time for;
// "far", for operands whose offsets pass 2³¹ elements, which takes 4.3 GB (float32 and tf32: 8.6 GB).
#include <string>
#include <type_traits>
#include <utility>

#include "../../csrc/activations.h"
#include "device.h"
#include "kernel_facts.h"

namespace {

using namespace fused_gan;
using namespace fused_gan::cuda;
using reference::Real;
using reference::Type;

constexpr Parameters<double> kParameters{0.2, 0};  // leaky_relu's slope
constexpr int kSpecialEvery = 61;

int64_t comparisons = 0, failures = 0;
uint64_t fingerprint = 14695981039346656037u;  // FNV-1a over the bits of all results that are numbers

void report(const std::string& verdict, const std::string& what) {
  ++comparisons;
  if (verdict.empty()) return;
  if (++failures <= 20) std::printf("FAILED %s: %s\n", what.c_str(), verdict.c_str());
}

template <class T> void add_to_fingerprint(const std::vector<T>& values) {
  for (const T& value : values) {
    if (std::isnan(Type<T>::widen(value))) continue;
    unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    for (const unsigned char byte : bytes) fingerprint = (fingerprint ^ byte) * 1099511628211u;
  }
}

template <Precision> struct Traits;
template <> struct Traits<Precision::kBFloat16> {
  using T = __nv_bfloat16;
  static constexpr const char* kName = "bfloat16";
  static constexpr Real kFactorError = 0;  // of a product of two factors, relative
};
template <> struct Traits<Precision::kFloat16> {
  using T = __half;
  static constexpr const char* kName = "float16";
  static constexpr Real kFactorError = 0;
};
template <> struct Traits<Precision::kTf32> {
  using T = float;
  static constexpr const char* kName = "tf32";
  static constexpr Real kFactorError = 0x1p-9L;  // two factors cut to 11 bits
};
template <> struct Traits<Precision::kFloat32> {
  using T = float;
  static constexpr const char* kName = "float32";
  static constexpr Real kFactorError = 0;
};

// A matrix on the device, `gap` unwritten elements between its rows, `offset` elements behind an aligned address: in an
// allocation of its own, or in `memory`.
template <class T> class Operand {
 public:
  Operand(int64_t rows, int64_t columns, int64_t gap, int64_t offset, auto&& next, T* memory = nullptr)
      : columns_(columns),
        stride_(columns + gap),
        values_(rows * columns),
        own_(memory || values_.empty() ? 0 : (rows - 1) * stride_ + columns, offset),
        data_(memory ? memory + offset : own_.data()) {
    for (T& value : values_) value = next();
    for (int64_t r = 0; r < rows && columns; ++r) copy_to_device(data_ + r * stride_, &values_[r * columns], columns);
  }
  const T* data() const { return data_; }
  int64_t stride() const { return stride_; }
  Real at(int64_t r, int64_t c) const { return Type<T>::widen(values_[r * columns_ + c]); }

 private:
  int64_t columns_, stride_;
  std::vector<T> values_;
  DeviceArray<T> own_;
  T* data_;
};

struct Case {
  int64_t rows, columns, depth;
  int64_t gap = 0, offset = 0;
  int splits = 1;
  bool with_bias = true;  // or with a bias gradient
  int special_every = 0;
  int a_exponent = 0, b_exponent = 0;  // of the power of two that an operand is multiplied by
  void* memory = nullptr;              // of far_apart::kElements, if the operands are to lie there
};

template <Precision kPrecision, Direction kDirection> void test(const KernelFacts& kernel, int index, const Case& c) {
  using T = typename Traits<kPrecision>::T;
  constexpr bool kForward = kDirection == Direction::kForward;
  const std::string name = Activations::kNames[index];
  const bool reads_below = !kForward && name != "identity";
  Generator generator(index * 1000 + c.rows * 31 + c.columns * 7 + c.depth);
  // The largest numbers become infinite when they are rounded to tf32, here as in any tf32 product.
  const auto value = [&](int special_every) {
    for (;;) {
      const T v = generator.value<T>(special_every);
      if (kPrecision != Precision::kTf32 || !(std::abs(Type<T>::widen(v)) > 0x1p126L) || std::isinf(Type<T>::widen(v)))
        return v;
    }
  };
  const auto place = [&](int64_t operand) {
    return c.memory ? static_cast<T*>(c.memory) + operand * far_apart::kPlace : nullptr;
  };
  const auto operand = [&] { return value(c.special_every); };
  const auto times = [&](int exponent) {
    return [&, exponent] { return Type<T>::round(std::ldexp(Type<T>::widen(operand()), exponent)); };
  };
  const Operand<T> a(c.rows, c.depth, c.gap, c.offset, times(c.a_exponent), place(0));
  const Operand<T> b(kForward ? c.columns : c.depth, kForward ? c.depth : c.columns, c.gap, c.offset,
                     times(c.b_exponent), place(1));
  const Operand<T> bias(kForward && c.with_bias ? 1 : 0, c.columns, 0, c.offset, [&] { return value(0); });
  const Operand<T> below(
      reads_below ? c.rows : 0, c.columns, c.gap, c.offset,
      [&] { return Type<T>::round(reference::forward(name, Type<T>::widen(operand()), kParameters)); }, place(2));
  DeviceArray<T> result(c.rows * c.columns, c.offset), sums(!kForward && c.with_bias ? c.columns : 0);

  const ProductArguments arguments{kPrecision,
                                   kDirection,
                                   ProductActivation({index, kParameters}),
                                   a.data(),
                                   b.data(),
                                   a.stride(),
                                   b.stride(),
                                   bias.data(),
                                   below.data(),
                                   below.stride(),
                                   result.data(),
                                   sums.data(),
                                   c.rows,
                                   c.columns,
                                   c.depth,
                                   132};
  const Choice choice{kernel.kernel, useful_splits(c.depth, c.splits, kPrecision)};
  DeviceArray<char> workspace(product_workspace(arguments, choice));
  const std::string what =
      std::string(kernel.name) + " " + Traits<kPrecision>::kName + (kForward ? " forward " : " backward ") + name +
      " " + std::to_string(c.rows) + " x " + std::to_string(c.columns) + " x " + std::to_string(c.depth) + ", gap " +
      std::to_string(c.gap) + ", offset " + std::to_string(c.offset) + ", splits " + std::to_string(choice.splits) +
      ", times 2^" + std::to_string(c.a_exponent) + " and 2^" + std::to_string(c.b_exponent);
  check(product(arguments, choice, workspace.data(), nullptr), what.c_str());
  check(cudaDeviceSynchronize(), what.c_str());

  const auto values = result.values(), sum_values = sums.values();
  reference::Comparison<T> comparison, sum_comparison;
  constexpr Real kEpsilon = reference::Arithmetic<T>::kEpsilon;
  for (int64_t column = 0; column < c.columns; ++column) {
    Real column_sum = 0, column_size = 0, column_slack = 0;
    for (int64_t row = 0; row < c.rows; ++row) {
      Real sum = 0, size = 0;
      for (int64_t k = 0; k < c.depth; ++k) {
        const Real term = a.at(row, k) * (kForward ? b.at(column, k) : b.at(k, column));
        sum += term;
        size += std::isfinite(term) ? std::abs(term) : 0;
      }
      if (kForward && c.with_bias) {
        sum += bias.at(0, column);
        size += std::abs(bias.at(0, column));
      }
      // What rounding the factors costs, and one rounding of a sum as large as its terms together.
      Real slack = size * (Traits<kPrecision>::kFactorError + kEpsilon), truth;
      if constexpr (kForward) {
        truth = reference::forward(name, sum, kParameters);
      } else {
        const Real y = reads_below ? below.at(row, column) : 0;
        truth = reference::gradient<T>(name, sum, y, kParameters);
        const Real factor = std::abs(reference::gradient<T>(name, 1, y, kParameters));
        slack = (std::isfinite(factor) ? slack * factor : 0) +
                kEpsilon * reference::lost_gradient(name, sum, y, truth, kParameters);
      }
      // Where partial sums may overflow, their order decides what comes out.
      const bool certain = size < 0x1p126L;
      if (certain) comparison.add(values[row * c.columns + column], truth, slack);
      column_sum += truth;
      column_size += certain && std::isfinite(truth) ? std::abs(truth) : certain || std::isinf(truth) ? 0 : 0x1p127L;
      column_slack += slack;
    }
    if (!sum_values.empty() && column_size < 0x1p126L)
      sum_comparison.add(sum_values[column], column_sum, 4 * kEpsilon * column_size + column_slack);
  }
  report(comparison.verdict(), what);
  if (!sum_values.empty()) report(sum_comparison.verdict(), "bias gradient of " + what);
  add_to_fingerprint(values);
  add_to_fingerprint(sum_values);
}

// What a slow tool, which looks at every access, has time for.
template <Precision kPrecision, Direction kDirection> void test_few(const KernelFacts& kernel) {
  const int relu = 1, tanh = 3;
  test<kPrecision, kDirection>(kernel, tanh, {kernel.rows + 8, kernel.columns + 16, 136, 16});
  test<kPrecision, kDirection>(kernel, relu, {24, 40, 72, 8, 0, 1, false, kSpecialEvery});
  if (kernel.splits) test<kPrecision, kDirection>(kernel, tanh, {65, 40, 520, 8, 0, 3});
  if (!kernel.aligned) test<kPrecision, kDirection>(kernel, tanh, {13, 27, 33, 3, 1});
}

// Offsets beyond 2³¹ elements in every operand.
template <Precision kPrecision, Direction kDirection> void test_far(const KernelFacts& kernel, void* memory) {
  const int tanh = 3;
  constexpr int64_t kSize = far_apart::kRows, kGap = far_apart::kStride - kSize;
  const auto far = [&](int64_t gap, int64_t offset, int splits) {
    test<kPrecision, kDirection>(kernel, tanh, {kSize, kSize, kSize, gap, offset, splits, true, 0, 0, 0, memory});
  };
  far(kGap, 0, 1);
  if (kernel.splits) far(kGap, 0, 3);
  if (!kernel.aligned) far(kGap + 1, 1, 1);
}

// An activation that the kernels do not have inside is refused, not left out.
template <Precision kPrecision, Direction kDirection> void test_refusal(const KernelFacts& kernel) {
  using T = typename Traits<kPrecision>::T;
  const DeviceArray<T> memory(64);
  ProductArguments p{};
  p.precision = kPrecision;
  p.direction = kDirection;
  p.a = p.b = p.below = memory.data();
  p.c = memory.data();
  p.a_stride = p.b_stride = p.below_stride = p.rows = p.columns = p.depth = 8;
  p.multiprocessors = 132;
  for (int index = InlinedActivations::kCount; index < Activations::kCount; ++index) {
    p.activation = ProductActivation({index, {}});
    report(product(p, {kernel.kernel}, nullptr, nullptr) == cudaErrorInvalidValue ? "" : "was not refused",
           std::string(kernel.name) + " " + Activations::kNames[index]);
  }
  p.activation = ProductActivation({Activations::index_of<Relu>(), {}, {2, kUnscaled.limit}});
  report(product(p, {kernel.kernel}, nullptr, nullptr) == cudaErrorInvalidValue ? "" : "was not refused",
         std::string(kernel.name) + " relu with a gain");
}

// A wide element is aligned in multiples of 4, a 16-bit one of 8: these cases keep to 8.
template <Precision kPrecision, Direction kDirection> void test_kernel(const KernelFacts& kernel) {
  for (int index = 0; index < InlinedActivations::kCount; ++index) {
    test<kPrecision, kDirection>(kernel, index, {40, 72, 40});
    test<kPrecision, kDirection>(kernel, index, {24, 40, 72, 8, 0, 1, false, kSpecialEvery});
    if (kernel.splits) test<kPrecision, kDirection>(kernel, index, {40, 48, 200, 0, 0, 3});
    if (!kernel.aligned) test<kPrecision, kDirection>(kernel, index, {13, 27, 33, 3, 1});
  }
  test_refusal<kPrecision, kDirection>(kernel);
  const int relu = 1, tanh = 3;
  // Whole tiles, more than one of them in each direction, one row, one column, a depth of more stages than fly at once.
  test<kPrecision, kDirection>(kernel, relu, {kernel.rows, kernel.columns, 64});
  test<kPrecision, kDirection>(kernel, tanh, {kernel.rows + 8, kernel.columns + 16, 136, 16});
  test<kPrecision, kDirection>(kernel, relu, {2 * kernel.rows + 1, 8, 16});
  test<kPrecision, kDirection>(kernel, tanh, {1, 24, 8});
  test<kPrecision, kDirection>(kernel, relu, {9, 16, 1032, 0, 0, 1, true, 0});
  test<kPrecision, kDirection>(kernel, tanh, {0, 16, 16});
  test<kPrecision, kDirection>(kernel, tanh, {16, 0, 16});
  if (!is_wgmma(kernel.kernel)) test<kPrecision, kDirection>(kernel, tanh, {16, 16, 0});
  if (kernel.splits)
    for (const int splits : {2, 5, 64}) {
      test<kPrecision, kDirection>(kernel, tanh, {65, 40, 520, 8, 0, splits});
      test<kPrecision, kDirection>(kernel, relu, {17, 24, 264, 0, 0, splits, false, kSpecialEvery});
    }
  // Factors whose second half would be no number any more, if it were not for the scaling.
  if constexpr (kPrecision == Precision::kFloat32)
    for (const auto& [a, b] :
         {std::pair(-120, 60), {60, -120}, {-140, 100}, {-50, -50}, {100, -90}, {35, 35}, {60, 60}})
      for (const int splits : {1, kernel.splits ? 2 : 1})
        test<kPrecision, kDirection>(kernel, 0, {40, 72, 72, 0, 0, splits, false, 0, a, b});
  if (!kernel.aligned)
    for (const Case& c : {Case{1, 1, 1},
                          {5, 3, 7},
                          {65, 67, 131, 1, 1, 2},
                          {64, 1, 256},
                          {33, 100, 1},
                          {70, 9, 21},
                          {19, 37, 53, 0, 1, 1, true, 13},
                          {19, 37, 530, 0, 1, 3, true, kSpecialEvery}})
      test<kPrecision, kDirection>(kernel, tanh, c);
}

enum class Extent { kAll, kFew, kFar };

template <Precision kPrecision> void test_precision(int capability, Extent extent) {
  // A row more than the operands need: those of mma_any lie one element further apart.
  DeviceArray<typename Traits<kPrecision>::T> memory(
      extent == Extent::kFar ? far_apart::kElements + far_apart::kRows + 1 : 0);
  const auto test_direction = [&]<Direction kDirection>(std::integral_constant<Direction, kDirection>) {
    for (const KernelFacts& kernel : kKernels) {
      const Shape shape{kPrecision, kDirection, 64, 64, 64, true, true};
      if (kernel.kernel == Kernel::kLibrary || !obstacle(kernel.kernel, shape, capability).empty()) continue;
      if (extent == Extent::kFar) test_far<kPrecision, kDirection>(kernel, memory.data());
      else if (extent == Extent::kFew) test_few<kPrecision, kDirection>(kernel);
      else test_kernel<kPrecision, kDirection>(kernel);
    }
  };
  test_direction(std::integral_constant<Direction, Direction::kForward>());
  test_direction(std::integral_constant<Direction, Direction::kBackward>());
}

}  // namespace

int main(int count, char** words) {
  std::string only;
  Extent extent = Extent::kAll;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "few") extent = Extent::kFew;
    else if (word == "far") extent = Extent::kFar;
    else only = word;
  }
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "compute capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0), "compute capability");
  const int capability = 10 * major + minor;
  const auto wanted = [&](const char* name) { return only.empty() || only == name; };
  if (wanted("bfloat16")) test_precision<Precision::kBFloat16>(capability, extent);
  if (wanted("float16")) test_precision<Precision::kFloat16>(capability, extent);
  if (wanted("tf32")) test_precision<Precision::kTf32>(capability, extent);
  if (wanted("float32")) test_precision<Precision::kFloat32>(capability, extent);
  if (comparisons == 0) {
    std::fprintf(stderr, "expected 'few', 'far', 'bfloat16', 'float16', 'tf32' or 'float32', got '%s'\n", only.c_str());
    return 2;
  }
  std::printf("%lld tensors, %lld failures\nresults %016llx\n", static_cast<long long>(comparisons),
              static_cast<long long>(failures), static_cast<unsigned long long>(fingerprint));
  return failures ? 1 : 0;
}
