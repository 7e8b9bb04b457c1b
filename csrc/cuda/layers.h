// One layer of a chain on CUDA: memory, the plan, the launches. linear_act.cpp and chain.cpp are made of these.
#pragma once

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>

#include "pointwise.h"

namespace fused_gan::cuda {

// While it lives: the tensors' device is the current one, and the products inside are plain ones, neither recorded by
// autograd nor cast by an autocast region that is still open when backward runs.
struct Scope {
  explicit Scope(const at::Tensor& tensor) : device(tensor.device()) {}
  const c10::cuda::CUDAGuard device;
  const at::AutoDispatchBelowADInplaceOrView no_autograd;
  const c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::autocast_dispatch_keyset};
};

// (rows, out), contiguous
struct LayerOutput {
  at::Tensor y;
  at::Tensor z;  // undefined where not asked for
};

// x (rows, in), weight (out, in), bias (out) or undefined -> z = x weightᵀ + bias, if it is to be kept, and y = act(z)
LayerOutput forward_layer(Activation act, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          bool keeps);

struct LayerGradient {
  at::Tensor dz;    // (rows, features), contiguous
  at::Tensor bias;  // (features); undefined where not asked for
};

// `kept` is what the activation's gradient reads, the layer's y or z; undefined for identity, which reads neither.

// The end of a chain. dy, kept (rows, out) -> dz = dy ⊙ act', left undefined unless asked for; of identity dz is dy.
LayerGradient gradient_layer(Activation act, const at::Tensor& dy, const at::Tensor& kept, bool dz_wanted,
                             bool bias_wanted);

// From one layer to the one below. dz (rows, out), weight (out, in); act and kept (rows, in) of the layer below -> dz
// of the layer below (rows, in).
LayerGradient backward_layer(Activation act, const at::Tensor& dz, const at::Tensor& weight, const at::Tensor& kept,
                             bool bias_wanted);

}  // namespace fused_gan::cuda
