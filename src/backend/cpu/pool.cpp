#include "backend/cpu/pool.h"

#include <string>

#include "core/error.h"

namespace sluice {
namespace {

// The fields of the gate.
constexpr std::uint32_t inside_mask = 0x3ff;
constexpr std::uint32_t open_bit = 1u << 10;
constexpr std::uint32_t stop_bit = 1u << 11;
constexpr std::uint32_t run_step = 1u << 12;
static_assert(Pool::max_threads <= static_cast<int>(inside_mask));

std::uint32_t run_of(std::uint32_t gate) { return gate / run_step; }

// About fifty microseconds: longer than the gap between two kernels, and what a sleep and a wake
// cost in a virtual machine.
constexpr int spins = 2000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Pool::Pool(int threads) {
  require(threads >= 1 && threads <= max_threads, [&] {
    return Error(Exit::usage, {.what = "the number of threads is out of range",
                               .where = "run.threads",
                               .expected = fmt::format("1 to {}", max_threads),
                               .found = std::to_string(threads),
                               .tries = {"--run.threads=auto"}});
  });
  workers_.reserve(static_cast<std::size_t>(threads - 1));
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { serve(i); });
  } catch (...) {
    stop();
    throw;
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  gate_.fetch_or(stop_bit, std::memory_order_release);
  gate_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::run(std::int64_t tasks, Body body) {
  if (workers_.empty() || tasks <= 1) {
    for (std::int64_t task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
  body_ = &body;
  tasks_ = tasks;
  next_.store(0, std::memory_order_relaxed);
  failed_.store(false, std::memory_order_relaxed);
  const std::uint32_t closed = gate_.load(std::memory_order_relaxed);
  gate_.store(closed + run_step + open_bit, std::memory_order_release);
  gate_.notify_all();
  work(0);
  gate_.fetch_and(~open_bit, std::memory_order_acq_rel);
  wait_for_workers();
  if (failed_.load(std::memory_order_relaxed))
    std::rethrow_exception(std::exchange(error_, nullptr));
}

void Pool::work(int worker) {
  try {
    for (;;) {
      const std::int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks_) return;
      (*body_)(task, worker);
    }
  } catch (...) {
    next_.store(tasks_, std::memory_order_relaxed);
    if (!failed_.exchange(true, std::memory_order_relaxed)) error_ = std::current_exception();
  }
}

void Pool::serve(int worker) {
  std::uint32_t seen = 0;
  for (;;) {
    std::uint32_t gate = wait_for_run(seen);
    if (gate & stop_bit) return;
    // Fails when another worker passed or the caller closed the gate meanwhile: look again.
    if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) continue;
    seen = run_of(gate);
    work(worker);
    gate_.fetch_sub(1, std::memory_order_release);
    leavings_.fetch_add(1, std::memory_order_release);
    leavings_.notify_one();
  }
}

// Returns the gate when it is open for a run other than `seen`, or stopped.
std::uint32_t Pool::wait_for_run(std::uint32_t seen) {
  for (int spin = 0;; ++spin) {
    const std::uint32_t gate = gate_.load(std::memory_order_acquire);
    if ((gate & stop_bit) || ((gate & open_bit) && run_of(gate) != seen)) return gate;
    if (spin < spins) {
      pause();
    } else {
      gate_.wait(gate, std::memory_order_acquire);
    }
  }
}

void Pool::wait_for_workers() {
  for (int spin = 0;; ++spin) {
    const std::uint32_t leavings = leavings_.load(std::memory_order_acquire);
    if ((gate_.load(std::memory_order_acquire) & inside_mask) == 0) return;
    if (spin < spins) {
      pause();
    } else {
      leavings_.wait(leavings, std::memory_order_acquire);
    }
  }
}

}  // namespace sluice
