// What keeps a GPU from being used, or slows it, and what a person can do about it. A pure function
// of what was found.
#pragma once

#include <vector>

#include "backend/cpu/findings.h"
#include "backend/cuda/usable.h"

namespace sluice {

struct GpuExamined {
  CudaFacts facts;
  CudaBuild build;
  std::vector<FoundLibrary> libraries;  // of needed_libraries(), in their order
  std::vector<GpuState> states;         // of the GPUs, in their order
};

// In the order of their weight; none: nothing is wrong, or there is nothing of NVIDIA's at all.
std::vector<Finding> gpu_findings(const GpuExamined& examined);

}  // namespace sluice
