#include "program/accesses.h"

#include <algorithm>
#include <iterator>
#include <unordered_set>

namespace sluice {

Accesses::Accesses(const ProgramSet& set, const Program& before, const Program& program)
    : memory_(set.memory), arena_(set.memory.total()), workers_(set.workers) {
  intern("batch data");  // batch_data()
  add(0, before);
  add(1, program);
  mirror_cuts();
}

// Values are told apart at one end of a copy as they are at the other: what a slot tells apart
// reaches staging slots and homes, and from a home that two forms or two slots share other slots.
// Only what a round has cut can cut more in the next.
void Accesses::mirror_cuts() {
  const auto sort = [](std::vector<std::int64_t>& cuts) {
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  };
  sort(cuts_);
  std::vector<std::int64_t> fresh = cuts_, made;
  while (!fresh.empty()) {
    made.clear();
    const auto mirror = [&](std::int64_t from, std::int64_t to, std::int64_t bytes) {
      auto cut = std::lower_bound(fresh.begin(), fresh.end(), from);
      for (; cut != fresh.end() && *cut <= from + bytes; ++cut, ++looks_)
        made.push_back(*cut - from + to);
    };
    for (const Mirror& one : mirrors_) {
      mirror(one.near, one.far, one.bytes);
      mirror(one.far, one.near, one.bytes);
    }
    sort(made);
    fresh.clear();
    std::set_difference(made.begin(), made.end(), cuts_.begin(), cuts_.end(),
                        std::back_inserter(fresh));
    const auto known = static_cast<std::ptrdiff_t>(cuts_.size());
    cuts_.insert(cuts_.end(), fresh.begin(), fresh.end());
    std::inplace_merge(cuts_.begin(), cuts_.begin() + known, cuts_.end());
  }
}

const Trace& Accesses::of(int run, const Action& action) const {
  return action.list < 0 ? none_ : traces_[run][static_cast<std::size_t>(action.list)];
}

std::size_t Accesses::Hash::operator()(const At& at) const {
  const auto place = static_cast<std::uint64_t>(at.offset) * 0x9E3779B97F4A7C15u;
  const auto what = static_cast<std::uint64_t>(at.trace) * 32 + static_cast<std::uint64_t>(at.base);
  return (place ^ (place >> 29)) + what * 0xBF58476D1CE4E5B9u;
}

std::span<const Spans> Accesses::spans_of(int run, const Action& action) {
  const auto list = static_cast<std::size_t>(action.list);
  const Trace& trace = traces_[run][list];
  spans_.resize(trace.size());
  for (std::size_t b = 0; b < by_base_[run][list].size(); ++b) {
    const std::vector<int>& touches = by_base_[run][list][b];
    if (touches.empty()) continue;
    const auto base = static_cast<Base>(b);
    const std::int64_t at = base == Base::count ? -1 : action.at[base];
    const auto [known, is_new] =
        known_.try_emplace({2 * action.list + run, base, at}, found_.size());
    if (is_new)
      for (const int t : touches) {
        const Touch& touch = trace[static_cast<std::size_t>(t)];
        const std::int64_t begin = touch.spot.in(action.at);
        found_.push_back({span_at(begin), span_at(begin + touch.bytes)});
      }
    for (std::size_t i = 0; i < touches.size(); ++i)
      spans_[static_cast<std::size_t>(touches[i])] = found_[known->second + i];
  }
  return spans_;
}

Meaning Accesses::meaning(const Action& action, const Touch& touch) {
  Meaning out = touch.meaning;
  if (touch.relative) out.layer += action.layer;
  return out;
}

void Accesses::sort_by_base(const Trace& trace, ByBase& out) const {
  for (std::size_t t = 0; t < trace.size(); ++t)
    out[static_cast<std::size_t>(trace[t].spot.base)].push_back(static_cast<int>(t));
}

void Accesses::add(int run, const Program& program) {
  for (const OpList& list : program.lists) {
    traces_[run].push_back(trace(program, list));
    sort_by_base(traces_[run].back(), by_base_[run].emplace_back());
  }
  // Actions share lists and bases: each pair of them is cut once.
  std::unordered_set<At, Hash> seen;
  for (int index = 0; index < static_cast<int>(program.actions.size()); ++index) {
    const Action& action = program.actions[static_cast<std::size_t>(index)];
    if (action.copies()) {
      cut_copy(program, index);
      continue;
    }
    require(action.list >= 0 && action.list < static_cast<int>(program.lists.size()),
            [&] { return Error(fmt::format("{} has no op list", program.action_name(index))); });
    const auto list = static_cast<std::size_t>(action.list);
    for (std::size_t b = 0; b < by_base_[run][list].size(); ++b) {
      const auto base = static_cast<Base>(b);
      const std::vector<int>& touches = by_base_[run][list][b];
      if (touches.empty()) continue;
      const std::int64_t at = base == Base::count ? -1 : action.at[base];
      ++looks_;
      if (!seen.insert({action.list, base, at}).second) continue;
      for (const int t : touches)
        cut(program, index, traces_[run][list][static_cast<std::size_t>(t)]);
    }
  }
}

void Accesses::cut_copy(const Program& program, int index) {
  const Action& action = program.actions[static_cast<std::size_t>(index)];
  const bool load = action.phase == Phase::load, keep = action.phase == Phase::keep;
  const bool disk = action.phase == Phase::read || action.phase == Phase::write;
  const bool away = action.phase == Phase::leave || action.phase == Phase::write;
  const auto within = [&](std::int64_t offset, Tier tier) {
    return offset >= memory_.begin(tier) && offset <= memory_.end(tier) - action.bytes;
  };
  const std::int64_t near = away ? action.from : action.to;
  const std::int64_t far = away ? action.to : action.from;
  const Tier far_tier = disk ? Tier::disk : keep ? Tier::device : Tier::host;
  require(action.list < 0 && action.bytes > 0 && within(near, disk ? Tier::host : Tier::device) &&
              (load || within(far, far_tier)),
          [&] {
            return Error(
                Exit::internal,
                {fmt::format("{} copies from or to no place", program.action_name(index)),
                 fmt::format("program {}", program.name),
                 fmt::format("within {}, {} and {} bytes of device, host and disk", arena_,
                             memory_.host_bytes(), memory_.disk_bytes()),
                 fmt::format("{} bytes from {} to {}", action.bytes, action.from, action.to),
                 {}});
          });
  cuts_.insert(cuts_.end(), {near, near + action.bytes});
  if (!load) mirrors_.insert({near, far, action.bytes});
}

// Places where the bytes of a touch begin and end.
void Accesses::cut(const Program& program, int index, const Touch& touch) {
  const Action& action = program.actions[static_cast<std::size_t>(index)];
  const std::int64_t begin = touch.spot.in(action.at);
  require(begin >= 0 && touch.bytes > 0 && begin <= arena_ - touch.bytes, [&] {
    return Error(
        Exit::internal,
        {fmt::format("{} has no place for {}", program.action_name(index), name(touch.meaning)),
         fmt::format("program {}", program.name),
         fmt::format("{} bytes within the {} of the plan", touch.bytes, arena_),
         fmt::format("offset {}", begin),
         {}});
  });
  cuts_.insert(cuts_.end(), {begin, begin + touch.bytes});
}

Trace Accesses::trace(const Program& program, const OpList& list) {
  const LayerGraph& graph = program.model->of(list.kind);
  require(list.values.size() == graph.values.size() && list.workspace.size() == list.ops.size(),
          [&] {
            return Error(fmt::format("program {}: the places of {} are of another op list",
                                     program.name, list.name));
          });
  const std::vector<ValueType> types = graph.types();
  const auto scratch = [&](int op, const char* what, const Spot& spot, std::int64_t bytes) {
    return Touch{.op = op,
                 .reads = false,
                 .writes = true,
                 .accumulates = false,
                 .scratch = true,
                 .spot = spot,
                 .bytes = bytes,
                 .meaning = {ValueKind::activation, 0, intern(what)},
                 .relative = true};
  };
  Trace out;
  const auto operands = [&](int op, bool writing) {
    for_each_operand(list.ops[static_cast<std::size_t>(op)], [&](Id id, Access access) {
      const bool writes = access != Access::read;
      if (writes != writing) return;
      Touch touch = touch_of(program, graph, id);
      touch.op = op;
      touch.reads = access != Access::write;
      touch.writes = writes;
      touch.accumulates = access == Access::accumulate;
      touch.spot = list.values[static_cast<std::size_t>(id)];
      out.push_back(touch);
    });
  };
  for (int op = 0; op < static_cast<int>(list.ops.size()); ++op) {
    operands(op, false);
    operands(op, true);
    const auto o = static_cast<std::size_t>(op);
    if (const auto bytes = workspace_bytes(list.ops[o], types, workers_); bytes > 0) {
      const Spot spot = list.workspace[o] < 0 ? Spot{} : Spot{Base::frame, list.workspace[o]};
      out.push_back(scratch(op, "scratch", spot, bytes));
    }
    for (const FreedRange& freed : list.freed)
      if (freed.op == op && freed.spot.known())
        // Its own op number: not an access of the op itself.
        out.push_back(scratch(-1, "freed bytes", freed.spot, freed.bytes));
  }
  return out;
}

Touch Accesses::touch_of(const Program& program, const LayerGraph& graph, Id id) {
  const Value& value = graph[id];
  Touch out{};
  out.bytes = value_bytes(value.type);
  const auto means = [&](ValueKind kind, int layer, const std::string& name, bool relative) {
    out.meaning = {kind, layer, intern(name)};
    out.relative = relative;
    return out;
  };
  switch (value.kind) {
    case ValueKind::batch:
    case ValueKind::global:
      return means(value.kind, -1, value.name, false);
    case ValueKind::weight:
    case ValueKind::gradient:
    case ValueKind::packed:
    case ValueKind::state:
    case ValueKind::derived:
      if (value.owner == graph.kind) return means(value.kind, 0, value.name, true);
      return means(value.kind,
                   value.owner == LayerKind::embedding ? 0 : program.model->layer_count() - 1,
                   value.owner_name, false);
    case ValueKind::cache:
    case ValueKind::activation:
    case ValueKind::carry:
      break;
  }
  const char* const x = "the activation between layers";
  const char* const dx = "its gradient between layers";
  if (id == graph.carry_in) return means(ValueKind::carry, 0, x, true);
  if (id == graph.carry_out) return means(ValueKind::carry, 1, x, true);
  if (id == graph.d_carry_in) return means(ValueKind::carry, 0, dx, true);
  if (id == graph.d_carry_out) return means(ValueKind::carry, 1, dx, true);
  const char* const side = "the activation beside it";
  const char* const d_side = "its gradient beside it";
  if (id == graph.side_in) return means(ValueKind::carry, 0, side, true);
  if (id == graph.side_out) return means(ValueKind::carry, 1, side, true);
  if (id == graph.d_side_in) return means(ValueKind::carry, 0, d_side, true);
  if (id == graph.d_side_out) return means(ValueKind::carry, 1, d_side, true);
  return means(value.kind, 0, value.name, true);
}

int Accesses::intern(const std::string& name) {
  const auto [found, is_new] = ids_.try_emplace(name, static_cast<int>(names_.size()));
  if (is_new) names_.push_back(name);
  return found->second;
}

int Accesses::span_at(std::int64_t offset) const {
  return static_cast<int>(std::lower_bound(cuts_.begin(), cuts_.end(), offset) - cuts_.begin());
}

}  // namespace sluice
