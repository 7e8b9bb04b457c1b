// The choices that were measured in this process (fused_gan.autotune()), by what they are for. cpu/choice.cpp and
// cuda/plan.cpp keep one registry each.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>

namespace fused_gan {

// Key: what a choice is for; it compares equal, and words() gives its content as 64-bit words. Choice: what was
// measured to be the fastest. Decision: what the caller makes of a choice, or of there being none. Everything is
// static, as a thread's memory has to be: there is one registry for each set of types.
template <class Key, class Choice, class Decision> class MeasuredChoices {
 public:
  // Returns decide(choice), where `choice` is the measured one or nothing. Cheap: each thread remembers its decisions
  // until a choice is kept or forgotten. So `decide` must depend on the key and the choice alone.
  template <class Decide> static Decision decision(const Key& key, const Decide& decide) {
    struct Remembered {
      uint64_t version = 0;
      Key key{};
      Decision decision{};
    };
    thread_local std::array<Remembered, 64> remembered;
    Remembered& place = remembered[Hash()(key) % remembered.size()];
    const uint64_t now = version_.load(std::memory_order_acquire);
    if (place.version != now || !(place.key == key)) place = {now, key, decide(find(key))};
    return place.decision;
  }

  static void keep(const Key& key, Choice choice) {
    change([&](Map& map) { map[key] = choice; });
  }
  static void forget() {
    change([](Map& map) { map.clear(); });
  }

  static int64_t size() {
    const std::lock_guard lock(mutex_);
    return int64_t(map().size());
  }

  // Whether any choice was ever kept or forgotten. In most processes none is.
  static bool were_used() { return version_.load(std::memory_order_acquire) != kFirst; }

 private:
  struct Hash {
    size_t operator()(const Key& key) const {
      uint64_t hash = 14695981039346656037u;  // FNV-1a, one word at a time
      for (const uint64_t word : key.words()) hash = (hash ^ word) * 1099511628211u;
      return hash ^ hash >> 29;
    }
  };
  using Map = std::unordered_map<Key, Choice, Hash>;

  static Map& map() {
    static auto* map = new Map;  // never destroyed: it outlives every thread that may still ask
    return *map;
  }

  static std::optional<Choice> find(const Key& key) {
    const std::lock_guard lock(mutex_);
    const auto found = map().find(key);
    return found == map().end() ? std::nullopt : std::optional(found->second);
  }

  template <class Change> static void change(const Change& apply) {
    const std::lock_guard lock(mutex_);
    apply(map());
    version_.fetch_add(1, std::memory_order_release);  // what threads remember is out of date
  }

  static constexpr uint64_t kFirst = 1;  // above the version of a place in a thread's memory that was never used
  static inline std::mutex mutex_;
  static inline std::atomic<uint64_t> version_ = kFirst;
};

}  // namespace fused_gan
