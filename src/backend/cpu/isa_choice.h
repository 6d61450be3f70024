// The choice of an instruction set on a machine that has `there`: parse_isa() with the machine as
// an argument, so that a test can stand on any. A pure function, any thread.
#pragma once

#include <span>

#include "backend/cpu/isa.h"

namespace sluice {

// REQUIRES: `there` ascends and begins with portable, as available_isas() does.
Isa choose_isa(std::string_view name, std::span<const Isa> there);

}  // namespace sluice
