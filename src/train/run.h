// One training run from config to exit code: opens or resumes the run directory, refuses what does
// not fit, and hands over to the loop.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "core/fault.h"
#include "train/config.h"
#include "train/from.h"
#include "train/plan_file.h"

namespace sluice {

struct TrainRequest {
  Config config;
  std::optional<PlanFile> plan;                   // --plan, which `config` has already
  std::optional<ModelFolder> from;                // --from, whose model `config` has already
  std::string out;                                // empty: runs/NAME-KEY8
  std::vector<std::string> accepted_changes;      // --change
  std::string resume = "auto";                    // or "never"
  Faults* faults = nullptr;                       // required
  const std::atomic<int>* stop_signal = nullptr;  // not 0: finish the step, save, exit 75
  bool json = false;                              // step rows to stdout too
  bool bar = false;             // stderr is a terminal: draw a bar below the lines
  std::int64_t trace = 0;       // steady steps to record in RUN/trace.json
  std::string machine;          // --machine: a description of this machine; empty: none
  std::string machine_file;     // what `sluice doctor` measured; empty: nothing
  std::string algorithms;       // --algorithms: a table of another run; empty: none
  std::string algorithms_file;  // where tables are kept between runs; empty: nowhere
};

// ok, or requeue after a signal. Everything else is thrown.
Exit train(const TrainRequest& request);

}  // namespace sluice
