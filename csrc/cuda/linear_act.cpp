// linear_act and its backward on CUDA: checks, memory, torch's products, the launches around them. docs/cuda.md says
// why the passes are cut this way.
#include <ATen/OpMathType.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "../checks.h"
#include "../ops.h"
#include "pointwise.h"

namespace fused_gan {
namespace {

// While it lives: the tensors' device is the current one, and the products inside are plain ones, neither recorded by
// autograd nor cast by an autocast region that is still open when backward runs.
struct Scope {
  explicit Scope(const at::Tensor& tensor) : device(tensor.device()) {}
  const c10::cuda::CUDAGuard device;
  const at::AutoDispatchBelowADInplaceOrView no_autograd;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::autocast_dispatch_keyset};
};

cuda::Dtype dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return cuda::Dtype::kFloat32;
    case at::kDouble:
      return cuda::Dtype::kFloat64;
    case at::kBFloat16:
      return cuda::Dtype::kBFloat16;
    default:
      return cuda::Dtype::kFloat16;  // checks.h lets no other through
  }
}

const void* data(const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr() : nullptr; }
void* mutable_data(const at::Tensor& tensor) { return tensor.defined() ? tensor.mutable_data_ptr() : nullptr; }

cuda::Matrix matrix(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.const_data_ptr(), tensor.stride(0), tensor.stride(1)};
}

int multiprocessors() {
  int device = 0, count = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

void check_launch(cudaError_t error, const char* kernel, const at::Tensor& tensor) {
  TORCH_CHECK(error == cudaSuccess, "fused_gan: launching the CUDA kernel '", kernel, "' for ", tensor.scalar_type(),
              " of shape ", tensor.sizes(), " failed: ", cudaGetErrorString(error));
}

// input (..., in), weight (out, in), bias (out) or none -> (..., out)
at::Tensor linear_act_cuda(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                           std::string_view activation, double negative_slope) {
  const cuda::Activation act{check_linear_act(input, weight, bias, activation, negative_slope), negative_slope};
  const Scope scope(input);
  const bool changes = activation != Identity::kName, has_bias = bias && bias->defined();
  // A product in 16 bits has to take the bias along: rounded before it, it would lose what the bias cancels.
  const bool bias_in_product = has_bias && (!changes || at::isReducedFloatingType(input.scalar_type()));
  const at::Tensor x = as_matrix(input);
  at::Tensor y = bias_in_product ? at::addmm(*bias, x, weight.t()) : at::mm(x, weight.t());
  if (changes) {
    const at::Tensor late_bias = has_bias && !bias_in_product ? bias->contiguous() : at::Tensor();
    const cuda::ActivateArguments arguments{dtype_of(y), act,       mutable_data(y),  data(late_bias),
                                            y.size(0),   y.size(1), multiprocessors()};
    check_launch(cuda::activate(arguments, c10::cuda::getCurrentCUDAStream()), "activate", y);
  }
  return input.dim() == 2 ? y : y.view(C10_AS_INTARRAYREF_SLOW(output_sizes(input, weight)));
}

// The gradient kernel reads rows whose elements lie side by side, or are one and the same; others are copied first.
at::Tensor as_readable_matrix(const at::Tensor& tensor) {
  const at::Tensor rows = as_matrix(tensor);
  return rows.size(1) <= 1 || rows.stride(1) <= 1 ? rows : rows.contiguous();
}

// grad, output (..., out); input (..., in); weight (out, in). output may be none for identity.
Gradients linear_act_backward_cuda(const at::Tensor& grad, const std::optional<at::Tensor>& output,
                                   const std::optional<at::Tensor>& input, const std::optional<at::Tensor>& weight,
                                   std::string_view activation, double negative_slope, std::array<bool, 3> wanted) {
  const cuda::Activation act{check_linear_act_backward(grad, output, input, weight, activation, negative_slope, wanted),
                             negative_slope};
  const Scope scope(grad);
  const bool changes = activation != Identity::kName;  // otherwise dz is dy
  const at::Tensor dy = as_readable_matrix(grad), y = changes ? as_readable_matrix(*output) : at::Tensor();
  const int64_t rows = dy.size(0), columns = dy.size(1);

  at::Tensor dz = changes && (wanted[0] || wanted[1]) ? at::empty({rows, columns}, dy.options()) : at::Tensor();
  const at::Tensor bias_gradient = wanted[2] ? at::empty({columns}, dy.options()) : at::Tensor();
  if (dz.defined() || bias_gradient.defined()) {
    const cuda::GradientArguments arguments{
        dtype_of(dy), act,     matrix(dy),       matrix(y), mutable_data(dz), mutable_data(bias_gradient),
        rows,         columns, multiprocessors()};
    const int64_t scratch = cuda::gradient_workspace(arguments);
    const at::Tensor workspace =
        scratch ? at::empty({scratch}, dy.options().dtype(at::toOpMathType(dy.scalar_type()))) : at::Tensor();
    check_launch(cuda::gradient(arguments, mutable_data(workspace), c10::cuda::getCurrentCUDAStream()), "gradient", dy);
  }
  if (!dz.defined()) dz = dy;
  return {
      wanted[0] ? at::mm(dz, *weight).view(C10_AS_INTARRAYREF_SLOW(with_last(grad, weight->size(1)))) : at::Tensor(),
      wanted[1] ? at::mm(dz.t(), as_matrix(*input)) : at::Tensor(), bias_gradient};
}

}  // namespace

TORCH_LIBRARY_IMPL(fused_gan, CUDA, m) {
  m.impl("linear_act", linear_act_cuda);
  m.impl("linear_act_backward", linear_act_backward_cuda);
}

}  // namespace fused_gan
