// torch's own operators on the stand-in device: each computes on the CPU, in the device's memory, which is the host's.
// Our operators are left alone: they run as they would on a GPU. Factories and views are torch's own, too: they launch
// nothing.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "runtime.h"

namespace stand_in {
namespace {

using Stack = torch::jit::Stack;

// The same memory, as the CPU sees it.
at::Tensor on_cpu(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  if (!tensor.is_cuda()) {  // a number, which a kernel takes by value
    const at::Tensor number = tensor.clone();
    if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) number.unsafeGetTensorImpl()->set_wrapped_number(true);
    return number;
  }
  const at::TensorOptions options = tensor.options().device(at::kCPU);
  // Without elements it may be there to be resized, which memory of somebody else cannot be.
  if (tensor.numel() == 0) return at::empty(tensor.sizes(), options);
  at::Tensor alias = at::from_blob(tensor.mutable_data_ptr(), tensor.sizes(), tensor.strides(), options);
  if (tensor.is_conj()) alias._set_conj(true);
  if (tensor.is_neg()) alias._set_neg(true);
  return alias;
}

// Random numbers: a CPU generator seeded by where the device's stands, which then goes on as it would after a kernel.
at::Generator on_cpu(const at::Generator& generator) {
  auto* device = at::check_generator<at::CUDAGeneratorImpl>(generator);
  const std::lock_guard lock(device->mutex_);
  const uint64_t offset = device->get_offset();
  device->set_offset(offset + 4);
  return at::detail::createCPUGenerator(device->current_seed() * 0x9E3779B97F4A7C15u + offset);
}

// An argument as the CPU's kernel takes it. `zeros`: in its place, so that nothing is read or written, and no index is
// out of range.
c10::IValue on_cpu(const c10::IValue& value, bool zeros) {
  const auto tensor = [&](const at::Tensor& it) {
    return zeros && it.defined() && it.is_cuda() ? at::zeros_like(on_cpu(it)) : on_cpu(it);
  };
  if (value.isTensor()) return tensor(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& it : value.toTensorList()) list.push_back(tensor(it));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& it : value.toOptionalTensorList())
      list.push_back(it ? std::optional(tensor(*it)) : it);
    return list;
  }
  if (value.isDevice()) return c10::Device(at::kCPU);
  if (value.isGenerator() && value.toGenerator().device().is_cuda()) return on_cpu(value.toGenerator());
  return value;
}

// Products, and which of their arguments is the first of the two factors.
const std::map<std::string, size_t> kProducts = {
    {"aten::mm", 0}, {"aten::bmm", 0}, {"aten::addmm", 1}, {"aten::baddbmm", 1}};

// float32 factors where PyTorch's settings allow tf32 and cuBLAS makes use of it (docs/design/cuda.md): without their
// 13 lowest bits. PyTorch's documentation says that stock rounds them, as the copy engine does for our wgmma kernels;
// the CPU runtime's copy engine cuts them off, and stock is to be no better here than ours.
void cut_to_tf32(const c10::OperatorHandle& op, Stack& arguments) {
  const auto product = kProducts.find(op.schema().name());
  if (product == kProducts.end()) return;
  const at::Tensor a = arguments[product->second].toTensor(), b = arguments[product->second + 1].toTensor();
  if (a.scalar_type() != at::kFloat || a.size(-2) < 16 || std::min(a.size(-1), b.size(-1)) < 512 ||
      at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) !=
          at::Float32Precision::TF32)
    return;
  for (const size_t factor : {product->second, product->second + 1}) {
    const at::Tensor cut = arguments[factor].toTensor().clone();
    cut.view(at::kInt).bitwise_and_(~0x1fff);
    arguments[factor] = cut;
  }
}

void call_cpu(const c10::OperatorHandle& op, Stack& stack) {
  cut_to_tf32(op, stack);
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack);
}

// Every pair of a tensor of the device and the CPU's one for it.
template <class F> void each_pair(const c10::IValue& device, const c10::IValue& cpu, F&& f) {
  if (device.isTensor() && device.toTensor().defined()) f(device.toTensor(), cpu.toTensor());
  if (device.isTensorList())
    for (size_t i = 0; i < device.toTensorList().size(); ++i)
      f(at::Tensor(device.toTensorList()[i]), at::Tensor(cpu.toTensorList()[i]));
}

// What the CPU returned, as tensors of the device: an argument that was written to, or new ones.
struct Results {
  Stack arguments, cpu;
  bool filled;

  at::Tensor operator()(const at::Tensor& result) const {
    if (!result.defined()) return result;
    at::Tensor known;
    for (size_t i = 0; i < cpu.size(); ++i)
      each_pair(arguments[i], cpu[i], [&](const at::Tensor& device, const at::Tensor& alias) {
        if (alias.is_same(result)) known = device;
      });
    if (known.defined()) return known;
    at::Tensor made = at::empty_strided(result.sizes(), result.strides(), result.options().device(at::kCUDA));
    if (filled) on_cpu(made).copy_(result);
    return made;
  }

  c10::IValue operator()(const c10::IValue& value) const {
    if (value.isTensor()) return (*this)(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<at::Tensor> list;
    for (const at::Tensor& it : value.toTensorList()) list.push_back((*this)(it));
    return list;
  }
};

// out= tensors that the CPU has resized follow.
void follow(const Stack& arguments, const Stack& cpu, bool filled) {
  for (size_t i = 0; i < cpu.size(); ++i)
    each_pair(arguments[i], cpu[i], [&](const at::Tensor& device, const at::Tensor& alias) {
      if (!device.is_cuda() || device.sizes() == alias.sizes()) return;
      device.resize_(alias.sizes());
      if (filled) on_cpu(device).copy_(alias);
    });
}

void on_the_cpu(const c10::OperatorHandle& op, Stack* stack) {
  const size_t count = op.schema().arguments().size();
  Stack arguments(stack->end() - count, stack->end());
  stack->resize(stack->size() - count);
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  const bool captured = capturing(stream);
  TORCH_CHECK(!captured || !(op.hasTag(at::Tag::dynamic_output_shape) || op.hasTag(at::Tag::data_dependent_output)),
              op.schema().name(), ": it waits for the device, which a capture forbids");
  for (size_t i = 0; i < count; ++i) {
    if (op.schema().arguments()[i].type()->str() != "Generator?") continue;
    TORCH_CHECK(!captured, op.schema().name(), ": random numbers in a capture are not implemented");
    if (arguments[i].isNone()) arguments[i] = at::cuda::detail::getDefaultCUDAGenerator();
  }
  Stack cpu;
  for (const c10::IValue& argument : arguments) cpu.push_back(on_cpu(argument, captured));
  Stack results = cpu;
  call_cpu(op, results);
  follow(arguments, cpu, !captured);
  const Results to_device{arguments, cpu, !captured};
  Stack returned;
  for (const c10::IValue& result : results) returned.push_back(to_device(result));
  stack->insert(stack->end(), returned.begin(), returned.end());
  if (!captured) return;

  // Nothing was written. At every launch of the graph, in the same memory, which a graph does not keep alive:
  Stack aliases, targets;
  for (const c10::IValue& argument : arguments) aliases.push_back(on_cpu(argument, false));
  for (const c10::IValue& result : returned) targets.push_back(on_cpu(result, false));
  record(stream, [op, aliases, targets] {
    Stack work = aliases;
    call_cpu(op, work);
    for (size_t i = 0; i < work.size(); ++i)
      each_pair(targets[i], work[i], [](const at::Tensor& target, const at::Tensor& result) {
        if (target.data_ptr() != result.data_ptr()) target.copy_(result);
      });
  });
}

// Between the host and the device, and from dtype or layout to another.
at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  const bool crosses = self.device() != source.device();
  if (crosses && !non_blocking) c10::cuda::warn_or_error_on_sync();
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  const bool captured = capturing(stream);
  TORCH_CHECK(!(crosses && captured && !non_blocking), "a blocking copy in a capture");
  at::Tensor to = self.is_cuda() ? on_cpu(self) : self;
  const at::Tensor from = source.is_cuda() ? on_cpu(source) : source;
  if (captured) record(stream, [to, from]() mutable { to.copy_(from); });
  else to.copy_(from);
  return self;
}

// What torch leads to cuDNN on a GPU, in torch's own operators.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> cudnn_batch_norm(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& mean, const std::optional<at::Tensor>& variance, bool training, double momentum,
    double epsilon) {
  auto [output, saved_mean, saved_deviation] =
      at::native_batch_norm(input, weight, bias, mean, variance, training, momentum, epsilon);
  return {output, saved_mean, saved_deviation, at::empty({0}, input.options().dtype(at::kByte))};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> cudnn_batch_norm_backward(
    const at::Tensor& input, const at::Tensor& grad, const at::Tensor& weight, const std::optional<at::Tensor>& mean,
    const std::optional<at::Tensor>& variance, const std::optional<at::Tensor>& saved_mean,
    const std::optional<at::Tensor>& saved_deviation, double epsilon, const at::Tensor&) {
  return at::native_batch_norm_backward(grad, input, weight, mean, variance, saved_mean, saved_deviation,
                                        /*train=*/true, epsilon, {true, true, true});
}

// Operators of torch's that launch nothing, or wait for the device themselves.
const std::set<std::string> kTorchs = {"aten::as_strided",
                                       "aten::empty.memory_format",
                                       "aten::empty_strided",
                                       "aten::is_set_to",
                                       "aten::record_stream",
                                       "aten::_reshape_alias",
                                       "aten::resize_",
                                       "aten::set_",
                                       "aten::set_.source_Storage",
                                       "aten::set_.source_Storage_storage_offset",
                                       "aten::set_.source_Tensor",
                                       "aten::unfold",
                                       "aten::view",
                                       "aten::view_as_complex",
                                       "aten::view_as_real",
                                       "aten::_local_scalar_dense"};

bool take_over() {
  auto& dispatcher = c10::Dispatcher::singleton();
  static torch::Library library(torch::Library::IMPL, "aten", c10::DispatchKey::CUDA, __FILE__, __LINE__);
  const auto take = [](const std::string& name) {
    library.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
  };
  for (const c10::OperatorName& name : dispatcher.getRegistrationsForDispatchKey(c10::DispatchKey::CUDA))
    if (name.name.starts_with("aten::") && !kTorchs.count(c10::toString(name))) take(c10::toString(name));
  take("aten::convolution");  // the CPU has it whole; torch would lead it to cuDNN
  library.impl("cudnn_batch_norm", cudnn_batch_norm);
  library.impl("cudnn_batch_norm_backward", cudnn_batch_norm_backward);
  library.impl("copy_", copy_);
  return true;
}

[[maybe_unused]] const bool kTaken = take_over();

}  // namespace
}  // namespace stand_in
