// The pybind11 module: build facts and plan queries. The only file with Python symbols; the operators need none.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "activations.h"
#include "cpu/kernels.h"
#include "cpu/plan.h"
#include "cpu/tile_plan.h"
#ifdef FUSED_GAN_WITH_CUDA
#include "cuda/plan.h"
#include "cuda/precision.h"
#endif

namespace {

using namespace fused_gan;
using Words = std::tuple<std::string, std::string>;  // on the forward and on the backward

// On tiles; nothing where a layer does not run on them.
std::optional<Words> tiled_plan(const std::string& dtype, int64_t samples, int64_t in_features, int64_t out_features) {
  const cpu::Tiles* tiles = cpu::tiles();
  if (!tiles || dtype == "float64") return std::nullopt;
  const int planes = dtype == "bfloat16" ? 1 : dtype == "float16" ? 2 : cpu::float32_planes();
  if (!plan::tiles_pay(planes, samples, out_features, in_features, cpu::three_planes_from())) return std::nullopt;
  std::string how = std::string(" on tiles (") + tiles->name + ")";
  if (planes > 1 || dtype == "float32") how += ", " + dtype + " as " + std::to_string(planes) + " of bfloat16";
  how += ", sums in float32";
  const bool columns = plan::tile_forward(dtype == "bfloat16", samples, in_features) == plan::TileForm::kForwardColumns;
  return Words{std::string(columns ? "blocks of W · packed batch" : "blocks of the batch · packed W") + how +
                   ", bias and activation while they are in cache",
               "one pass for activation gradient and bias gradient, within a chain at the end of the product above; "
               "products" +
                   how};
}

Words cpu_plan(const std::string& dtype, int64_t samples, int64_t in_features, int64_t out_features) {
  if (std::optional<Words> tiled = tiled_plan(dtype, samples, in_features, out_features)) return *tiled;
  const cpu::Kernels& kernels = cpu::kernels();
  const std::string set = std::string(" (") + kernels.name + ")";
  const std::string dots = "rows against rows as they lie" + set + ": too few samples or outputs to repay packing";
  const std::string gradients = "one pass for activation gradient and bias gradient" + set + ", then ";
  const int64_t work = samples * in_features * out_features;
  if (dtype != "float32" && dtype != "float64") {
    if (!plan::pairs(work)) return {dots, gradients + "torch's products"};
    const bool paired = dtype == "bfloat16" && cpu::paired_kernels();
    const std::string how = paired ? " (avx512_bf16), sums in float32" : set + ", widened to float32 on the way";
    const bool rows = plan::paired_forward(samples, in_features) == plan::Forward::kRows;
    const std::string blocks = std::string(rows ? "blocks of the batch · packed W" : "blocks of W · packed batch") +
                               how + ", bias and activation while they are in cache";
    const int64_t lanes = kernels.product_float.column_tile;
    const bool few = !paired && plan::forward(samples, in_features, out_features, lanes) == plan::Forward::kDot;
    return {few ? dots : blocks, gradients + (paired ? "paired products" : "blocked products") + how};
  }
  const int64_t lanes = dtype == "float32" ? kernels.product_float.column_tile : kernels.product_double.column_tile;
  const std::string threads = plan::worth_sharing(work) ? ", shared by all threads" : ", on one thread";
  std::string forward;
  switch (plan::forward(samples, in_features, out_features, lanes)) {
    case plan::Forward::kDot:
      forward = dots;
      break;
    case plan::Forward::kPanel:
      forward = "blocks of W · packed batch" + set + ", bias and activation while they are in cache";
      break;
    case plan::Forward::kRows:
      forward = "blocks of the batch · packed W" + set + ", bias and activation while they are in cache";
  }
  const int64_t bytes = dtype == "float32" ? 4 : 8;
  std::string packed;
  if (plan::packs_operands(true, out_features, in_features, samples, bytes))
    packed += ", both operands of the weight gradient packed";
  if (plan::packs_operands(false, samples, in_features, out_features, bytes))
    packed += ", both operands of the input gradient packed";
  return {forward + threads, gradients + "blocked products" + packed + threads};
}

#ifdef FUSED_GAN_WITH_CUDA
namespace plan_cuda = cuda::plan;

cuda::Precision precision(const std::string& name) {
  for (const auto& [known, value] : {std::pair("bfloat16", cuda::Precision::kBFloat16),
                                     {"float16", cuda::Precision::kFloat16},
                                     {"tf32", cuda::Precision::kTf32},
                                     {"float32", cuda::Precision::kFloat32}})
    if (name == known) return value;
  throw pybind11::value_error("precision: expected 'bfloat16', 'float16', 'tf32' or 'float32', got '" + name + "'");
}

cuda::Direction direction(const std::string& name) {
  if (name == "forward") return cuda::Direction::kForward;
  if (name == "backward") return cuda::Direction::kBackward;
  throw pybind11::value_error("direction: expected 'forward' or 'backward', got '" + name + "'");
}

cuda::Kernel kernel(const std::string& name) {
  if (const cuda::KernelFacts* found = cuda::find_kernel(name)) return found->kernel;
  throw pybind11::value_error("kernel: there is none called '" + name + "'");
}

// What a product is: precision, direction, rows, columns, depth, aligned, epilogue.
using Product = std::tuple<std::string, std::string, int64_t, int64_t, int64_t, bool, bool>;
using Device = std::tuple<int, int>;  // capability, multiprocessors

cuda::Shape shape(const Product& p) {
  return {precision(std::get<0>(p)),
          direction(std::get<1>(p)),
          std::get<2>(p),
          std::get<3>(p),
          std::get<4>(p),
          std::get<5>(p),
          std::get<6>(p)};
}
plan_cuda::Device device(const Device& d) { return {std::get<0>(d), std::get<1>(d)}; }

// kernel, parts of the depth, whether it was measured
std::tuple<std::string, int, bool> cuda_decision(const Product& product, const Device& on) {
  const plan_cuda::Decision decision = plan_cuda::decide(shape(product), device(on));
  return {std::string(cuda::facts(decision.choice.kernel).name), decision.choice.splits,
          decision.source == plan_cuda::Source::kMeasured};
}

// kernel, parts of the depth, estimated microseconds, what is in its way
std::vector<std::tuple<std::string, int, double, std::string>> cuda_candidates(const Product& product,
                                                                               const Device& on) {
  std::vector<std::tuple<std::string, int, double, std::string>> all;
  for (const plan_cuda::Candidate& c : plan_cuda::candidates(shape(product), device(on)))
    all.emplace_back(std::string(cuda::facts(c.choice.kernel).name), c.choice.splits, c.microseconds, c.obstacle);
  return all;
}

void cuda_keep(const Product& product, const Device& on, const std::string& name, int splits) {
  const std::string obstacle = plan_cuda::keep(shape(product), device(on), {kernel(name), splits});
  if (!obstacle.empty()) throw pybind11::value_error("kernel: '" + name + "' cannot run this product: " + obstacle);
}
#endif

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Facts about the compiled operators.";
  m.attr("activations") = pybind11::tuple(
      pybind11::cast(std::vector<std::string>(std::begin(Activations::kNames), std::end(Activations::kNames))));
  m.def("cpu_capability", cpu::capability);
  m.def(
      "cpu_three_planes_from",
      [](std::optional<int64_t> work) { cpu::set_three_planes_from(work.value_or(cpu::kNever)); },
      pybind11::arg("work"));
  m.def("cpu_plan", cpu_plan, pybind11::arg("dtype"), pybind11::arg("samples"), pybind11::arg("in_features"),
        pybind11::arg("out_features"));
#ifdef FUSED_GAN_WITH_CUDA
  m.def("cuda_decision", cuda_decision, pybind11::arg("product"), pybind11::arg("device"));
  m.def("cuda_candidates", cuda_candidates, pybind11::arg("product"), pybind11::arg("device"));
  m.def("cuda_keep", cuda_keep, pybind11::arg("product"), pybind11::arg("device"), pybind11::arg("kernel"),
        pybind11::arg("splits"));
  m.def("cuda_float32", [](int64_t rows, int64_t columns, int64_t depth) {
    return cuda::float32_precision(rows, columns, depth) == cuda::Precision::kTf32 ? "tf32" : "float32";
  });
  m.def("cuda_forget", plan_cuda::forget);
  m.def("cuda_kept", plan_cuda::kept);
#endif
}
