// Walks programs. It has no policy: lanes run their actions in order, each after the waits it
// names.
//
// Lanes are threads of their own; the host only enqueues and may run ahead of them. An Error on a
// lane stops all work and is thrown at the next wait. Several executors may live in one process.
//
// Threads: enqueue, wait and drain belong to one host thread. Tensors may be touched by the host
// only after drain().
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "backend/backend.h"
#include "backend/disk/scratch_file.h"
#include "executor/recorder.h"
#include "program/program.h"

namespace sluice {

// Sees every action right after it ran, on its lane: hashes, planted faults.
class Observer {
 public:
  virtual ~Observer() = default;
  // `values`: the layer graph's values by id, empty where absent.
  virtual void after(const Program& program, int action, std::span<const Tensor> values) = 0;
};

struct ExecutorOptions {
  // Debug: every freed range is filled with NaN, the target of a copy too before it is written, and
  // copies are delayed by a random time drawn from `poison_seed`.
  bool poison = false;
  std::uint64_t poison_seed = 0;
  Observer* observer = nullptr;  // outlives the executor
  Recorder* recorder = nullptr;  // likewise; made of the same programs
  // Everything is enqueued op by op, though the backend could keep what comes again and enqueue it
  // as a whole. An observer, a recorder and poison need that anyway.
  bool eager = false;
  // Debug: waits after every op, so that an error of the device names the op that it came from.
  bool sync = false;
  // Where blobs at home on disk lie: as large as the programs' disk, outlives the executor.
  ScratchFile* scratch = nullptr;
};

class Executor {
 public:
  // Takes all memory now. `programs` outlives nothing: it is copied in.
  Executor(Backend& backend, std::shared_ptr<const ProgramSet> programs, ExecutorOptions options);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  using Ticket = std::int64_t;
  // Queues one run. `staging[m]` is micro-batch m's block (Program::batch layout) and must stay
  // valid and unchanged until the run has ended. Blocks when several runs are already queued.
  // Allocates nothing.
  Ticket enqueue(int program, std::span<const std::byte* const> staging);
  void wait(Ticket ticket);  // until that run has ended; rethrows a lane's Error
  void drain();              // until all have
  // When a run that was waited for ended. REQUIRES: `ticket` is one of the last few.
  std::chrono::steady_clock::time_point ended(Ticket ticket) const;

  // The run whose work was the oldest that had not ended when a lane failed; none: none did.
  struct Failure {
    Ticket run = -1;
    std::string program;
  };
  Failure failure() const;

  const ProgramSet& programs() const;
  // A weight, gradient, m, v, …; where it is at home, if its blob streams: valid when nothing is
  // pending. At home on disk it is seen through a staging slot: valid until a tensor of the same
  // kind of blob in another layer is asked for, or a run is enqueued; what is written into it then
  // is lost unless `access` says more than read.
  Tensor tensor(int layer, std::string_view value, Access access = Access::update) const;
  // On a device that the host does not see, tensors and globals are copies in host memory: valid
  // until a run is enqueued, or tensors of two other layers were asked for; what is written into
  // them then goes back, unless `access` said read.
  Tensor global(const std::string& name, DType dtype, const Shape& shape,
                Access access = Access::read) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice
