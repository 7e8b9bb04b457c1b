// A second branch of a CUDA graph, for work that is not on the way to the next product.
#pragma once

#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>

#include <optional>
#include <unordered_map>
#include <vector>

namespace fused_gan::cuda {

// Where the current stream is being captured, `run` puts work beside what the stream is given next; elsewhere, as a
// second stream costs the host more than the device gains, into the stream itself.
class Branch {
 public:
  explicit Branch(bool wanted) {
    if (!wanted || c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::Active) return;
    side_ = beside(main_);
  }

  // What `work` enqueues may read all that the stream has written so far. The tensors that it reads are kept until the
  // join, and what it writes must be there already: memory changes hands in the order of one stream.
  template <class Work> void run(std::vector<at::Tensor> read, Work work) {
    if (!side_) return work();
    forked_.record(main_);
    forked_.block(*side_);
    const c10::cuda::CUDAStreamGuard guard(*side_);
    work();
    kept_.insert(kept_.end(), read.begin(), read.end());
  }

  // Whether something that was read may still be read.
  bool reads() const { return !kept_.empty(); }

  // What the stream is given next follows the branch. A capture must not end before.
  void join() {
    if (!reads()) return;
    joined_.record(*side_);
    joined_.block(main_);
    kept_.clear();
  }

 private:
  // The same for a stream at each call, as cuBLAS has a workspace for every stream that it has seen; another for
  // another stream: their graphs may run at once, and then their branches do.
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
