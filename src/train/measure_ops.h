// How fast each op of a training step goes among its neighbours: steps of small models, every op
// timed. What `sluice doctor` gives the planner for what neither products alone nor the memory's
// rate tells. One thread; takes the backend's pool.
#pragma once

#include <cstdint>

#include "backend/cpu/cpu.h"
#include "planner/machine.h"

namespace sluice {

struct MeasuredOps {
  std::vector<OpSpeed> ops;  // a row for each class and size
  double between_ops = 0;    // seconds from the end of an op to the begin of the next
};
// Spends about `seconds`; models that need more than `memory` bytes are left out.
MeasuredOps measure_ops(CpuBackend& cpu, double seconds, std::int64_t memory);

// A thread that copies beside a product that takes all threads; `seconds` in all.
Beside measure_beside(CpuBackend& cpu, double seconds);

}  // namespace sluice
