#include "program/program.h"

namespace sluice {

std::string_view name_of(Lane lane) {
  static constexpr std::string_view names[] = {"compute", "in", "out", "read", "write"};
  return names[static_cast<std::size_t>(lane)];
}

Marks::Marks(int batch_slots, int stash_slots, const Residency& residency, int layers)
    : count_(batch_slots) {
  for (int k = 0; k < copied_kinds; ++k) {
    const auto kind = static_cast<Kind>(k);
    first_slot_[static_cast<std::size_t>(k)] = count_;
    count_ += 2 * (kind == Kind::stash ? stash_slots : residency.slots(kind));
  }
  first_home_ = count_;
  count_ += layers * copied_kinds;
  for (int layer = 0; layer < layers; ++layer)
    for (int kind = 0; kind < copied_kinds; ++kind)
      on_disk_.push_back(residency.tier(layer, static_cast<Kind>(kind)) == Tier::disk);
  for (int kind = 0; kind < copied_kinds; ++kind) {
    first_staging_[static_cast<std::size_t>(kind)] = count_;
    count_ += 2 * residency.stagings(static_cast<Kind>(kind));
  }
}

Lane Marks::lane(Mark mark) const {
  if (mark < first_slot_[0]) return Lane::compute;
  if (mark >= first_staging_[0])
    return (mark - first_staging_[0]) % 2 == 0 ? Lane::in : Lane::disk_write;
  if (mark >= first_home_)
    return on_disk_[static_cast<std::size_t>(mark - first_home_)] ? Lane::disk_write : Lane::out;
  return (mark - first_slot_[0]) % 2 == 0 ? Lane::compute : Lane::out;
}

std::string Marks::name(Mark mark, const ModelGraphs& model) const {
  if (mark < first_slot_[0]) return fmt::format("last read of slot {}", mark);
  if (mark >= first_home_ && mark < first_staging_[0])
    return fmt::format("last {} of {} {}", lane(mark) == Lane::out ? "leave" : "write",
                       name_of(static_cast<Kind>((mark - first_home_) % copied_kinds)),
                       model.layer_name((mark - first_home_) / copied_kinds));
  const bool staging = mark >= first_staging_[0];
  const auto& first = staging ? first_staging_ : first_slot_;
  int kind = copied_kinds - 1;
  while (first[static_cast<std::size_t>(kind)] > mark) --kind;
  const int offset = mark - first[static_cast<std::size_t>(kind)];
  const char* const slot_words[] = {"use of", "leave from"};
  const char* const staging_words[] = {"fetch from", "write from"};
  return fmt::format("last {} {} {} {}", (staging ? staging_words : slot_words)[offset % 2],
                     name_of(static_cast<Kind>(kind)), staging ? "staging" : "slot", offset / 2);
}

std::string Program::action_name(int index) const {
  const Action& action = actions[static_cast<std::size_t>(index)];
  if (action.phase == Phase::load) return fmt::format("load micro {}", action.micro);
  if (action.phase == Phase::finish) return "finish";
  const std::string layer = model->layer_name(action.layer);
  if (action.kind == Kind::stash)
    return fmt::format("{} {} {} micro {}", name_of(action.phase), name_of(action.kind), layer,
                       action.micro);
  if (action.copies())
    return fmt::format("{} {} {}", name_of(action.phase), name_of(action.kind), layer);
  if (action.phase == Phase::update || action.phase == Phase::derive ||
      action.phase == Phase::norm || action.phase == Phase::unpack)
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

ProgramSet::Home ProgramSet::home(int layer, std::string_view value) const {
  const LayerGraph& graph = model->of(model->kind_of(layer));
  const Value& wanted = graph[graph.require_value(value)];
  const int owner = residency->owner_of(graph.kind, layer, wanted);
  const Place place = residency->find(graph.kind, wanted);
  require(place.known() && owner >= 0, [&] {
    return Error(fmt::format("{} of {} does not outlive a step", value, model->layer_name(layer)));
  });
  for (const Kind kind : owned_kinds)
    if (place.region == region_of(kind) && residency->home(owner, kind) >= 0) {
      const Tier tier = residency->tier(owner, kind);
      const std::int64_t blob = memory.begin(tier) + residency->home(owner, kind);
      return {tier, kind, blob, blob + place.offset};
    }
  const std::int64_t blob = memory.base(place.region) + residency->blob(owner, place.region);
  return {Tier::device, Kind::count, blob, blob + place.offset};
}

std::int64_t ProgramSet::global_offset(const std::string& name) const {
  const Place place = residency->global(name);
  require(place.known(), [&] { return Error(fmt::format("no global value is called {}", name)); });
  return memory.base(place.region) + place.offset;
}

}  // namespace sluice
