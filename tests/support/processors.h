// What the tests of whole models run on. Each program links its own answer: test_whole the CPU,
// with every instruction set that it has; test_gpu the GPU.
#pragma once

#include <memory>
#include <vector>

#include "backend/cpu/cpu.h"

namespace sluice::testing_support {

struct Processor {
  Isa isa = best_isa();
  Backend* device = nullptr;  // null: this CPU
};
std::vector<Processor> processors();
Processor best_processor();
// A backend of one's own, for executors that are to share nothing.
std::unique_ptr<Backend> own_backend();

}  // namespace sluice::testing_support
