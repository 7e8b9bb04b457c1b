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

// x (rows, in), weight (out, in), bias (out) or undefined -> act(x weightᵀ + bias) (rows, out), contiguous
at::Tensor forward_layer(Activation act, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

struct LayerGradient {
  at::Tensor dz;    // (rows, features), contiguous
  at::Tensor bias;  // (features); undefined where not asked for
};

// The end of a chain. dy, y (rows, out) -> dz = dy ⊙ act'(y), left undefined unless asked for; identity reads no y, and
// its dz is dy.
LayerGradient gradient_layer(Activation act, const at::Tensor& dy, const at::Tensor& y, bool dz_wanted,
                             bool bias_wanted);

// From one layer to the one below. dz (rows, out), weight (out, in), y of the layer below (rows, in), act the layer
// below's -> dz of the layer below (rows, in).
LayerGradient backward_layer(Activation act, const at::Tensor& dz, const at::Tensor& weight, const at::Tensor& y,
                             bool bias_wanted);

}  // namespace fused_gan::cuda
