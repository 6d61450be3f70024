// Walks programs of any size on one thread, as the executor's lanes would, over a backend that owns
// no memory, and checks every step: a blob is read only where its newest version lies, a slot is
// overwritten only when the leases on it have ended, a wait is there for whatever needs one.
//
// A lease is an action's use of a place: it lasts until a wait, or the order of one lane, has
// joined that action. What a lane has joined is known exactly (a count of ended actions for each
// lane), so the order in which the walk takes actions does not matter. Places are whole blobs,
// batch slots, stashes and carries; the validator (program/validate.h) looks at each value. Time
// and memory are linear in the length of the programs. Any thread; one at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "backend/backend.h"
#include "program/program.h"

namespace sluice {

struct WalkCounts {
  std::int64_t runs = 0;
  std::int64_t actions = 0, ops = 0, waits = 0;
  std::array<std::int64_t, lanes> actions_of{};  // by lane
  std::array<std::int64_t, lanes> bytes_of{};    // copied, by lane
  std::int64_t leases = 0;                       // uses of places
  std::int64_t device_peak = 0;                  // the last byte of the arena that was in use, + 1
  std::int64_t host_peak = 0;                    // the same of host memory
};

class Walker {
 public:
  // Takes the programs' memory from `backend`, which is to give none. Both outlive this. Every blob
  // is at home when the walk begins.
  Walker(Backend& backend, const ProgramSet& set);
  ~Walker();
  // One run of a program behind those before. Error (internal), naming the action: what it would
  // read is not there, is of an older version or of another micro-batch; what it overwrites may
  // still be in use; it would read or write beyond the plan's memory; lanes wait for ever.
  void run(int program);
  const WalkCounts& counts() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice
