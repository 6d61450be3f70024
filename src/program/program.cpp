#include "program/program.h"

namespace sluice {

std::string_view name_of(Lane lane) { return lane == Lane::compute ? "compute" : "in"; }

int Program::last_read(int slot) const {
  const int end = static_cast<int>(actions.size()) - 1;
  if (slot < 0 || slot >= static_cast<int>(last_reads.size())) return end;
  const int action = last_reads[static_cast<std::size_t>(slot)];
  return action >= 0 ? action : end;
}

std::string Program::action_name(int index) const {
  const Action& action = actions[static_cast<std::size_t>(index)];
  if (action.phase == Phase::load) return fmt::format("load micro {}", action.micro);
  if (action.phase == Phase::finish) return "finish";
  const std::string layer = model->layer_name(action.layer);
  if (action.phase == Phase::update || action.phase == Phase::derive || action.phase == Phase::norm)
    return fmt::format("{} {}", name_of(action.phase), layer);
  return fmt::format("{} {} micro {}", name_of(action.phase), layer, action.micro);
}

int ProgramSet::index_of(std::string_view name) const {
  for (std::size_t i = 0; i < programs.size(); ++i)
    if (programs[i].name == name) return static_cast<int>(i);
  throw Error(fmt::format("no program is called {}", name));
}

const Program& ProgramSet::named(std::string_view name) const {
  return programs[static_cast<std::size_t>(index_of(name))];
}

std::int64_t ProgramSet::offset(int layer, std::string_view value) const {
  const LayerGraph& graph = model->of(model->kind_of(layer));
  const Value& wanted = graph[graph.require_value(value)];
  const int owner = residency->owner_of(graph.kind, layer, wanted);
  const Place place = residency->find(graph.kind, wanted);
  require(place.known() && owner >= 0, [&] {
    return Error(fmt::format("{} of {} does not outlive a step", value, model->layer_name(layer)));
  });
  return memory.base(place.region) + residency->blob(owner, place.region) + place.offset;
}

std::int64_t ProgramSet::global_offset(const std::string& name) const {
  const Place place = residency->global(name);
  require(place.known(), [&] { return Error(fmt::format("no global value is called {}", name)); });
  return memory.base(place.region) + place.offset;
}

}  // namespace sluice
