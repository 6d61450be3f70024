// Our own threads for loops over tiles: a fixed team, no queue, no allocation while it runs.
//
// Tasks are handed out by one atomic counter, so which thread runs a task is free: a body whose
// results depend on it is a bug (DESIGN §7, "Equal"). The caller of run() takes part. Workers spin
// for some microseconds after a run, since the next kernel mostly follows at once, then sleep in
// the kernel: an idle pool costs nothing. A worker that wakes too late is not waited for.
//
// Threads: one run() at a time; run() must not be called from inside a body.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

#include "core/function_ref.h"

namespace sluice {

class Pool {
 public:
  using Body = FunctionRef<void(std::int64_t task, int worker)>;

  // Starts threads - 1 workers; 1 means that everything runs in the caller. Error (usage) unless
  // 1 <= threads <= max_threads.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Runs body(task, worker) once for each task in [0, tasks) and returns when all are done; worker
  // is in [0, threads()) and no two running bodies share one: index scratch memory with it. The
  // first exception is rethrown here; tasks not yet begun are then skipped. Allocates nothing.
  void run(std::int64_t tasks, Body body);

  static constexpr int max_threads = 512;

 private:
  void work(int worker);
  void serve(int worker);
  std::uint32_t wait_for_run(std::uint32_t seen);
  void wait_for_workers();
  void stop();

  // What workers read; written only while the gate is closed and nobody is inside.
  const Body* body_ = nullptr;
  std::int64_t tasks_ = 0;
  std::exception_ptr error_;

  // The gate: how many workers are inside, whether one may enter, whether to end, and the number of
  // the run (so that a worker does not enter the same run twice).
  alignas(64) std::atomic<std::uint32_t> gate_{0};
  alignas(64) std::atomic<std::int64_t> next_{0};
  alignas(64) std::atomic<std::uint32_t> leavings_{
      0};  // changes at each leaving; the caller sleeps on it
  std::atomic<bool> failed_{false};
  std::vector<std::thread> workers_;
};

}  // namespace sluice
