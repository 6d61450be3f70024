// What a config would take of this machine's memory, and what would make it fit. `train` refuses
// with it, `plan` prints it. Pure functions; any thread.
#pragma once

#include <vector>

#include "planner/memory_report.h"
#include "train/config.h"

namespace sluice {

// Bytes of a training run of `programs` on the CPU with so many threads.
MemoryBytes memory_of(const ProgramSet& programs, int threads);

// The mildest changes of the config with which it takes at most `available` bytes; at most three,
// none when none helps. Builds the programs of each change it tries.
std::vector<PlanChange> changes_that_fit(const Config& config, int threads, std::int64_t available);

}  // namespace sluice
