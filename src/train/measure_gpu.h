// What `sluice doctor` measures of a GPU, as the planner reads it: products and attention on random
// data, copies, what lies beside a plan's memory. Through the backend alone, as runs use it.
#pragma once

#include <functional>
#include <string>

#include "backend/backend.h"
#include "planner/description.h"

namespace sluice {

struct GpuMeasuring {
  bool quick = false;
  std::string from;  // "sluice doctor, 2026-11-23"
  // Bytes of the device that are taken now.
  std::function<std::int64_t()> taken = nullptr;
};

// Fills in rates, the link and device_reserved; the rest of `machine` is the caller's.
void measure_gpu(Backend& backend, const GpuMeasuring& how, Machine& machine);

}  // namespace sluice
