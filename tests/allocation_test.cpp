// Steady steps allocate nothing: malloc and everything above it, counted over all threads while the
// real training loop goes from the start of step 2 to the row of step 10.
//
// A program of its own, because it replaces malloc, and because the linker's --wrap lets it stand
// before two functions of the loop (tests/CMakeLists.txt).
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "core/test_folder.h"
#include "data/prepare.h"
#include "train/metrics.h"
#include "train/run.h"

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
}

namespace sluice {
namespace {

std::atomic<bool> counting{false};
std::atomic<std::int64_t> allocations{0};
std::atomic<std::int64_t> windows{0};  // how often the counted stretch was entered and left
bool plant = false;                    // an allocation of our own in step 5

void count() {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1);
}

}  // namespace
}  // namespace sluice

extern "C" {

// operator new, new[] and their aligned forms end here too.
void* malloc(std::size_t bytes) {
  sluice::count();
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
  sluice::count();
  return __libc_calloc(count, bytes);
}
void* realloc(void* old, std::size_t bytes) {
  sluice::count();
  return __libc_realloc(old, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  sluice::count();
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  sluice::count();
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t bytes) {
  sluice::count();
  *out = __libc_memalign(alignment, bytes);
  return *out == nullptr ? ENOMEM : 0;
}

// Trainer::enqueue(std::int64_t)
void __real__ZN6sluice7Trainer7enqueueEl(sluice::Trainer*, std::int64_t);
void __wrap__ZN6sluice7Trainer7enqueueEl(sluice::Trainer* self, std::int64_t step) {
  using namespace sluice;
  if (step == 2) counting = true, ++windows;
  if (step == 5 && plant) {
    const std::unique_ptr<int> planted(new int(5));
    asm volatile("" ::"r"(planted.get()) : "memory");  // not to be optimized away
  }
  __real__ZN6sluice7Trainer7enqueueEl(self, step);
}

// MetricsLog::step(const StepResult&, const Pace&)
void __real__ZN6sluice10MetricsLog4stepERKNS_10StepResultERKNS_4PaceE(sluice::MetricsLog*,
                                                                      const sluice::StepResult&,
                                                                      const sluice::Pace&);
void __wrap__ZN6sluice10MetricsLog4stepERKNS_10StepResultERKNS_4PaceE(
    sluice::MetricsLog* self, const sluice::StepResult& result, const sluice::Pace& pace) {
  using namespace sluice;
  __real__ZN6sluice10MetricsLog4stepERKNS_10StepResultERKNS_4PaceE(self, result, pace);
  if (result.step == 10) counting = false, ++windows;
}

}  // extern "C"

namespace sluice {
namespace {

constexpr const char* tiny_config = R"(
model = { family = "gpt2", layers = 2, width = 48, heads = 4, context = 64, vocab = 257 }
batch = { tokens = 256, sequence = 64 }
optim = { lr = 1e-3, warmup_tokens = 512 }
plan = { micro_batch = 2 }
run = { tokens = 3072, save_every = 0, validate_every = 0 }
)";

// Allocations of steps 2 to 10 of a run with these options on top, `trace` steps being recorded.
std::int64_t allocations_with(std::vector<std::string> options, std::int64_t trace = 0) {
  const TestFolder folder;
  std::string text;
  for (int n = 0; n < 400; ++n) text += fmt::format("Gate {} was raised, the mill turned.\n", n);
  write_text(folder.path() / "text.txt", text);
  PrepareOptions prepared;
  prepared.inputs = {(folder.path() / "text.txt").string()};
  prepared.tokenizer = "bytes";
  prepared.out = (folder.path() / "corpus").string();
  prepare(prepared);

  Faults none;
  TrainRequest request;
  request.config = parse_config(tiny_config, "tiny.toml");
  options.push_back("data.train=" + prepared.out);
  apply_overrides(request.config, options);
  request.out = (folder.path() / "run").string();
  request.faults = &none;
  request.trace = trace;
  allocations = 0, windows = 0;
  EXPECT_EQ(train(request), Exit::ok);
  EXPECT_EQ(windows, 2) << "the counted steps were not run";
  return allocations;
}

TEST(Allocation, SteadyStepsAllocateNothing) {
  EXPECT_EQ(allocations_with({"run.threads=1"}), 0);
  EXPECT_EQ(allocations_with({"run.threads=3"}), 0);
  EXPECT_EQ(allocations_with({"run.threads=2", "plan.recompute=block"}), 0);
  EXPECT_EQ(allocations_with({"run.threads=2", "plan.stash=spilled", "plan.homes=host"}), 0);
  EXPECT_EQ(allocations_with({"plan.blobs=parts", "plan.homes=host"}), 0);
  EXPECT_EQ(allocations_with({"run.threads=2", "run.log_hashes=true"}), 0);
  EXPECT_EQ(allocations_with({"run.threads=1", "plan.homes=host"}), 0);
  EXPECT_EQ(allocations_with({"run.threads=1", "plan.homes=disk"}), 0);
  // More steps than the run has: what is recorded is written after the last one.
  EXPECT_EQ(allocations_with({"run.threads=2", "plan.homes=host", "optim.skip_spikes=3"}, 100), 0);
}

TEST(Allocation, TheCounterSeesAnAllocation) {
  plant = true;
  EXPECT_GE(allocations_with({"run.threads=1"}), 1);
  plant = false;
  for (void* (*allocate)() :
       {+[] { return std::malloc(8); }, +[] { return std::calloc(1, 8); },
        +[] { return std::realloc(nullptr, 8); }, +[] { return std::aligned_alloc(64, 64); },
        +[] { return static_cast<void*>(new char[8]); }}) {
    allocations = 0;
    counting = true;
    void* made = allocate();
    counting = false;
    asm volatile("" ::"r"(made) : "memory");
    EXPECT_EQ(allocations, 1);
    std::free(made);
  }
}

}  // namespace
}  // namespace sluice
