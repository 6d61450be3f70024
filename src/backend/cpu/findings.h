// What slows a machine down or will stop a run on it, and what a person can do about it. A pure
// function of what the kernel says and of what was measured.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/cpu/host.h"
#include "backend/cpu/isa.h"

namespace sluice {

struct Finding {
  std::string what;
  std::string source;  // the file, or the measurement
  std::string remedy;
};

// What findings are made from, besides the facts.
struct Examined {
  Isa best = Isa::portable;
  int threads = 1;               // usable_threads()
  std::int64_t memory_left = 0;  // bytes; available_memory()
  std::string disk;              // the folder
  std::string disk_error;        // why nothing can be written there; empty: it can
  double disk_write = 0;         // bytes per second; 0: not measured
  std::int64_t disk_free = 0;    // bytes
};

// In the order of their weight; none: nothing is wrong.
std::vector<Finding> findings(const HostFacts& facts, const Examined& examined);

}  // namespace sluice
