// The plan and the arithmetic around it, which need no device: what runs where, what is remembered, how a depth is cut,
// how much scratch memory a product asks for.
#include <cstdio>
#include <cstdlib>

#include "plan.h"

namespace {

using namespace fused_gan::cuda;
using plan::Device;

int checks = 0, failures = 0;

#define CHECK(condition)                                                 \
  do {                                                                   \
    ++checks;                                                            \
    if (!(condition)) {                                                  \
      ++failures;                                                        \
      std::printf("FAILED %s:%d: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                    \
  } while (false)

constexpr Device kA100{80, 108}, kGeForce{86, 82}, kH100{90, 132}, kB200{100, 148};
constexpr Precision kAllPrecisions[] = {Precision::kBFloat16, Precision::kFloat16, Precision::kTf32,
                                        Precision::kFloat32};

Shape shape(Precision precision, Direction direction, int64_t rows, int64_t columns, int64_t depth, bool aligned = true,
            bool epilogue = true) {
  return {precision, direction, rows, columns, depth, aligned, epilogue};
}

void facts_are_in_the_order_of_the_enum() {
  for (size_t i = 0; i < kKernels.size(); ++i) {
    CHECK(size_t(kKernels[i].kernel) == i);
    CHECK(find_kernel(kKernels[i].name) == &kKernels[i]);
  }
  CHECK(find_kernel("no such kernel") == nullptr);
}

void depths_are_cut_into_whole_stages() {
  for (const int64_t depth : {0, 1, 31, 64, 65, 100, 512, 1000, 4096})
    for (const int wanted : {1, 2, 3, 7, 16, 1000})
      for (const Precision precision : kAllPrecisions) {
        const int stage = kStageDepthBytes / element_bytes(precision);
        const int splits = useful_splits(depth, wanted, precision);
        const int64_t part = depth_part(depth, splits, stage);
        CHECK(splits >= 1 && splits <= wanted);
        CHECK(part % stage == 0);
        CHECK(part * splits >= depth);                      // all of it is covered
        CHECK(splits == 1 || part * (splits - 1) < depth);  // and no part is empty
      }
}

void only_what_can_run_is_chosen() {
  for (const Device& device : {kA100, kGeForce, kH100, kB200})
    for (const Precision precision : kAllPrecisions)
      for (const Direction direction : {Direction::kForward, Direction::kBackward})
        for (const bool aligned : {false, true})
          for (const int64_t rows : {0, 1, 64, 1000, 1 << 20})
            for (const int64_t columns : {0, 1, 100, 1024, 8192})
              for (const int64_t depth : {0, 1, 64, 784, 4096}) {
                const Shape s = shape(precision, direction, rows, columns, depth, aligned);
                const Choice choice = plan::decide(s, device).choice;
                CHECK(obstacle(choice.kernel, s, device.capability).empty());
                CHECK(choice.splits >= 1 && (choice.splits == 1 || facts(choice.kernel).splits));
                CHECK(choice.splits == useful_splits(depth, choice.splits, precision));
              }
  const auto blocked = [](Kernel kernel, const Shape& s, Device device) {
    return !obstacle(kernel, s, device.capability).empty();
  };
  const Shape plain = shape(Precision::kBFloat16, Direction::kForward, 4096, 4096, 4096);
  CHECK(blocked(Kernel::kWgmma128x256, plain, kA100));
  CHECK(blocked(Kernel::kWgmma128x256, plain, kB200));  // sm_90a code runs on 9.0 alone
  CHECK(!blocked(Kernel::kMma128x128, plain, kB200));
  CHECK(blocked(Kernel::kMma64x64, plain, {75, 40}));
  CHECK(!blocked(Kernel::kLibrary, plain, {75, 40}));
  CHECK(blocked(Kernel::kMma128x128, shape(Precision::kFloat32, Direction::kForward, 64, 64, 64, false), kA100));
  CHECK(!blocked(Kernel::kMmaAny, shape(Precision::kFloat32, Direction::kForward, 64, 64, 64, false), kA100));
  CHECK(blocked(Kernel::kWgmma128x128, shape(Precision::kFloat32, Direction::kForward, 64, 64, 64), kH100));
  CHECK(blocked(Kernel::kWgmma128x128, shape(Precision::kTf32, Direction::kBackward, 64, 64, 64), kH100));
#ifdef FUSED_GAN_WITH_WGMMA
  CHECK(!blocked(Kernel::kWgmma128x128, shape(Precision::kTf32, Direction::kForward, 64, 64, 64), kH100));
  CHECK(!blocked(Kernel::kWgmma128x256, plain, kH100));
  const Shape padded = shape(Precision::kBFloat16, Direction::kForward, 64, 64, 100);  // in rows 104 apart
  CHECK(blocked(Kernel::kWgmma128x128, padded, kH100));
  CHECK(!blocked(Kernel::kMma128x128, padded, kH100));
  CHECK(!blocked(Kernel::kWgmma128x128, shape(Precision::kTf32, Direction::kForward, 64, 64, 100), kH100));
  CHECK(
      blocked(Kernel::kWgmma128x256, shape(Precision::kBFloat16, Direction::kForward, int64_t(1) << 31, 8, 8), kH100));
  const Shape wide = shape(Precision::kBFloat16, Direction::kForward, 8192, 8192, 1024);
  CHECK(is_wgmma(plan::decide(wide, kH100).choice.kernel));
#else
  CHECK(blocked(Kernel::kWgmma128x256, plain, kH100));
#endif
}

void a_bare_product_is_the_librarys() {
  for (const Device& device : {kA100, kGeForce, kH100, kB200})
    for (const Precision precision : kAllPrecisions)
      for (const int64_t size : {64, 512, 4096})
        if (precision != Precision::kFloat32)  // where three tf32 products beat one on the ordinary units
          CHECK(plan::decide(shape(precision, Direction::kForward, size, size, size, true, false), device)
                    .choice.kernel == Kernel::kLibrary);
}

void small_batches_are_spread_over_the_device() {
  const Choice choice = plan::decide(shape(Precision::kBFloat16, Direction::kForward, 64, 1024, 512), kH100).choice;
  CHECK(choice.kernel != Kernel::kLibrary);
  const KernelFacts& kernel = facts(choice.kernel);
  CHECK((64 + kernel.rows - 1) / kernel.rows * ((1024 + kernel.columns - 1) / kernel.columns) * choice.splits >= 32);
}

// Of an H100: whatever the width, some tile and number of parts leaves at most one multiprocessor in twenty idle.
void parts_of_a_long_depth_keep_a_device_busy() {
  const auto divide_up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  for (const int64_t rows : {64, 256})
    for (int64_t columns = 256; columns <= 4096; columns += 8) {
      double busiest = 0;
      for (const KernelFacts& kernel : kKernels)
        for (int wanted = 1; kernel.splits && wanted <= plan::kMostSplits; ++wanted) {
          const int64_t blocks = divide_up(rows, kernel.rows) * divide_up(columns, kernel.columns) *
                                 useful_splits(16384, wanted, Precision::kBFloat16);
          const int64_t waves = divide_up(blocks, kH100.multiprocessors);
          busiest = std::max(busiest, double(blocks) / double(waves * kH100.multiprocessors));
        }
      CHECK(busiest > 0.95);
    }
}

void every_kernel_of_a_product_is_counted() {
  constexpr auto launches = [](Kernel kernel, int splits, Direction direction, int64_t rows, bool bias = true) {
    return launches_of({kernel, splits}, direction, rows, bias).count();
  };
  CHECK(launches(Kernel::kMma64x64, 1, Direction::kForward, 1000) == 1);
  CHECK(launches(Kernel::kMma64x64, 2, Direction::kForward, 1000) == 2);
  CHECK(launches(Kernel::kMma64x64, 1, Direction::kBackward, 64) == 1);
  CHECK(launches(Kernel::kMma64x64, 1, Direction::kBackward, 65) == 2);
  CHECK(launches(Kernel::kMma128x128, 2, Direction::kBackward, 64) == 2);
  CHECK(launches(Kernel::kMma128x128, 2, Direction::kBackward, 65) == 3);  // the parts, and the sums of two blocks
  CHECK(launches(Kernel::kMma128x128, 2, Direction::kBackward, 65, false) == 2);
  CHECK(launches(Kernel::kWgmma128x128, 1, Direction::kForward, 64) == 1);
  CHECK(launches(Kernel::kWgmma128x128, 1, Direction::kBackward, 64) == 2);
  // And each has its price: where a row more asks for a third kernel, it takes a launch longer.
  const auto time = [](int64_t rows) {
    const Shape s = shape(Precision::kFloat32, Direction::kBackward, rows, 1024, 1024);
    return plan::estimate(s, kH100, {Kernel::kMma128x128, 2});
  };
  CHECK(time(65) - time(64) > 1);
  CHECK(time(66) - time(65) < 0.5);
}

void candidates_are_sorted_and_the_first_is_chosen() {
  for (const bool aligned : {false, true}) {
    const Shape s = shape(Precision::kTf32, Direction::kBackward, 256, 512, 1024, aligned);
    const auto all = plan::candidates(s, kH100);
    CHECK(all.size() == kKernels.size());
    CHECK(all[0].obstacle.empty());
    for (size_t i = 1; i < all.size(); ++i) {
      CHECK(all[i - 1].obstacle.empty() || !all[i].obstacle.empty());
      if (all[i].obstacle.empty()) CHECK(all[i - 1].microseconds <= all[i].microseconds);
    }
    const Choice chosen = plan::decide(s, kH100).choice;
    CHECK(all[0].microseconds == plan::estimate(s, kH100, chosen));
  }
}

void what_was_measured_comes_first() {
  const Shape s = shape(Precision::kBFloat16, Direction::kForward, 128, 256, 512);
  const plan::Decision before = plan::decide(s, kA100);
  CHECK(before.source == plan::Source::kEstimated);
  const Kernel other = before.choice.kernel == Kernel::kLibrary ? Kernel::kMma128x128 : Kernel::kLibrary;
  CHECK(plan::keep(s, kA100, {other}).empty());
  CHECK(plan::kept() == 1);
  CHECK(plan::decide(s, kA100).source == plan::Source::kMeasured);
  CHECK(plan::decide(s, kA100).choice.kernel == other);
  // For nothing else: another device, another size, another alignment.
  CHECK(plan::decide(s, {80, 56}).source == plan::Source::kEstimated);
  Shape larger = s, odd = s;
  larger.rows += 1;
  odd.aligned = false;
  CHECK(plan::decide(larger, kA100).source == plan::Source::kEstimated);
  CHECK(plan::decide(odd, kA100).source == plan::Source::kEstimated);
  // More parts than the depth has stages are no more parts.
  CHECK(plan::keep(s, kA100, {Kernel::kMma32x32, 1000}).empty());
  CHECK(plan::decide(s, kA100).choice.splits == 8);
  // What cannot run is refused, and changes nothing.
  CHECK(!plan::keep(s, kA100, {Kernel::kWgmma128x128}).empty());
  CHECK(!plan::keep(odd, kA100, {Kernel::kMma32x32}).empty());
  CHECK(!plan::keep(s, kA100, {Kernel::kLibrary, 2}).empty());
  CHECK(!plan::keep(s, kA100, {Kernel::kMma32x32, 0}).empty());
  CHECK(plan::decide(s, kA100).choice.kernel == Kernel::kMma32x32);
  CHECK(plan::kept() == 1);
  plan::forget();
  CHECK(plan::kept() == 0);
  CHECK(plan::decide(s, kA100).choice.kernel == before.choice.kernel);
  CHECK(plan::decide(s, kA100).source == plan::Source::kEstimated);
}

void alignment_is_that_of_every_row() {
  alignas(16) static char memory[64];
  ProductArguments p{};
  p.precision = Precision::kBFloat16;
  p.a = p.b = p.below = p.bias = p.c = memory;
  p.a_stride = p.b_stride = p.below_stride = p.columns = 8;
  CHECK(is_aligned(p));
  for (int64_t ProductArguments::* stride : {&ProductArguments::a_stride, &ProductArguments::b_stride,
                                             &ProductArguments::below_stride, &ProductArguments::columns}) {
    ProductArguments odd = p;
    odd.*stride = 12;
    CHECK(!is_aligned(odd));
    odd.precision = Precision::kFloat32;  // of which four are 16 bytes
    CHECK(is_aligned(odd));
  }
  for (const void* ProductArguments::* pointer :
       {&ProductArguments::a, &ProductArguments::b, &ProductArguments::below, &ProductArguments::bias}) {
    ProductArguments odd = p;
    odd.*pointer = memory + 2;
    CHECK(!is_aligned(odd));
  }
}

}  // namespace

int main() {
  facts_are_in_the_order_of_the_enum();
  depths_are_cut_into_whole_stages();
  only_what_can_run_is_chosen();
  a_bare_product_is_the_librarys();
  small_batches_are_spread_over_the_device();
  parts_of_a_long_depth_keep_a_device_busy();
  every_kernel_of_a_product_is_counted();
  candidates_are_sorted_and_the_first_is_chosen();
  what_was_measured_comes_first();
  alignment_is_that_of_every_row();
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures ? 1 : 0;
}
