// The machine at hand, and how fast it is as far as `sluice doctor` measured that.
#pragma once

#include <optional>
#include <string>

#include "backend/cpu/isa.h"
#include "planner/description.h"
#include "planner/machine.h"

namespace sluice {

struct ThisMachine {
  // `kept`: the file of `sluice doctor`; empty: none. Looks at the system once.
  ThisMachine(const std::string& kept, Isa isa, int threads);

  std::optional<Machine> described() const;  // none: it was not measured

  MachineId id;
  std::int64_t memory = 0;  // usable bytes
  FoundMachine measured;
};

}  // namespace sluice
