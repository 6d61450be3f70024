// What a config would take of this machine's memory, and what would make it fit. `train` refuses
// with it, `plan` prints it. Pure functions; any thread.
#pragma once

#include <vector>

#include "planner/memory_report.h"
#include "program/plan.h"
#include "train/config.h"

namespace sluice {

// How memory is counted. That of a CPU is one, and `threads` take some of it. That of a GPU is its
// own, so much of it lies beside the plan's regions, and what streams has its homes in the host's.
struct Counted {
  Counted(int with_threads) : threads(with_threads) {}  // NOLINT: a CPU is no more than its threads
  static Counted on_gpu(std::int64_t rest, std::int64_t host);
  bool gpu() const { return rest > 0; }

  int threads = 1;
  std::int64_t rest = 0, host = 0;  // bytes; host: that are available there
};

// Bytes of a training run of `programs`.
MemoryBytes memory_of(const ProgramSet& programs, const Counted& counted);

// Bytes of each tier.
struct TierBytes {
  std::int64_t device = 0, host = 0, disk = 0;
};

// The plan with homes, slots, passes and recompute chosen for plan.device_memory and
// plan.host_memory; what the config says of them stays. Without a budget the plan as it is. Error
// (memory): none fits, the least that would; or plan.host_memory is too little for the homes.
// Error (disk): plan.disk_memory is. A spilled stash gets more slots, up to so many, where the
// budget leaves room.
Plan placed(const Config& config, const Plan& plan, int threads, int most_stash_slots = 16);
// placed(). The error of a budget that is too small ends with changes of the
// config with which all budgets do and the whole takes at most `available` bytes, as far as there
// are three.
Plan placed_or_told(const Config& config, const Plan& plan, const Counted& counted,
                    std::int64_t available);
// The least of the device that this config can do with, and what is then on host and disk.
TierBytes least_bytes(const Config& config, const Plan& plan, int threads);

// The mildest changes of the config with which it takes at most `available` bytes; at most three,
// none when none helps. Builds the programs of each change it tries.
std::vector<PlanChange> changes_that_fit(const Config& config, const Counted& counted,
                                         std::int64_t available);

}  // namespace sluice
