#include "executor/visit_ops.h"

#include <set>

#include "executor/loaded.h"

namespace sluice {

void visit_ops(const Program& program, Workers workers,
               const std::function<void(const Op&, const Frame&)>& visit) {
  // As well aligned as memory of any backend.
  auto* const nowhere = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 32);
  LoadedProgram loaded(program, nowhere, workers);
  std::set<std::pair<int, bool>> seen;
  for (const int index : loaded.lane_actions[static_cast<int>(Lane::compute)]) {
    const Action& action = program.actions[static_cast<std::size_t>(index)];
    if (action.copies() || !seen.emplace(action.list, action.first).second) continue;
    LoadedList& list = loaded.lists[static_cast<std::size_t>(action.list)];
    const OpList& what = program.list_of(action);
    list.move_to(action.at);
    for (std::size_t i = 0; i < what.ops.size(); ++i)
      visit(what.ops[i], {list.values(), list.workspace(i), action.first, action.layer});
  }
}

}  // namespace sluice
