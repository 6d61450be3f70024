// The GPUs' part of `sluice doctor`.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "backend/cuda/gpu_findings.h"
#include "planner/description.h"

namespace sluice {

struct GpuDiagnosis {
  GpuExamined examined;
  std::string release;              // of the driver
  FoundLibrary attention;           // that attention was measured with, if any
  std::optional<Machine> measured;  // none: no GPU can be used
};

// Looks at all GPUs and measures number `index`. `host`: the machine around it, of which memory,
// cores and disk are taken.
GpuDiagnosis diagnose_gpus(int index, bool quick, const std::string& date, const Machine& host);

// Lines for a person, findings apart; empty: there is nothing of NVIDIA's.
std::string gpu_text(const GpuDiagnosis& gpus);
nlohmann::json gpu_json(const GpuDiagnosis& gpus);

}  // namespace sluice
