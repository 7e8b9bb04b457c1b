// The pybind11 module: build facts, plan queries, and the choices that the plan is to follow. The only file with Python
// symbols; the operators need none.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "activations.h"
#include "cpu/choice.h"
#ifdef FUSED_GAN_WITH_CUDA
#include "cuda/plan.h"
#include "cuda/precision.h"
#endif

namespace {

using namespace fused_gan;

template <class Value, class Names> Value value_of(const char* what, const Names& names, const std::string& name) {
  std::string known;
  for (size_t i = 0; i < names.size(); ++i) {
    if (name == names[i]) return Value(int(i));
    known += std::string(known.empty() ? "'" : ", '") + names[i] + "'";
  }
  throw pybind11::value_error(std::string(what) + ": expected one of " + known + ", got '" + name + "'");
}

// What a product is on CPU: precision, direction, samples, inputs, outputs.
using CpuProduct = std::tuple<std::string, std::string, int64_t, int64_t, int64_t>;
cpu::LayerProduct layer_product(const CpuProduct& p) {
  return {value_of<cpu::Precision>("precision", cpu::kPrecisionNames, std::get<0>(p)),
          value_of<cpu::Direction>("direction", cpu::kDirectionNames, std::get<1>(p)), std::get<2>(p), std::get<3>(p),
          std::get<4>(p)};
}

at::ScalarType scalar_type(const std::string& name) {
  for (const auto& [known, type] : {std::pair("float32", at::kFloat),
                                    {"float64", at::kDouble},
                                    {"bfloat16", at::kBFloat16},
                                    {"float16", at::kHalf}})
    if (name == known) return type;
  throw pybind11::value_error("dtype: expected 'float32', 'float64', 'bfloat16' or 'float16', got '" + name + "'");
}

std::tuple<std::string, std::string> cpu_plan(const std::string& dtype, int64_t samples, int64_t inputs,
                                              int64_t outputs) {
  const cpu::Words words = cpu::explain(scalar_type(dtype), samples, inputs, outputs);
  return {words.forward, words.backward};
}

// kernel, whether it was measured
std::tuple<std::string, bool> cpu_decision(const CpuProduct& product) {
  const cpu::Decision decision = cpu::decide(layer_product(product));
  return {cpu::kKernelNames[size_t(decision.kernel)], decision.measured};
}

// kernel, what is in its way
std::vector<std::tuple<std::string, std::string>> cpu_candidates(const CpuProduct& product) {
  std::vector<std::tuple<std::string, std::string>> all;
  for (size_t i = 0; i < cpu::kKernelNames.size(); ++i)
    all.emplace_back(cpu::kKernelNames[i], cpu::obstacle(cpu::Kernel(int(i)), layer_product(product)));
  return all;
}

void cpu_keep(const CpuProduct& product, int threads, const std::string& name) {
  const auto kernel = value_of<cpu::Kernel>("kernel", cpu::kKernelNames, name);
  const std::string obstacle = cpu::keep(layer_product(product), threads, kernel);
  if (!obstacle.empty()) throw pybind11::value_error("kernel: '" + name + "' cannot run this product: " + obstacle);
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
  pybind11::list parameters;
  for (int i = 0; i < Activations::kCount; ++i) {
    pybind11::list own;
    for (int k = 0; k < Activations::kParameterCounts[i]; ++k)
      own.append(
          pybind11::make_tuple(Activations::kParameters[i][k].name, Activations::kParameters[i][k].default_value));
    parameters.append(pybind11::tuple(own));
  }
  m.attr("activation_parameters") = pybind11::tuple(parameters);
  m.def("cpu_capability", cpu::capability);
  m.def(
      "cpu_three_planes_from",
      [](std::optional<int64_t> work) { cpu::set_three_planes_from(work.value_or(cpu::kNever)); },
      pybind11::arg("work"));
  m.def("cpu_families", [] {
    std::vector<std::string> names;
    for (const plan::Family& family : plan::kFamilies) names.emplace_back(family.name);
    return names;
  });
  m.def("cpu_use_family", plan::use_family, pybind11::arg("index"));
  m.def("cpu_plan", cpu_plan, pybind11::arg("dtype"), pybind11::arg("samples"), pybind11::arg("in_features"),
        pybind11::arg("out_features"));
  m.def("cpu_precision",
        [](const std::string& dtype) { return cpu::kPrecisionNames[size_t(cpu::precision_of(scalar_type(dtype)))]; });
  m.def("cpu_decision", cpu_decision, pybind11::arg("product"));
  m.def("cpu_candidates", cpu_candidates, pybind11::arg("product"));
  m.def("cpu_keep", cpu_keep, pybind11::arg("product"), pybind11::arg("threads"), pybind11::arg("kernel"));
  m.def("cpu_forget", cpu::forget);
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
