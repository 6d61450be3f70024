// A program made ready to run: what the executor need not work out for every action again.
#pragma once

#include <span>
#include <vector>

#include "core/tensor.h"
#include "program/program.h"

namespace sluice {

// The operands of an op list. An action moves them to where its bases say; one thread.
class LoadedList {
 public:
  // `arena` may be null (a backend that owns no memory): tensors are then empty.
  LoadedList(const OpList& list, const LayerGraph& graph, std::byte* arena, Workers workers);

  void move_to(const Bases& at);
  std::span<const Tensor> values() const { return values_; }
  std::span<std::byte> workspace(std::size_t op) const;
  // The bytes of a freed range; empty when it is not there.
  std::span<std::byte> freed(const FreedRange& range, const Bases& at) const;

 private:
  const OpList* list_;
  std::byte* arena_;
  std::vector<ValueType> types_;
  std::vector<std::int64_t> workspace_bytes_;  // per op
  std::vector<Tensor> values_;
  std::byte* frame_ = nullptr;
};

struct LoadedProgram {
  LoadedProgram(const Program& program, std::byte* arena, Workers workers);

  const Program* program;
  std::vector<LoadedList> lists;
  std::vector<int> lane_actions[lanes];  // indices of actions, in lane order
  std::vector<int> ordinal;              // of an action within its lane
};

}  // namespace sluice
