// A program made ready to run: offsets turned into tensors, actions sorted by lane.
#pragma once

#include <span>
#include <vector>

#include "core/tensor.h"
#include "program/program.h"

namespace sluice {

struct LoadedBinding {
  std::vector<Tensor> values;
  std::vector<std::span<std::byte>> workspace;           // per op
  std::vector<std::vector<std::span<std::byte>>> freed;  // per op
};

struct LoadedProgram {
  const Program* program = nullptr;
  std::vector<LoadedBinding> bindings;
  std::vector<int> lane_actions[lanes];  // indices of actions, in lane order
  std::vector<int> ordinal;              // of an action within its lane
};

// `arena` may be null (a backend that owns no memory): tensors are then empty.
LoadedProgram load_program(const Program& program, std::byte* arena, Workers workers);

}  // namespace sluice
