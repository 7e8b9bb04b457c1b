// The table behind the estimates: TFLOP/s that a kernel reaches when its tiles fill the device, memory bandwidth, and
// what a kernel costs to launch. ASSUMED, not measured: shares of the data sheets' peaks that kernels of their kind
// usually reach. docs/design/cuda.md says what replaces them.
#pragma once

#include <array>

#include "plan.h"

namespace fused_gan::cuda::plan {

struct Rates {
  int least_capability, multiprocessors;  // of the device that the rates are for
  double bandwidth;                       // TB/s
  double launch;                          // µs, back to back in a stream or a graph
  // TFLOP/s of a full device by precision, and by kernel in the order of the enum:
  // library, wgmma 128 × 256, wgmma 128 × 128, mma 128 × 128, mma 64 × 64, mma 32 × 32, mma any
  std::array<std::array<double, kKernels.size()>, kPrecisions> rates;
};

// The row with the largest capability that is not above the device's holds.
constexpr std::array kRates = {
    Rates{80,
          108,
          1.5,
          2,
          {{{250, 0, 0, 220, 140, 70, 20},  // A100
            {250, 0, 0, 220, 140, 70, 20},
            {125, 0, 0, 110, 70, 35, 15},
            {17.5, 0, 0, 34, 24, 12, 6}}}},
    Rates{86,
          82,
          0.9,
          2,
          {{{65, 0, 0, 60, 45, 25, 10},  // GeForce RTX 3090: float32 is as fast as tf32
            {65, 0, 0, 60, 45, 25, 10},
            {32, 0, 0, 30, 22, 12, 6},
            {25, 0, 0, 10, 8, 4, 2}}}},
    Rates{89,
          128,
          1.0,
          2,
          {{{150, 0, 0, 135, 100, 50, 18},  // GeForce RTX 4090
            {150, 0, 0, 135, 100, 50, 18},
            {75, 0, 0, 68, 50, 26, 12},
            {60, 0, 0, 22, 17, 9, 4}}}},
    Rates{90,
          132,
          3.0,
          2,
          {{{700, 640, 560, 380, 240, 110, 30},  // H100
            {700, 640, 560, 380, 240, 110, 30},
            {360, 330, 290, 190, 120, 55, 22},
            {48, 0, 0, 62, 42, 20, 9}}}},
    Rates{100,
          148,
          7.0,
          2,
          {{{1500, 0, 0, 380, 240, 110, 30},  // B200, where mma is no more than a way to run at all
            {1500, 0, 0, 380, 240, 110, 30},
            {750, 0, 0, 190, 120, 55, 22},
            {65, 0, 0, 62, 42, 20, 9}}}},
};

}  // namespace fused_gan::cuda::plan
