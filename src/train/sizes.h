// What the placements that a config leaves open would take of each tier: where the looks for one
// that fits begin (fit.h, machine_fit.h). Pure functions; any thread.
#pragma once

#include <array>
#include <optional>

#include "planner/placement.h"
#include "program/build.h"
#include "program/plan.h"
#include "train/config.h"
#include "train/fit.h"

namespace sluice {

// What the config leaves to be chosen.
PlacementChoices choices_of(const Config& config, const Plan& plan);
Plan with(Plan plan, const Placement& placement);

// What each placement takes, the model's graphs made once for each kind of blobs. Config and plan
// outlive it.
class Sizes {
 public:
  Sizes(const Config& config, const Plan& plan, int threads);
  TierBytes of(const Placement& placement);

 private:
  ProgramSpec& spec_of(Blobs blobs);

  const Config& config_;
  const Plan& plan_;
  int threads_;
  std::array<std::optional<ProgramSpec>, 2> specs_;
};

// The placement with as much on disk as the host's budget wants, or as makes it smallest.
Placement within_host(const Config& config, Sizes& sizes, Placement placement);

}  // namespace sluice
