#include "choice.h"

#include <ATen/Parallel.h>

#include <atomic>
#include <optional>

#include "../measured_choices.h"
#include "layers.h"
#include "paired.h"

namespace fused_gan::plan {

static const Family& this_family() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return kFamilies[__builtin_cpu_is("intel") ? 0 : 1];
#endif
  return kFamilies[2];
}

static std::atomic<const Family*> asked_for = nullptr;
const Family& family() {
  static const Family& here = this_family();
  const Family* other = asked_for.load(std::memory_order_relaxed);
  return other ? *other : here;
}
void use_family(std::optional<size_t> index) { asked_for = index ? &kFamilies.at(*index) : nullptr; }

}  // namespace fused_gan::plan

namespace fused_gan::cpu {
namespace {

struct Key {
  LayerProduct product;
  int threads;
  bool operator==(const Key&) const = default;

  std::array<uint64_t, 5> words() const {
    return {uint64_t(product.precision) << 1 | uint64_t(product.direction), uint64_t(product.samples),
            uint64_t(product.inputs), uint64_t(product.outputs), uint64_t(threads)};
  }
};
using Choices = MeasuredChoices<Key, Kernel, std::optional<Kernel>>;

int planes_of(Precision precision) {
  switch (precision) {
    case Precision::kFloat32:
    case Precision::kFloat32AsTf32:
      return 3;
    case Precision::kFloat16:
      return 2;
    default:
      return 1;
  }
}

// Where nothing was measured.
Kernel by_table(const LayerProduct& p) {
  const bool pays = tiles() && p.precision != Precision::kFloat64 &&
                    plan::tiles_pay(planes_of(p.precision), p.samples, p.outputs, p.inputs, three_planes_from());
  return pays ? Kernel::kTiles : Kernel::kBlocks;
}

}  // namespace

Precision precision_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      switch (float32_setting()) {
        case Float32Setting::kBFloat16:
          return Precision::kFloat32AsBFloat16;
        case Float32Setting::kTf32:
          return Precision::kFloat32AsTf32;
        default:
          return Precision::kFloat32;
      }
    case at::kDouble:
      return Precision::kFloat64;
    case at::kBFloat16:
      return Precision::kBFloat16;
    default:
      return Precision::kFloat16;
  }
}

Decision decide(const LayerProduct& product) {
  if (!Choices::were_used()) return {by_table(product), false};
  const Key key{product, at::get_num_threads()};
  // The table's choice is not remembered: tests change what it rests on.
  const auto measured = Choices::decision(key, [](std::optional<Kernel> kernel) { return kernel; });
  return measured ? Decision{*measured, true} : Decision{by_table(product), false};
}

bool has_choices() { return tiles() || Choices::were_used(); }

std::string obstacle(Kernel kernel, const LayerProduct& p) {
  const int64_t least = std::min({p.samples, p.inputs, p.outputs});
  switch (kernel) {
    case Kernel::kBlocks:
      return {};
    case Kernel::kTiles:
      if (!tiles()) return "this processor has no tiles, or they are not in use";
      if (p.precision == Precision::kFloat64) return "tiles do not multiply float64";
      if (planes_of(p.precision) == 1)
        return plan::worth_pairing(p.samples * p.inputs * p.outputs) ? ""
                                                                     : "it is too small: tiles lose denormal numbers";
      return least >= 16 ? "" : "it is too small: fewer than 16 samples, inputs or outputs";
    case Kernel::kLibrary:
      if (p.precision == Precision::kFloat32 || p.precision == Precision::kFloat64) return {};
      return "what torch's product gives by way of 16 bits may depend on memory around the operands";
  }
  return {};
}

std::string keep(const LayerProduct& product, int threads, Kernel kernel) {
  std::string reason = obstacle(kernel, product);
  if (!reason.empty()) return reason;
  Choices::keep({product, threads}, kernel);
  return {};
}

void forget() { Choices::forget(); }

// ---- in words ----
namespace {

constexpr const char* kFinished = ", bias and activation while they are in cache";

std::string because(const Decision& decision) {
  if (decision.measured) return "; as measured here with this number of threads";
  return std::string("; by the table for ") + plan::family().name;
}

std::string on_tiles(Precision precision) {
  std::string how = std::string(" on tiles (") + tiles()->name + ")";
  if (precision == Precision::kFloat16) how += ", float16 as 2 of bfloat16";
  if (planes_of(precision) == 3) how += ", float32 as 3 of bfloat16";
  if (precision == Precision::kFloat32AsBFloat16) how += ", float32 as 1 of bfloat16";
  return how + ", sums in float32";
}

constexpr const char* kBatchOverWeights = "blocks of the batch · packed W";
constexpr const char* kWeightsOverBatch = "blocks of W · packed batch";

std::string dots(const std::string& set) {
  return "rows against rows as they lie" + set + ": too few samples or outputs to repay packing";
}
std::string gradient_pass(const std::string& set) {
  return "one pass for activation gradient and bias gradient" + set + ", then ";
}

Words blocks_of_16_bits(at::ScalarType dtype, int64_t samples, int64_t inputs, int64_t outputs) {
  const std::string set = std::string(" (") + kernels().name + ")";
  if (!plan::worth_pairing(samples * inputs * outputs)) return {dots(set), gradient_pass(set) + "torch's products"};
  const bool paired = dtype == at::kBFloat16 && paired_kernels();
  const std::string how = paired ? " (avx512_bf16), sums in float32" : set + ", widened to float32 on the way";
  const bool rows = plan::paired_forward(samples, inputs) == plan::Forward::kRows;
  const int64_t lanes = kernels().product_float.lanes;
  const bool few = !paired && plan::forward(samples, inputs, outputs, lanes) == plan::Forward::kDot;
  return {few ? dots(set) : (rows ? kBatchOverWeights : kWeightsOverBatch) + how + kFinished,
          gradient_pass(set) + (paired ? "paired products" : "blocked products") + how};
}

Words blocks(at::ScalarType dtype, int64_t samples, int64_t inputs, int64_t outputs) {
  if (dtype != at::kFloat && dtype != at::kDouble) return blocks_of_16_bits(dtype, samples, inputs, outputs);
  const std::string set = std::string(" (") + kernels().name + ")";
  const int64_t bytes = dtype == at::kFloat ? sizeof(float) : sizeof(double);
  const int64_t lanes = dtype == at::kFloat ? kernels().product_float.lanes : kernels().product_double.lanes;
  const bool shared = plan::worth_sharing(plan::product_work(samples, outputs, inputs));
  const std::string threads = shared ? ", shared by all threads" : ", on one thread";
  Words words;
  switch (plan::forward(samples, inputs, outputs, lanes)) {
    case plan::Forward::kDot:
      words.forward = dots(set);
      break;
    case plan::Forward::kPanel:
      words.forward = kWeightsOverBatch + set + kFinished;
      break;
    case plan::Forward::kRows:
      words.forward = kBatchOverWeights + set + kFinished;
  }
  words.forward += threads;
  words.backward = gradient_pass(set) + "blocked products";
  if (plan::packs_operands(true, outputs, inputs, samples, bytes))
    words.backward += ", both operands of the weight gradient packed";
  if (plan::packs_operands(false, samples, inputs, outputs, bytes))
    words.backward += ", W of the input gradient packed";
  words.backward += threads;
  return words;
}

std::string forward_on_tiles(at::ScalarType dtype, Precision precision, int64_t samples, int64_t inputs) {
  const bool columns = plan::tile_forward(dtype == at::kBFloat16, samples, inputs) == plan::TileForm::kForwardColumns;
  return (columns ? kWeightsOverBatch : kBatchOverWeights) + on_tiles(precision) + kFinished;
}

}  // namespace

Words explain(at::ScalarType dtype, int64_t samples, int64_t inputs, int64_t outputs) {
  const Precision precision = precision_of(dtype);
  const auto decision = [&](Direction direction) { return decide({precision, direction, samples, inputs, outputs}); };
  const Decision forward = decision(Direction::kForward), backward = decision(Direction::kBackward);
  Words words = blocks(dtype, samples, inputs, outputs);
  if (forward.kernel == Kernel::kTiles) words.forward = forward_on_tiles(dtype, precision, samples, inputs);
  if (forward.kernel == Kernel::kLibrary) words.forward = "torch's product, then one pass for the activation";
  const std::string pass = "one pass for activation gradient and bias gradient";
  if (backward.kernel == Kernel::kTiles)
    words.backward = pass + ", within a chain at the end of the product above; products" + on_tiles(precision);
  if (backward.kernel == Kernel::kLibrary) words.backward = pass + ", then torch's products";
  return {words.forward + because(forward), words.backward + because(backward)};
}

}  // namespace fused_gan::cpu
