#include "layers.h"

#include <ATen/Context.h>
#include <ATen/OpMathType.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>

#include "../activations.h"
#include "plan.h"
#include "precision.h"

namespace fused_gan::cuda {
namespace {

Dtype dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return Dtype::kFloat32;
    case at::kDouble:
      return Dtype::kFloat64;
    case at::kBFloat16:
      return Dtype::kBFloat16;
    default:
      return Dtype::kFloat16;  // checks.h lets no other through
  }
}

Precision precision_of(at::ScalarType dtype, int64_t rows, int64_t columns, int64_t depth) {
  if (dtype == at::kBFloat16) return Precision::kBFloat16;
  return dtype == at::kHalf ? Precision::kFloat16 : float32_precision(rows, columns, depth);
}

const void* data(const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr() : nullptr; }
void* mutable_data(const at::Tensor& tensor) { return tensor.defined() ? tensor.mutable_data_ptr() : nullptr; }

Matrix matrix(const at::Tensor& tensor) {
  if (!tensor.defined()) return {};
  return {tensor.const_data_ptr(), tensor.stride(0), tensor.stride(1)};
}

// The current device; each thread remembers the last one, as asking for its attributes takes longer than planning.
const plan::Device& current_device() {
  thread_local int known = -1;
  thread_local plan::Device device;
  int index = 0;
  C10_CUDA_CHECK(cudaGetDevice(&index));
  if (index == known) return device;
  int major = 0, minor = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&device.multiprocessors, cudaDevAttrMultiProcessorCount, index));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index));
  device.capability = 10 * major + minor;
  known = index;
  return device;
}

void check_launch(cudaError_t error, std::string_view kernel, const at::Tensor& tensor) {
  TORCH_CHECK(error == cudaSuccess, "fused_gan: launching the CUDA kernel '", kernel, "' for ", tensor.scalar_type(),
              " of shape ", tensor.sizes(), " failed: ", cudaGetErrorString(error));
}

// Whether the product kernels can read it: elements of a row side by side, rows not on top of each other.
bool has_dense_rows(const at::Tensor& tensor) {
  const int64_t columns = tensor.size(1);
  return (columns <= 1 || tensor.stride(1) == 1) && (tensor.size(0) <= 1 || tensor.stride(0) >= columns);
}

// Elements from one row to the next. The stride that torch keeps for a single row may be any number.
int64_t row_stride(const at::Tensor& tensor) { return tensor.size(0) > 1 ? tensor.stride(0) : tensor.size(1); }

// The gradient kernel reads rows whose elements lie side by side or all in one place (stride 0). Others are copied.
at::Tensor as_readable_matrix(const at::Tensor& matrix) {
  return matrix.size(1) <= 1 || matrix.stride(1) <= 1 ? matrix : matrix.contiguous();
}

// The plan's choice; the library's product where ours cannot read the operands.
Choice choose(const ProductArguments& p, bool readable, bool epilogue) {
  if (!readable) return {Kernel::kLibrary};
  return plan::decide({p.precision, p.direction, p.rows, p.columns, p.depth, is_aligned(p), epilogue}, current_device())
      .choice;
}

void run(const ProductArguments& p, Choice choice, const at::Tensor& result) {
  const int64_t bytes = product_workspace(p, choice);
  const at::Tensor workspace = bytes ? at::empty({bytes}, result.options().dtype(at::kByte)) : at::Tensor();
  check_launch(product(p, choice, mutable_data(workspace), c10::cuda::getCurrentCUDAStream()),
               facts(choice.kernel).name, result);
}

// y = act(z + bias), y may be z
void run_activate(Activation act, const at::Tensor& z, const at::Tensor& bias, const at::Tensor& y) {
  const ActivateArguments arguments{dtype_of(z), act,       data(z),   mutable_data(y),
                                    data(bias),  z.size(0), z.size(1), current_device().multiprocessors};
  check_launch(activate(arguments, c10::cuda::getCurrentCUDAStream()), "activate", y);
}

// act(x weightᵀ + bias) by a product of ours; undefined where the library's is the choice. act: an inlined one.
at::Tensor forward_in_one(Activation act, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (x.scalar_type() == at::kDouble) return {};
  ProductArguments p{};
  p.direction = Direction::kForward;
  p.activation = act;
  p.a = data(x);
  p.b = data(weight);
  p.a_stride = row_stride(x);
  p.b_stride = row_stride(weight);
  p.bias = data(bias);
  p.rows = x.size(0);
  p.columns = weight.size(0);
  p.depth = x.size(1);
  p.precision = precision_of(x.scalar_type(), p.rows, p.columns, p.depth);
  const Choice choice = choose(p, has_dense_rows(x) && has_dense_rows(weight), !is_identity(act));
  if (choice.kernel == Kernel::kLibrary) return {};
  const at::Tensor y = at::empty({p.rows, p.columns}, x.options());
  p.c = mutable_data(y);
  p.multiprocessors = current_device().multiprocessors;
  run(p, choice, y);
  return y;
}

// dz of the layer below by a product of ours; undefined where the library's is the choice. act: an inlined one.
LayerGradient backward_in_one(Activation act, const at::Tensor& dz, const at::Tensor& weight, const at::Tensor& kept,
                              bool bias_wanted) {
  if (dz.scalar_type() == at::kDouble) return {};
  ProductArguments p{};
  p.direction = Direction::kBackward;
  p.activation = act;
  p.a = data(dz);
  p.b = data(weight);
  p.a_stride = row_stride(dz);
  p.b_stride = row_stride(weight);
  p.rows = dz.size(0);
  p.columns = weight.size(1);
  p.depth = dz.size(1);
  p.below = data(kept);
  p.below_stride = kept.defined() ? row_stride(kept) : p.columns;
  p.precision = precision_of(dz.scalar_type(), p.rows, p.columns, p.depth);
  const bool readable = has_dense_rows(dz) && has_dense_rows(weight) && (!kept.defined() || has_dense_rows(kept));
  const Choice choice = choose(p, readable, !is_identity(act) || bias_wanted);
  if (choice.kernel == Kernel::kLibrary) return {};
  const LayerGradient gradient{at::empty({p.rows, p.columns}, dz.options()),
                               bias_wanted ? at::empty({p.columns}, dz.options()) : at::Tensor()};
  p.c = mutable_data(gradient.dz);
  p.bias_gradient = mutable_data(gradient.bias);
  p.multiprocessors = current_device().multiprocessors;
  run(p, choice, gradient.dz);
  return gradient;
}

}  // namespace

Precision float32_precision(int64_t rows, int64_t columns, int64_t depth) {
  // Smaller products cuBLAS leaves in float32, seen on an H100 (CUDA 12.8;
  // https://github.com/pytorch/pytorch/pull/183355) and assumed elsewhere; where stock is exact, so are we.
  constexpr int64_t kTf32Rows = 16, kTf32Size = 512;
  if (rows < kTf32Rows || std::min(columns, depth) < kTf32Size) return Precision::kFloat32;
  const auto wanted = at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL);
  return wanted == at::Float32Precision::TF32 ? Precision::kTf32 : Precision::kFloat32;
}

LayerOutput forward_layer(Activation act, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          bool keeps) {
  const at::Tensor dense_bias = bias.defined() ? bias.contiguous() : bias;
  // Whether a product of ours may have act inside. Otherwise it leaves z, with the bias in it.
  const bool inside = is_inlined(act) && !keeps;
  at::Tensor z = forward_in_one(inside ? act : kIdentity, x, weight, dense_bias), late_bias;
  if (inside && z.defined()) return {z, {}};
  const bool follows = keeps || !is_identity(act);  // a pointwise kernel, which can add the bias
  if (!z.defined()) {
    // A product in 16 bits has to take the bias along: rounded before it, it would lose what the bias cancels.
    const bool takes_bias = !follows || keeps || at::isReducedFloatingType(x.scalar_type());
    z = takes_bias && dense_bias.defined() ? at::addmm(dense_bias, x, weight.t()) : at::mm(x, weight.t());
    if (!takes_bias) late_bias = dense_bias;
  }
  if (!follows) return {z, {}};
  const at::Tensor y = keeps ? at::empty_like(z) : z;
  run_activate(act, z, late_bias, y);
  return {y, keeps ? z : at::Tensor()};
}

LayerGradient gradient_layer(Activation act, const at::Tensor& upper, const at::Tensor& kept, bool dz_wanted,
                             bool bias_wanted) {
  const bool changes = !is_identity(act);  // otherwise dz is dy
  const at::Tensor dy = as_readable_matrix(upper), read = kept.defined() ? as_readable_matrix(kept) : kept;
  const int64_t rows = dy.size(0), columns = dy.size(1);
  LayerGradient gradient{changes && dz_wanted ? at::empty({rows, columns}, dy.options()) : at::Tensor(),
                         bias_wanted ? at::empty({columns}, dy.options()) : at::Tensor()};
  if (gradient.dz.defined() || bias_wanted) {
    const GradientArguments arguments{dtype_of(dy),
                                      act,
                                      matrix(dy),
                                      matrix(read),
                                      mutable_data(gradient.dz),
                                      mutable_data(gradient.bias),
                                      rows,
                                      columns,
                                      current_device().multiprocessors};
    const int64_t scratch = gradient_workspace(arguments);
    const at::Tensor workspace =
        scratch ? at::empty({scratch}, dy.options().dtype(at::toOpMathType(dy.scalar_type()))) : at::Tensor();
    check_launch(cuda::gradient(arguments, mutable_data(workspace), c10::cuda::getCurrentCUDAStream()), "gradient", dy);
  }
  if (!changes && dz_wanted) gradient.dz = dy;
  return gradient;
}

LayerGradient backward_layer(Activation act, const at::Tensor& dz, const at::Tensor& weight, const at::Tensor& kept,
                             bool bias_wanted) {
  // Whether a product of ours may have act's gradient inside. Otherwise it leaves dy of the layer below.
  const bool inside = is_inlined(act);
  const LayerGradient product =
      inside ? backward_in_one(act, dz, weight, kept, bias_wanted) : backward_in_one(kIdentity, dz, weight, {}, false);
  if (inside && product.dz.defined()) return product;
  return gradient_layer(act, product.dz.defined() ? product.dz : at::mm(dz, weight), kept, true, bias_wanted);
}

}  // namespace fused_gan::cuda
