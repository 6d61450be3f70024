// Every op that a program's compute lane runs, with its operands where they would lie in an arena
// that nobody has taken: addresses to count with, not to look at. Actions that run the same list
// alike are visited once. Pure; any thread.
#pragma once

#include <functional>

#include "backend/backend.h"
#include "program/program.h"

namespace sluice {

void visit_ops(const Program& program, Workers workers,
               const std::function<void(const Op&, const Frame&)>& visit);

}  // namespace sluice
