// Device memory and input data for the test program.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "reference.h"

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class T> void copy_to_device(T* to, const T* from, int64_t count) {
  if (count) check(cudaMemcpy(to, from, count * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy to device");
}

// Rows so far apart that the last of them begins behind 2³¹ elements, and where each of several matrices begins: they
// lie side by side in one piece of memory.
namespace far_apart {
constexpr int64_t kRows = 136, kStride = ((int64_t(1) << 31) / (kRows - 1) / 64 + 1) * 64, kPlace = 4096;
constexpr int64_t kElements = (kRows - 1) * kStride + 3 * kPlace;  // of three matrices with at most kPlace - 1 columns
static_assert((kRows - 1) * kStride >= int64_t(1) << 31);
}  // namespace far_apart

// `count` elements in an allocation of exactly their size, `offset` elements behind an aligned address, so that every
// access outside of them is one outside of the allocation. Null for no elements.
template <class T> class DeviceArray {
 public:
  explicit DeviceArray(int64_t count, int64_t offset = 0) : count_(count), offset_(offset) {
    if (count) check(cudaMalloc(reinterpret_cast<void**>(&memory_), size_t(offset + count) * sizeof(T)), "cudaMalloc");
  }
  explicit DeviceArray(const std::vector<T>& values, int64_t offset = 0) : DeviceArray(values.size(), offset) {
    copy_to_device(data(), values.data(), count_);
  }
  DeviceArray(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(memory_); }

  T* data() const { return memory_ ? memory_ + offset_ : nullptr; }
  std::vector<T> values() const {
    std::vector<T> values(count_);
    if (count_)
      check(cudaMemcpy(values.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy to host");
    return values;
  }

 private:
  T* memory_ = nullptr;
  int64_t count_, offset_;
};

// Reproducible input: values of both signs around 1, in one of `kSpecialEvery` places (0: nowhere) NaN, infinities,
// zeros of both signs and the ends of the type's range.
class Generator {
 public:
  explicit Generator(uint64_t seed) : state_(seed * 2654435761u + 1) {}

  uint64_t bits() {  // splitmix64
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  template <class T> T value(int special_every = 0) {
    using reference::Real;
    constexpr Real kInf = std::numeric_limits<Real>::infinity(), kNaN = std::numeric_limits<Real>::quiet_NaN();
    const Real specials[] = {kNaN,
                             kInf,
                             -kInf,
                             0.L,
                             -0.L,
                             reference::Type<T>::kLargest,
                             -reference::Type<T>::kLargest,
                             reference::Type<T>::kTiny};
    if (special_every && bits() % special_every == 0) return reference::Type<T>::round(specials[bits() % 8]);
    Real sum = 0.1L;  // of uniform variables: nearly normal, not quite centred
    for (int i = 0; i < 4; ++i) sum += Real(bits() >> 11) * 0x1p-53L - 0.5L;
    return reference::Type<T>::round(2 * sum);
  }
  // One in four of them far out, where activations saturate.
  template <class T> T wide_value() {
    const T near = value<T>();
    return bits() % 4 ? near : reference::Type<T>::round(8 * reference::Type<T>::widen(near));
  }
  template <class T> std::vector<T> values(int64_t count, int special_every = 0) {
    std::vector<T> result(count);
    for (T& value : result) value = this->value<T>(special_every);
    return result;
  }

 private:
  uint64_t state_;
};
