// How a config fits a machine that is described, which need not be this one: `plan --machine`. Pure
// functions; any thread.
#pragma once

#include <string>
#include <vector>

#include "planner/description.h"
#include "program/plan.h"
#include "train/config.h"

namespace sluice {

// The config as it is planned on a described machine: budgets and precision that it leaves to the
// machine are the machine's.
Config on_machine(const Config& config, const Machine& machine);
// plan_of(), for that machine. REQUIRES: the config is on_machine().
Plan plan_of(const Config& config, const Machine& machine);
// Among the placements that fit the machine, the one whose step is predicted to be shortest; the
// micro-batch stays. Error (memory) as of placed() when none fits. On a CPU: placed().
Plan fastest(const Config& config, const Plan& plan, const Machine& machine, int threads);
// At most three changes of what a person asked for with which it would fit on the machine, or on
// another that is known, each planned again: "--plan.state=compact", "--machine h200x4-one".
std::vector<std::string> changes_that_fit(const Config& asked, const Machine& machine);

}  // namespace sluice
