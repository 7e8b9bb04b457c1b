// A second branch of a CUDA graph, for work that the next product does not wait for.
#pragma once

#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>

#include <optional>
#include <unordered_map>
#include <vector>

namespace fused_gan::cuda {

// During capture, `run` puts work on a side stream, where it may overlap with what follows. Otherwise it uses the main
// stream: a second one costs the host more than the device gains.
class Branch {
 public:
  explicit Branch(bool wanted) {
    if (!wanted || c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::Active) return;
    side_ = beside(main_);
  }

  // Enqueues `work`, which may read everything that the main stream has written so far. The tensors in `read` are kept
  // until the join. The memory that `work` writes must be allocated before: the allocator passes memory on in the order
  // of the main stream.
  template <class Work> void run(std::vector<at::Tensor> read, Work work) {
    if (!side_) return work();
    forked_.record(main_);
    forked_.block(*side_);
    const c10::cuda::CUDAStreamGuard guard(*side_);
    work();
    kept_.insert(kept_.end(), read.begin(), read.end());
  }

  // Whether work of the branch may still be reading its tensors.
  bool reads() const { return !kept_.empty(); }

  // Lets what the main stream is given next wait for the branch. Call it before the capture ends.
  void join() {
    if (!reads()) return;
    joined_.record(*side_);
    joined_.block(main_);
    kept_.clear();
  }

 private:
  // Returns the side stream of a main stream. It is the same at each call, because cuBLAS keeps a workspace for each
  // stream that it has seen. Two main streams have two side streams, because their graphs may run at the same time.
  static c10::cuda::CUDAStream beside(c10::cuda::CUDAStream main) {
    thread_local std::unordered_map<c10::cuda::CUDAStream, c10::cuda::CUDAStream> known;
    if (const auto found = known.find(main); found != known.end()) return found->second;
    c10::cuda::CUDAStream side = main;
    while (side == main) side = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, main.device_index());
    return known.emplace(main, side).first->second;
  }

  const c10::cuda::CUDAStream main_ = c10::cuda::getCurrentCUDAStream();
  std::optional<c10::cuda::CUDAStream> side_;
  at::cuda::CUDAEvent forked_, joined_;
  std::vector<at::Tensor> kept_;
};

}  // namespace fused_gan::cuda
