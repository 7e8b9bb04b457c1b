// Memory for what lives within one call: panels of the batch, gradients on their way down a chain. Each thread keeps a
// few buffers between calls. Fresh from malloc they would be returned to the system and faulted in again, page by page,
// at every step: 700 page faults in a VAE decoder's backward at batch 256, a third of its time.
#pragma once

#include <ATen/ATen.h>

#include <array>

namespace fused_gan::cpu {

class Scratch {
 public:
  Scratch() = default;
  Scratch(int64_t elements, at::ScalarType dtype) {
    const int64_t bytes = elements * int64_t(c10::elementSize(dtype));
    at::Tensor* chosen = nullptr;  // the smallest that is large enough
    for (at::Tensor& kept : kept_)
      if (kept.defined() && kept.numel() >= bytes && (!chosen || kept.numel() < chosen->numel())) chosen = &kept;
    if (chosen) buffer_ = std::move(*chosen);
    else buffer_ = at::empty({std::max<int64_t>(bytes, 1)}, at::kByte);
  }
  Scratch(Scratch&& other) = default;
  Scratch& operator=(Scratch&& other) {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  // Back to the thread's buffers, in place of a smaller one if there is no room.
  ~Scratch() {
    if (!buffer_.defined() || buffer_.numel() > kLargest) return;
    at::Tensor* place = &kept_[0];
    for (at::Tensor& kept : kept_)
      if (!kept.defined() || (place->defined() && kept.numel() < place->numel())) place = &kept;
    if (!place->defined() || place->numel() < buffer_.numel()) *place = std::move(buffer_);
  }

  template <class T> T* data() const {
    return buffer_.defined() ? static_cast<T*>(buffer_.mutable_data_ptr()) : nullptr;
  }

 private:
  static constexpr int64_t kLargest = 32 << 20;
  static inline thread_local std::array<at::Tensor, 3> kept_;
  at::Tensor buffer_;
};

}  // namespace fused_gan::cpu
