// The table behind the estimates: TFLOP/s that a kernel reaches when its tiles fill the device, memory bandwidth, and
// what a kernel costs to launch. ASSUMED, not measured: shares of the data sheets' peaks that kernels of their kind
// usually reach. docs/design/cuda.md says what replaces them.
#pragma once

#include <array>
#include <cstddef>

#include "plan.h"

namespace fused_gan::cuda::plan {

struct Rate {
  Kernel kernel;
  double teraflops;  // TFLOP/s of a full device
};

// The rates of the kernels on one device in one precision, in any order; 0 for a kernel that is not among them. To name
// a kernel twice does not compile.
class KernelRates {
 public:
  template <size_t kCount> consteval KernelRates(const Rate (&rates)[kCount]) {
    for (const Rate& rate : rates) {
      double& place = teraflops_[size_t(rate.kernel)];
      if (place != 0 || !(rate.teraflops > 0)) throw "each kernel: expected one rate, above 0";
      place = rate.teraflops;
    }
  }
  constexpr double of(Kernel kernel) const { return teraflops_[size_t(kernel)]; }

 private:
  std::array<double, kKernels.size()> teraflops_{};
};

struct Rates {
  int least_capability, multiprocessors;  // of the device that the rates are for
  double bandwidth;                       // TB/s
  double launch;                          // µs, back to back in a stream or a graph
  KernelRates sixteen_bits;               // bfloat16 and float16, which tensor cores multiply at one rate
  KernelRates tf32, float32;

  constexpr const KernelRates& in(Precision precision) const {
    if (precision == Precision::kTf32) return tf32;
    return precision == Precision::kFloat32 ? float32 : sixteen_bits;
  }
};

// The row with the largest capability that is not above the device's holds.
constexpr std::array kRates = {
    Rates{.least_capability = 80,  // A100
          .multiprocessors = 108,
          .bandwidth = 1.5,
          .launch = 2,
          .sixteen_bits = {{{Kernel::kLibrary, 250},
                            {Kernel::kMma128x128, 220},
                            {Kernel::kMma64x64, 140},
                            {Kernel::kMma32x32, 70},
                            {Kernel::kMmaAny, 20}}},
          .tf32 = {{{Kernel::kLibrary, 125},
                    {Kernel::kMma128x128, 110},
                    {Kernel::kMma64x64, 70},
                    {Kernel::kMma32x32, 35},
                    {Kernel::kMmaAny, 15}}},
          .float32 = {{{Kernel::kLibrary, 17.5},
                       {Kernel::kMma128x128, 34},
                       {Kernel::kMma64x64, 24},
                       {Kernel::kMma32x32, 12},
                       {Kernel::kMmaAny, 6}}}},
    Rates{.least_capability = 86,  // GeForce RTX 3090: float32 is as fast as tf32
          .multiprocessors = 82,
          .bandwidth = 0.9,
          .launch = 2,
          .sixteen_bits = {{{Kernel::kLibrary, 65},
                            {Kernel::kMma128x128, 60},
                            {Kernel::kMma64x64, 45},
                            {Kernel::kMma32x32, 25},
                            {Kernel::kMmaAny, 10}}},
          .tf32 = {{{Kernel::kLibrary, 32},
                    {Kernel::kMma128x128, 30},
                    {Kernel::kMma64x64, 22},
                    {Kernel::kMma32x32, 12},
                    {Kernel::kMmaAny, 6}}},
          .float32 = {{{Kernel::kLibrary, 25},
                       {Kernel::kMma128x128, 10},
                       {Kernel::kMma64x64, 8},
                       {Kernel::kMma32x32, 4},
                       {Kernel::kMmaAny, 2}}}},
    Rates{.least_capability = 89,  // GeForce RTX 4090
          .multiprocessors = 128,
          .bandwidth = 1.0,
          .launch = 2,
          .sixteen_bits = {{{Kernel::kLibrary, 150},
                            {Kernel::kMma128x128, 135},
                            {Kernel::kMma64x64, 100},
                            {Kernel::kMma32x32, 50},
                            {Kernel::kMmaAny, 18}}},
          .tf32 = {{{Kernel::kLibrary, 75},
                    {Kernel::kMma128x128, 68},
                    {Kernel::kMma64x64, 50},
                    {Kernel::kMma32x32, 26},
                    {Kernel::kMmaAny, 12}}},
          .float32 = {{{Kernel::kLibrary, 60},
                       {Kernel::kMma128x128, 22},
                       {Kernel::kMma64x64, 17},
                       {Kernel::kMma32x32, 9},
                       {Kernel::kMmaAny, 4}}}},
    Rates{.least_capability = 90,  // H100
          .multiprocessors = 132,
          .bandwidth = 3.0,
          .launch = 2,
          .sixteen_bits = {{{Kernel::kLibrary, 700},
                            {Kernel::kWgmma128x256, 640},
                            {Kernel::kWgmma128x128, 560},
                            {Kernel::kMma128x128, 380},
                            {Kernel::kMma64x64, 240},
                            {Kernel::kMma32x32, 110},
                            {Kernel::kMmaAny, 30}}},
          .tf32 = {{{Kernel::kLibrary, 360},
                    {Kernel::kWgmma128x256, 330},
                    {Kernel::kWgmma128x128, 290},
                    {Kernel::kMma128x128, 190},
                    {Kernel::kMma64x64, 120},
                    {Kernel::kMma32x32, 55},
                    {Kernel::kMmaAny, 22}}},
          .float32 = {{{Kernel::kLibrary, 48},
                       {Kernel::kMma128x128, 62},
                       {Kernel::kMma64x64, 42},
                       {Kernel::kMma32x32, 20},
                       {Kernel::kMmaAny, 9}}}},
    Rates{.least_capability = 100,  // B200, where mma is merely a way to run at all
          .multiprocessors = 148,
          .bandwidth = 7.0,
          .launch = 2,
          .sixteen_bits = {{{Kernel::kLibrary, 1500},
                            {Kernel::kMma128x128, 380},
                            {Kernel::kMma64x64, 240},
                            {Kernel::kMma32x32, 110},
                            {Kernel::kMmaAny, 30}}},
          .tf32 = {{{Kernel::kLibrary, 750},
                    {Kernel::kMma128x128, 190},
                    {Kernel::kMma64x64, 120},
                    {Kernel::kMma32x32, 55},
                    {Kernel::kMmaAny, 22}}},
          .float32 = {{{Kernel::kLibrary, 65},
                       {Kernel::kMma128x128, 62},
                       {Kernel::kMma64x64, 42},
                       {Kernel::kMma32x32, 20},
                       {Kernel::kMmaAny, 9}}}},
};

// Whether the kernels that run on a row's device in a precision, and no others, have a rate.
constexpr bool is_complete(const Rates& rates, Precision precision) {
  for (const KernelFacts& facts : kKernels) {
    const bool runs =
        facts.least_capability <= rates.least_capability && rates.least_capability <= facts.most_capability &&
        (exists(facts.kernel, precision, Direction::kForward) || exists(facts.kernel, precision, Direction::kBackward));
    if (runs != (rates.in(precision).of(facts.kernel) > 0)) return false;
  }
  return true;
}
constexpr bool are_complete() {
  for (const Rates& rates : kRates)
    for (int precision = 0; precision < kPrecisions; ++precision)
      if (!is_complete(rates, Precision(precision))) return false;
  return true;
}
// With a rate of 0 a kernel would seem to take for ever, and the plan would silently never choose it.
static_assert(are_complete(), "kRates: expected a rate for each kernel that runs on the device in the precision");

}  // namespace fused_gan::cuda::plan
