// A layer's forward on CPU, on the kernel that was chosen for its dtype and shape.
#pragma once

#include "products.h"

namespace fused_gan::cpu {

// y (samples, outputs), dense, = act(z), z = x · wᵀ + bias by torch's product, and one pass; bias contiguous or
// undefined.
template <class T>
void library_forward(Activation activation, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias,
                     const at::Tensor& y, const at::Tensor& z) {
  const NoAutocast guard(c10::autocast_dispatch_keyset);
  at::Tensor out = z.defined() ? z : y;
  if (bias.defined()) at::addmm_out(out, bias, x, w.t());
  else at::mm_out(out, x, w.t());
  if (is_identity(activation) && !z.defined()) return;
  const T* from = data<T>(out);
  T* to = mutable_data<T>(y);
  over_range(y.numel(), kLine / sizeof(T), y.numel() * plan::kMoveCost, [&](int64_t begin, int64_t end) {
    storage<T>().activate(activation, from + begin, to + begin, end - begin);
  });
}

// A batch as one layer of a chain leaves it for the next, beside the plain one: in tiles, in panels, or not at all.
struct PackedBatch {
  TiledBatch tiles;
  at::Tensor panels;
};

// y (samples, outputs), dense, = act(z), z = x (samples, in) · wᵀ + bias; x with dense rows, bias contiguous or
// undefined. z is kept where it is defined, dense like y.
template <class S>
void forward(Kernel kernel, Activation activation, const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias,
             const at::Tensor& y, const at::Tensor& z = {}, const PackedBatch& batch = {},
             const PackedBatch& next = {}) {
  if constexpr (kHasTiles<S>)
    if (kernel == Kernel::kTiles &&
        tiled_forward<S>(tile_kernels<S>(), activation, x, w, bias, y, z, batch.tiles, next.tiles))
      return;
  if constexpr (kIsBlocked<S>) {
    if (kernel == Kernel::kLibrary) library_forward<S>(activation, x, w, bias, y, z);
    else forward_layer<S>(activation, x, w, bias, y, z, batch.panels, next.panels);
  } else {
    const int64_t work = x.numel() * w.size(0);
    if (!plan::worth_pairing(work)) forward_dot<S>(activation, x, w, bias, y, z);
    else if (const PairedKernels* paired = paired_kernels_for(x.scalar_type(), work))
      paired_forward(*paired, activation, x, w, bias, y, z);
    else widened_forward<S>(activation, x, w, bias, y, z);
  }
}

}  // namespace fused_gan::cpu
