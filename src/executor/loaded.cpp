#include "executor/loaded.h"

namespace sluice {
namespace {

LoadedBinding load_binding(const Binding& binding, const LayerGraph& graph,
                           const std::vector<Op>& ops, std::byte* arena, Workers workers) {
  LoadedBinding out;
  const std::vector<ValueType> types = graph.types();
  for (std::size_t v = 0; v < types.size(); ++v)
    out.values.push_back(binding.offsets[v] < 0 || arena == nullptr
                             ? Tensor{}
                             : Tensor(arena + binding.offsets[v], types[v].dtype, types[v].shape));
  out.freed.resize(ops.size());
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const std::int64_t bytes = workspace_bytes(ops[i], types, workers);
    out.workspace.push_back(
        binding.workspace[i] < 0 || bytes == 0 || arena == nullptr
            ? std::span<std::byte>{}
            : std::span{arena + binding.workspace[i], static_cast<std::size_t>(bytes)});
  }
  if (arena == nullptr) return out;
  for (const FreedRange& range : binding.freed)
    if (range.offset >= 0)
      out.freed[static_cast<std::size_t>(range.op)].emplace_back(
          arena + range.offset, static_cast<std::size_t>(range.bytes));
  return out;
}

}  // namespace

LoadedProgram load_program(const Program& program, std::byte* arena, Workers workers) {
  LoadedProgram out;
  out.program = &program;
  out.bindings.resize(program.bindings.size());
  for (const Action& action : program.actions) {
    auto& lane = out.lane_actions[static_cast<int>(action.lane)];
    out.ordinal.push_back(static_cast<int>(lane.size()));
    lane.push_back(static_cast<int>(out.ordinal.size()) - 1);
    if (action.binding < 0) continue;
    LoadedBinding& binding = out.bindings[static_cast<std::size_t>(action.binding)];
    if (!binding.values.empty()) continue;
    const OpList& list = program.lists[static_cast<std::size_t>(action.list)];
    binding = load_binding(program.bindings[static_cast<std::size_t>(action.binding)],
                           program.model->of(list.kind), list.ops, arena, workers);
  }
  return out;
}

}  // namespace sluice
