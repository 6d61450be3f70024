#include "train/this_machine.h"

#include "backend/cpu/host.h"

namespace sluice {

ThisMachine::ThisMachine(const std::string& kept, Isa isa, int threads) {
  const HostFacts host = host_facts("");
  id = {host.cpu, std::string(name_of(isa)), threads};
  memory = total_memory(host);
  measured = find_machine(kept, id);
}

std::optional<Machine> ThisMachine::described() const {
  if (!measured.machine) return {};
  return description_of(*measured.machine, memory);
}

}  // namespace sluice
