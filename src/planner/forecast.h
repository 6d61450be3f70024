// The prediction of a program's steps as a timeline: the same rows, spans and names as the executor
// records, so that `--trace` shows what was expected below what was.
//
// Pure functions; any thread.
#pragma once

#include "planner/simulate.h"
#include "program/timeline.h"

namespace sluice {

// `steps` of them among others like them, from the first action of the first one that begins. An
// action's ops share its time as their costs do. REQUIRES: the program can follow itself, steps >=
// 1.
Timeline predicted_timeline(const Program& program, const Machine& machine, int steps);

}  // namespace sluice
