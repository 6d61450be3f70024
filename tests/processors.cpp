#include "support/processors.h"

namespace sluice::testing_support {

std::vector<Processor> processors() {
  std::vector<Processor> out;
  for (const Isa isa : available_isas()) out.push_back({.isa = isa});
  return out;
}

Processor best_processor() { return {}; }

std::unique_ptr<Backend> own_backend() {
  return std::make_unique<CpuBackend>(CpuBackend::Options{.threads = 2, .isa = best_isa()});
}

}  // namespace sluice::testing_support
