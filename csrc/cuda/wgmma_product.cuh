// A product on Hopper's tensor cores (wgmma, operands by the copy engine), out of CUTLASS 3.x: its main loop and its
// scheduler, and an epilogue that holds our activations. One file per precision and direction instantiates it
// (wgmma_*.cu). Only sm_90a has these instructions: for other architectures there is nothing here to compile.
//
// -DNDEBUG matters: asserts are calls, and ptxas serialises wgmma around calls (warning C7510).
#pragma once

#include <cutlass/cutlass.h>
#include <cutlass/gemm/device/gemm_universal_adapter.h>

#include <atomic>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/epilogue/fusion/sm90_callbacks_tma_warpspecialized.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/util/packed_stride.hpp>

#include "../activations.h"
#include "product.h"

namespace fused_gan::cuda::wgmma {

namespace fusion = cutlass::epilogue::fusion;

// ProductActivation, on the device.
struct Act {
  int index;
  float parameter;
};

// From the list of inlined activations to what CUTLASS's visitor trees call: for scalars and for arrays of them.
template <class T> struct ActivationForward {
  using Arguments = Act;
  CUTLASS_HOST_DEVICE T operator()(T z, const Arguments& a) const {
    return InlinedActivations::forward(a.index, z, {a.parameter, 0});
  }
};
template <class T, int kCount> struct ActivationForward<cutlass::Array<T, kCount>> {
  using Arguments = Act;
  using Array = cutlass::Array<T, kCount>;
  CUTLASS_HOST_DEVICE Array operator()(Array z, const Arguments& a) const {
    InlinedActivations::visit(a.index, [&](auto act) {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kCount; ++i) z[i] = act.forward(z[i], {a.parameter, 0});
    });
    return z;
  }
};
template <class T> struct ActivationGradient {
  using Arguments = Act;
  CUTLASS_HOST_DEVICE T operator()(T dy, T x, const Arguments& a) const {
    return InlinedActivations::gradient(a.index, dy, x, {a.parameter, 0});
  }
};
template <class T, int kCount> struct ActivationGradient<cutlass::Array<T, kCount>> {
  using Arguments = Act;
  using Array = cutlass::Array<T, kCount>;
  CUTLASS_HOST_DEVICE Array operator()(Array dy, const Array& x, const Arguments& a) const {
    InlinedActivations::visit(a.index, [&](auto act) {
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < kCount; ++i) dy[i] = act.gradient(dy[i], x[i], {a.parameter, 0});
    });
    return dy;
  }
};

// The copy engine rounds floats to the nearest tf32 on their way to shared memory. Told that they are tf32 already, it
// would leave their bits as they are, and wgmma would cut them off.
template <Precision> struct Elements;
template <> struct Elements<Precision::kBFloat16> {
  using Type = cutlass::bfloat16_t;
};
template <> struct Elements<Precision::kFloat16> {
  using Type = cutlass::half_t;
};
template <> struct Elements<Precision::kTf32> {
  using Type = float;
};

// kLayoutB: forward reads W (columns, depth) as a column-major B, backward W (depth, columns) as a row-major one.
template <Precision kPrecision, Direction kDirection, int kColumns, class MainSchedule, class EpilogueSchedule>
struct Gemm {
  using Element = typename Elements<kPrecision>::Type;
  static constexpr bool kForward = kDirection == Direction::kForward;
  static constexpr int kAlign = 16 / sizeof(Element);
  static constexpr auto kRound = cutlass::FloatRoundStyle::round_to_nearest;
  using RowMajor = cutlass::layout::RowMajor;
  using LayoutB = std::conditional_t<kForward, cutlass::layout::ColumnMajor, RowMajor>;
  using Tile = cute::Shape<cute::_128, cute::Int<kColumns>, cute::Int<128 / sizeof(Element)>>;
  using Cluster = cute::Shape<cute::_1, cute::_1, cute::_1>;
  using EpilogueTile = cutlass::epilogue::collective::EpilogueTileAuto;

  // act(sum + bias)
  using ForwardTree =
      fusion::Sm90EVT<fusion::Sm90Compute<ActivationForward, Element, float, kRound>,
                      fusion::Sm90EVT<fusion::Sm90Compute<cutlass::plus, float, float, kRound>, fusion::Sm90AccFetch,
                                      fusion::Sm90RowBroadcast<0, Tile, Element, float>>>;
  // column sums of sum ⊙ act'(below); each tile leaves its own, to be added by a second kernel in a fixed order
  using Descriptor =
      cutlass::epilogue::collective::detail::EpilogueDescriptor<Tile, EpilogueTile, float, Element, EpilogueSchedule>;
  using Aux = cutlass::epilogue::collective::detail::AuxLoadDescriptor<Descriptor, RowMajor, Element>;
  using BackwardTree = fusion::Sm90EVT<
      fusion::Sm90RowReduction<cutlass::plus, cutlass::plus, cutlass::plus, 0, Tile, float, float, kRound,
                               cute::Stride<cute::_0, cute::_1, cute::_0>, 4, /*EnableNullptr=*/true,
                               /*FinalReduction=*/false>,
      fusion::Sm90EVT<fusion::Sm90Compute<ActivationGradient, float, float, kRound>, fusion::Sm90AccFetch,
                      fusion::Sm90AuxLoad<Aux::Stages, typename Descriptor::EpilogueTile, Element, typename Aux::Stride,
                                          typename Aux::SmemLayoutAtom, typename Aux::CopyOpS2R>>>;
  using Tree = std::conditional_t<kForward, ForwardTree, BackwardTree>;

  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster, EpilogueTile, float, float, void, RowMajor,
      kAlign, Element, RowMajor, kAlign, EpilogueSchedule, Tree>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Element, RowMajor, kAlign, Element, LayoutB, kAlign, float,
      Tile, Cluster, cutlass::gemm::collective::StageCountAutoCarveout<int(sizeof(typename Epilogue::SharedStorage))>,
      MainSchedule>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, Mainloop, Epilogue>;

  static typename Tree::Arguments tree_arguments(const ProductArguments& p, const Partials& partials) {
    const Act act{p.activation.index, float(p.activation.parameter)};
    if constexpr (kForward) {
      return {{{}, {static_cast<const Element*>(p.bias)}, {}}, act};
    } else {
      return {{{}, {static_cast<const Element*>(p.below ? p.below : p.c), Element(0), {p.below_stride, {}, {}}}, act},
              {partials.sums}};
    }
  }

  static cudaError_t launch(const ProductArguments& p, const Partials& partials, cudaStream_t stream) {
    const auto stride_b = [&] {
      if constexpr (kForward) return typename Kernel::StrideB{p.b_stride, {}, {}};
      else return typename Kernel::StrideB{cute::_1{}, p.b_stride, {}};
    }();
    int device = 0;
    if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
    const typename Kernel::Arguments arguments{
        cutlass::gemm::GemmUniversalMode::kGemm,
        {int(p.rows), int(p.columns), int(p.depth), 1},
        {static_cast<const Element*>(p.a), {p.a_stride, {}, {}}, static_cast<const Element*>(p.b), stride_b},
        {tree_arguments(p, partials), nullptr, {}, static_cast<Element*>(p.c), {p.columns, {}, {}}},
        {device, p.multiprocessors}};
    if (!Kernel::can_implement(arguments)) return cudaErrorInvalidValue;
    auto params = Kernel::to_underlying_arguments(arguments, /*workspace=*/nullptr);
    // Then nothing is copied. Drivers before 12.6 refuse to describe a null pointer to the copy engine, so the address
    // above is another one, which is never used.
    if constexpr (!kForward) params.epilogue.thread.op_0.op_1.use_default = !p.below;

    constexpr int kSharedBytes = Kernel::SharedStorageSize;
    static std::atomic<uint64_t> allowed = 0;  // requested once per device, one bit for each
    const uint64_t bit = uint64_t(1) << device % 64;
    if (!(allowed.load() & bit)) {
      const cudaError_t error = cudaFuncSetAttribute(cutlass::device_kernel<Kernel>,
                                                     cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
      if (error != cudaSuccess) return error;
      allowed.fetch_or(bit);
    }
    cutlass::device_kernel<Kernel>
        <<<Kernel::get_grid_shape(params), Kernel::get_block_shape(), kSharedBytes, stream>>>(params);
    return cudaGetLastError();
  }
};

// Large tiles: two warp groups share one. Smaller ones: each warp group has its own, and one's epilogue hides behind
// the other's product.
template <Precision kPrecision, Direction kDirection>
using Large = Gemm<kPrecision, kDirection, 256, cutlass::gemm::KernelTmaWarpSpecializedCooperative,
                   cutlass::epilogue::TmaWarpSpecializedCooperative>;
template <Precision kPrecision, Direction kDirection>
using Medium = Gemm<kPrecision, kDirection, 128, cutlass::gemm::KernelTmaWarpSpecializedPingpong,
                    cutlass::epilogue::TmaWarpSpecialized>;

template <Precision kPrecision, Direction kDirection>
cudaError_t product(const ProductArguments& p, Choice choice, const Partials& partials, cudaStream_t stream) {
  switch (choice.kernel) {
    case Kernel::kWgmma128x256:
      return Large<kPrecision, kDirection>::launch(p, partials, stream);
    case Kernel::kWgmma128x128:
      return Medium<kPrecision, kDirection>::launch(p, partials, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace fused_gan::cuda::wgmma
