// How long a cache line takes from one core to another and back: what two threads pay to wait for each other.
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace {

void pin(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

alignas(128) std::atomic<long> ping;
alignas(128) std::atomic<long> pong;

}  // namespace

// Seconds a round trip, over `trips` of them, between two threads of its own.
extern "C" double round_trip(int one, int other, long trips) {
  ping = pong = 0;
  double seconds = 0;
  std::thread answer([=] {
    pin(other);
    for (long i = 1; i <= trips; pong.store(i++, std::memory_order_release))
      while (ping.load(std::memory_order_acquire) != i) {}
  });
  std::thread ask([=, &seconds] {
    pin(one);
    const auto start = std::chrono::steady_clock::now();
    for (long i = 1; i <= trips; ++i) {
      ping.store(i, std::memory_order_release);
      while (pong.load(std::memory_order_acquire) != i) {}
    }
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / double(trips);
  });
  ask.join();
  answer.join();
  return seconds;
}
