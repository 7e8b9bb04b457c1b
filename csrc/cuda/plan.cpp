#include "plan.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "../measured_choices.h"
#include "plan_rates.h"

namespace fused_gan::cuda::plan {
namespace {

struct Key {
  Shape shape;
  Device device;
  bool operator==(const Key&) const = default;

  std::array<uint64_t, 6> words() const {
    return {uint64_t(shape.precision) << 3 | uint64_t(shape.direction) << 2 | uint64_t(shape.aligned) << 1 |
                uint64_t(shape.epilogue),
            uint64_t(shape.rows),
            uint64_t(shape.columns),
            uint64_t(shape.depth),
            uint64_t(device.capability),
            uint64_t(device.multiprocessors)};
  }
};
using Choices = MeasuredChoices<Key, Choice, Decision>;

const Rates& rates_for(int capability) {
  const Rates* found = &kRates[0];
  for (const Rates& rates : kRates)
    if (rates.least_capability <= capability) found = &rates;
  return *found;
}

double divide_up(double a, double b) { return std::ceil(a / b); }

// The fastest choice of one kernel: into how many parts.
Candidate best_of(Kernel kernel, const Shape& shape, const Device& device) {
  Candidate best{{kernel, 1}, estimate(shape, device, {kernel, 1}), {}};
  if (!facts(kernel).splits) return best;
  for (int wanted = 2; wanted <= kMostSplits; ++wanted) {
    const int splits = useful_splits(shape.depth, wanted, shape.precision);
    const double time = estimate(shape, device, {kernel, splits});
    if (time < best.microseconds) best = {{kernel, splits}, time, {}};
  }
  return best;
}

// The choice with the lowest estimate.
Choice fastest(const Shape& shape, const Device& device) {
  Candidate best{{Kernel::kLibrary, 1}, estimate(shape, device, {Kernel::kLibrary, 1}), {}};
  for (const KernelFacts& kernel : kKernels) {
    if (kernel.kernel == Kernel::kLibrary || !obstacle(kernel.kernel, shape, device.capability).empty()) continue;
    const Candidate candidate = best_of(kernel.kernel, shape, device);
    if (candidate.microseconds < best.microseconds) best = candidate;
  }
  return best.choice;
}

}  // namespace

double estimate(const Shape& shape, const Device& device, Choice choice) {
  const Rates& rates = rates_for(device.capability);
  const double rate = rates.in(shape.precision).of(choice.kernel) * 1e6;  // operations per µs
  const double bandwidth = rates.bandwidth * 1e6;                         // bytes per µs
  const double rows = double(shape.rows), columns = double(shape.columns), depth = double(shape.depth);
  const double operations = 2 * rows * columns * depth, element = element_bytes(shape.precision);
  const double result = rows * columns * element;
  // An epilogue backward reads y besides.
  const double epilogue = shape.epilogue && shape.direction == Direction::kBackward ? result : 0;
  const double traffic = (rows * depth + columns * depth) * element + result;

  if (choice.kernel == Kernel::kLibrary) {
    // As if its tiles always fitted: the benefit of the doubt is the library's.
    const double scale = double(device.multiprocessors) / rates.multiprocessors;
    const double product = rates.launch + std::max(operations / (rate * scale), traffic / bandwidth);
    return product + (shape.epilogue ? rates.launch + (2 * result + epilogue) / bandwidth : 0);
  }
  const KernelFacts& kernel = facts(choice.kernel);
  const double tiles = divide_up(rows, kernel.rows) * divide_up(columns, kernel.columns) * choice.splits;
  const double waves = divide_up(tiles, device.multiprocessors);
  const double tile_operations = 2. * kernel.rows * kernel.columns * depth / choice.splits;
  const double parts = choice.splits > 1 ? choice.splits * rows * columns * double(sizeof(float)) : 0;
  const int launches = launches_of(choice, shape.direction, shape.rows, shape.epilogue).count();
  const double product =
      std::max(waves * tile_operations / (rate / rates.multiprocessors), (traffic + epilogue + parts) / bandwidth);
  return launches * rates.launch + product + (choice.splits > 1 ? (parts + result) / bandwidth : 0);
}

std::vector<Candidate> candidates(const Shape& shape, const Device& device) {
  std::vector<Candidate> all;
  for (const KernelFacts& kernel : kKernels) {
    const std::string_view reason = obstacle(kernel.kernel, shape, device.capability);
    if (reason.empty()) all.push_back(best_of(kernel.kernel, shape, device));
    else all.push_back({{kernel.kernel, 1}, 0, std::string(reason)});
  }
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
    if (a.obstacle.empty() != b.obstacle.empty()) return a.obstacle.empty();
    return a.microseconds < b.microseconds;
  });
  return all;
}

Decision decide(const Shape& shape, const Device& device) {
  return Choices::decision({shape, device}, [&](std::optional<Choice> measured) {
    return measured ? Decision{*measured, Source::kMeasured} : Decision{fastest(shape, device), Source::kEstimated};
  });
}

std::string keep(const Shape& shape, const Device& device, Choice choice) {
  const std::string_view reason = obstacle(choice.kernel, shape, device.capability);
  if (!reason.empty()) return std::string(reason);
  if (choice.splits < 1 || (choice.splits > 1 && !facts(choice.kernel).splits)) return "it does not cut the depth";
  choice.splits = useful_splits(shape.depth, choice.splits, shape.precision);
  Choices::keep({shape, device}, choice);
  return {};
}

void forget() { Choices::forget(); }
int64_t kept() { return Choices::size(); }

}  // namespace fused_gan::cuda::plan
