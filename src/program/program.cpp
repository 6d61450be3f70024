#include "program/program.h"

namespace sluice {

std::string_view name_of(Lane lane) { return lane == Lane::compute ? "compute" : "in"; }

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
  const Place place = residency->find(*model, layer, graph[graph.require_value(value)]);
  require(place.known(), [&] {
    return Error(fmt::format("{} of {} does not outlive a step", value, model->layer_name(layer)));
  });
  return memory.base(place.region) + place.offset;
}

std::int64_t ProgramSet::global_offset(const std::string& name) const {
  const Place place = residency->global(name);
  require(place.known(), [&] { return Error(fmt::format("no global value is called {}", name)); });
  return memory.base(place.region) + place.offset;
}

}  // namespace sluice
