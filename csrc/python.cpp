// The pybind11 module: build facts and plan queries. The only file with Python symbols; the operators need none.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <vector>

#include "activations.h"
#include "cpu/kernels.h"
#include "cpu/plan.h"

namespace {

using namespace fused_gan;
using Words = std::tuple<std::string, std::string>;  // on the forward and on the backward

Words cpu_plan(const std::string& dtype, int64_t samples, int64_t in_features, int64_t out_features) {
  const cpu::Kernels& kernels = cpu::kernels();
  const std::string set = std::string(" (") + kernels.name + ")";
  if (dtype == "bfloat16" && plan::pairs(samples * in_features * out_features) && cpu::paired_kernels()) {
    const std::string how = " (avx512_bf16), sums in float32";
    return {plan::paired_forward(samples, in_features) == plan::Forward::kRows
                ? "blocks of the batch · packed W" + how + ", bias and activation while they are in cache"
                : "blocks of W · packed batch" + how + ", bias and activation while they are in cache",
            "one pass for activation gradient and bias gradient" + set + ", then paired products" + how};
  }
  if (dtype != "float32" && dtype != "float64")
    return {"torch's product with bias, then one pass for the activation" + set + ": no blocked product in " + dtype,
            "one pass for activation gradient and bias gradient" + set + ", then torch's products"};
  const int64_t lanes = dtype == "float32" ? kernels.product_float.column_tile : kernels.product_double.column_tile;
  const std::string threads =
      plan::worth_sharing(samples * in_features * out_features) ? ", shared by all threads" : ", on one thread";
  std::string forward;
  switch (plan::forward(samples, in_features, out_features, lanes)) {
    case plan::Forward::kDot:
      forward = "rows against rows as they lie" + set + ": too few samples or outputs to repay packing";
      break;
    case plan::Forward::kPanel:
      forward = "blocks of W · packed batch" + set + ", bias and activation while they are in cache";
      break;
    case plan::Forward::kRows:
      forward = "blocks of the batch · packed W" + set + ", bias and activation while they are in cache";
  }
  return {forward + threads,
          "one pass for activation gradient and bias gradient" + set + ", then blocked products" + threads};
}

Words cuda_plan() {
#ifdef FUSED_GAN_WITH_CUDA
  return {"cuBLAS product, then one kernel for bias and activation (in 16-bit types the bias is in the product)",
          "one kernel for activation gradient and bias gradient, then cuBLAS products"};
#else
  throw pybind11::value_error("device: 'cuda' is not in this build of fused_gan (CPU only)");
#endif
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Facts about the compiled operators.";
  m.attr("activations") = pybind11::tuple(
      pybind11::cast(std::vector<std::string>(std::begin(Activations::kNames), std::end(Activations::kNames))));
  m.def("cpu_capability", [] { return cpu::kernels().name; });
  m.def("cpu_plan", cpu_plan, pybind11::arg("dtype"), pybind11::arg("samples"), pybind11::arg("in_features"),
        pybind11::arg("out_features"));
  m.def("cuda_plan", cuda_plan);
}
