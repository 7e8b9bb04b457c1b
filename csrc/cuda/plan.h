// The plan: which kernel multiplies which product on which device. Measured choices (fused_gan.autotune()) come first,
// the others are estimated from the rates in plan_rates.h. Host code without torch and without CUDA calls.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel_facts.h"

namespace fused_gan::cuda::plan {

struct Device {
  int capability;  // ten times the major version, plus the minor one
  int multiprocessors;
  bool operator==(const Device&) const = default;
};

enum class Source { kMeasured, kEstimated };
struct Decision {
  Choice choice;
  Source source;
};

// Returns the choice for a product. Cheap: each thread remembers its last decisions.
Decision decide(const Shape&, const Device&);

constexpr int kMostSplits = 16;  // parts of a depth that are considered

// Every kernel with the best number of parts for it, fastest first, and those that cannot run last.
struct Candidate {
  Choice choice;
  double microseconds;   // estimated
  std::string obstacle;  // empty where it can run
};
std::vector<Candidate> candidates(const Shape&, const Device&);

// Estimated time of one choice.
double estimate(const Shape&, const Device&, Choice);

// Keeps a measured choice: from now on `decide` returns it for this product on this kind of device. Returns why the
// kernel cannot run, and then keeps nothing; returns an empty text on success.
std::string keep(const Shape&, const Device&, Choice);
void forget();
int64_t kept();

}  // namespace fused_gan::cuda::plan
