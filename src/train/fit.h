// What a config would take of this machine's memory, and what would make it fit. `train` refuses
// with it, `plan` prints it. Pure functions; any thread.
#pragma once

#include <vector>

#include "planner/memory_report.h"
#include "program/plan.h"
#include "train/config.h"

namespace sluice {

// Bytes of a training run of `programs` on the CPU with so many threads.
MemoryBytes memory_of(const ProgramSet& programs, int threads);

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
Plan placed_or_told(const Config& config, const Plan& plan, int threads, std::int64_t available);
// The least of the device that this config can do with, and what is then on host and disk.
TierBytes least_bytes(const Config& config, const Plan& plan, int threads);

// The mildest changes of the config with which it takes at most `available` bytes; at most three,
// none when none helps. Builds the programs of each change it tries.
std::vector<PlanChange> changes_that_fit(const Config& config, int threads, std::int64_t available);

}  // namespace sluice
