// A layer's forward on CPU, on whichever kernels its dtype and shape run best.
#pragma once

#include "products.h"

namespace fused_gan::cpu {

// y (samples, outputs), dense, = act(x (samples, in) · wᵀ + bias), without tiles; x with dense rows, bias contiguous or
// undefined.
template <class S>
void forward_without_tiles(Activation activation, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias,
                           const at::Tensor& y) {
  if constexpr (kIsBlocked<S>) {
    forward_layer<S>(activation, x, w, bias, y);
  } else {
    const int64_t work = x.numel() * w.size(0);
    if (!plan::pairs(work)) forward_dot<S>(activation, x, w, bias, y);
    else if (const PairedKernels* paired = paired_kernels_for(x.scalar_type(), work))
      paired_forward(*paired, activation, x, w, bias, y);
    else widened_forward<S>(activation, x, w, bias, y);
  }
}

template <class S>
void forward(Activation activation, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias,
             const at::Tensor& y) {
  if (const auto* kernels = tile_kernels_for<S>(x.size(0), w.size(0), x.size(1)))
    if (tiled_forward<S>(*kernels, activation, x, w, bias, y)) return;
  forward_without_tiles<S>(activation, x, w, bias, y);
}

}  // namespace fused_gan::cpu
