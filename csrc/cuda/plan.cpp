#include "plan.h"

#include <atomic>
#include <cmath>
#include <mutex>
#include <unordered_map>

#include "plan_rates.h"

namespace fused_gan::cuda::plan {
namespace {

struct Key {
  Shape shape;
  Device device;
  bool operator==(const Key&) const = default;
};
struct Hash {
  size_t operator()(const Key& key) const {
    uint64_t hash = 14695981039346656037u;  // FNV-1a, a word at a time
    const Shape& s = key.shape;
    for (const uint64_t word :
         {uint64_t(s.precision) << 3 | uint64_t(s.direction) << 2 | uint64_t(s.aligned) << 1 | uint64_t(s.epilogue),
          uint64_t(s.rows), uint64_t(s.columns), uint64_t(s.depth), uint64_t(key.device.capability),
          uint64_t(key.device.multiprocessors)})
      hash = (hash ^ word) * 1099511628211u;
    return hash ^ hash >> 29;
  }
};

// Measured choices. Whoever changes them counts the version up, so that what threads remember is asked for again.
std::mutex mutex;
std::unordered_map<Key, Choice, Hash>& measured() {
  static auto* map = new std::unordered_map<Key, Choice, Hash>;  // outlives every thread that may still ask
  return *map;
}
std::atomic<uint64_t> version = 1;

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

Decision decide_anew(const Key& key) {
  {
    const std::lock_guard lock(mutex);
    if (const auto found = measured().find(key); found != measured().end()) return {found->second, Source::kMeasured};
  }
  Candidate best{{Kernel::kLibrary, 1}, estimate(key.shape, key.device, {Kernel::kLibrary, 1}), {}};
  for (const KernelFacts& kernel : kKernels) {
    const Shape& shape = key.shape;
    if (kernel.kernel == Kernel::kLibrary || !obstacle(kernel.kernel, shape, key.device.capability).empty()) continue;
    const Candidate candidate = best_of(kernel.kernel, shape, key.device);
    if (candidate.microseconds < best.microseconds) best = candidate;
  }
  return {best.choice, Source::kEstimated};
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
  const bool adds_sums = shape.direction == Direction::kBackward && shape.epilogue &&
                         (is_wgmma(choice.kernel) || (choice.splits == 1 && shape.rows > kernel.rows));
  const double product =
      std::max(waves * tile_operations / (rate / rates.multiprocessors), (traffic + epilogue + parts) / bandwidth);
  return rates.launch + product + (choice.splits > 1 ? rates.launch + (parts + result) / bandwidth : 0) +
         (adds_sums ? rates.launch : 0);
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
  struct Remembered {
    uint64_t version = 0;
    Key key;
    Decision decision;
  };
  thread_local std::array<Remembered, 64> remembered;
  const Key key{shape, device};
  Remembered& place = remembered[Hash()(key) % remembered.size()];
  const uint64_t now = version.load(std::memory_order_acquire);
  if (place.version != now || !(place.key == key)) place = {now, key, decide_anew(key)};
  return place.decision;
}

std::string keep(const Shape& shape, const Device& device, Choice choice) {
  const std::string_view reason = obstacle(choice.kernel, shape, device.capability);
  if (!reason.empty()) return std::string(reason);
  if (choice.splits < 1 || (choice.splits > 1 && !facts(choice.kernel).splits)) return "it does not cut the depth";
  choice.splits = useful_splits(shape.depth, choice.splits, shape.precision);
  const std::lock_guard lock(mutex);
  measured()[{shape, device}] = choice;
  version.fetch_add(1, std::memory_order_release);
  return {};
}

void forget() {
  const std::lock_guard lock(mutex);
  measured().clear();
  version.fetch_add(1, std::memory_order_release);
}

int64_t kept() {
  const std::lock_guard lock(mutex);
  return int64_t(measured().size());
}

}  // namespace fused_gan::cuda::plan
