#include "executor/loaded.h"

namespace sluice {

LoadedList::LoadedList(const OpList& list, const LayerGraph& graph, std::byte* arena,
                       Workers workers)
    : list_(&list), arena_(arena), types_(graph.types()), values_(types_.size()) {
  for (const Op& op : list.ops) workspace_bytes_.push_back(workspace_bytes(op, types_, workers));
}

void LoadedList::move_to(const Bases& at) {
  if (arena_ == nullptr) return;
  for (std::size_t v = 0; v < types_.size(); ++v) {
    const std::int64_t offset = list_->values[v].in(at);
    values_[v] = offset < 0 ? Tensor{} : Tensor(arena_ + offset, types_[v].dtype, types_[v].shape);
  }
  frame_ = arena_ + at[Base::frame];
}

std::span<std::byte> LoadedList::workspace(std::size_t op) const {
  if (frame_ == nullptr || workspace_bytes_[op] == 0) return {};
  return {frame_ + list_->workspace[op], static_cast<std::size_t>(workspace_bytes_[op])};
}

std::span<std::byte> LoadedList::freed(const FreedRange& range, const Bases& at) const {
  const std::int64_t offset = range.spot.in(at);
  if (arena_ == nullptr || offset < 0) return {};
  return {arena_ + offset, static_cast<std::size_t>(range.bytes)};
}

LoadedProgram::LoadedProgram(const Program& from, std::byte* arena, Workers workers)
    : program(&from) {
  for (const OpList& list : from.lists)
    lists.emplace_back(list, from.model->of(list.kind), arena, workers);
  for (const Action& action : from.actions) {
    auto& lane = lane_actions[static_cast<int>(action.lane)];
    ordinal.push_back(static_cast<int>(lane.size()));
    lane.push_back(static_cast<int>(ordinal.size()) - 1);
  }
}

}  // namespace sluice
