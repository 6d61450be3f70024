#include "program/accesses.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace sluice {

Accesses::Accesses(const ProgramSet& set, const Program& before, const Program& program)
    : arena_(set.memory.total()), all_(arena_ + set.memory.host_bytes()), workers_(set.workers) {
  intern("batch data");  // batch_data()
  add(0, before);
  add(1, program);
  mirror_cuts();
}

// Values are told apart at one end of a copy as they are at the other: what a stash slot tells
// apart reaches a home, and from there another slot.
void Accesses::mirror_cuts() {
  const auto sort = [&] {
    std::sort(cuts_.begin(), cuts_.end());
    cuts_.erase(std::unique(cuts_.begin(), cuts_.end()), cuts_.end());
  };
  sort();
  for (std::size_t count = 0; count != cuts_.size();) {
    count = cuts_.size();
    const std::vector<std::int64_t> known = cuts_;
    const auto mirror = [&](std::int64_t from, std::int64_t to, std::int64_t bytes) {
      auto cut = std::lower_bound(known.begin(), known.end(), from);
      for (; cut != known.end() && *cut <= from + bytes; ++cut) cuts_.push_back(*cut - from + to);
    };
    for (const Mirror& one : mirrors_) {
      mirror(one.slot, one.home, one.bytes);
      mirror(one.home, one.slot, one.bytes);
    }
    sort();
  }
}

const Trace& Accesses::of(int run, const Action& action) const {
  return action.list < 0 ? none_ : traces_[run][static_cast<std::size_t>(action.list)];
}

Spans Accesses::spans_of(const Action& action, const Touch& touch) const {
  const std::int64_t begin = touch.spot.in(action.at);
  return {span_at(begin), span_at(begin + touch.bytes)};
}

Meaning Accesses::meaning(const Action& action, const Touch& touch) {
  Meaning out = touch.meaning;
  if (touch.relative) out.layer += action.layer;
  return out;
}

void Accesses::add(int run, const Program& program) {
  for (const OpList& list : program.lists) traces_[run].push_back(trace(program, list));
  // Actions share lists and bases: each pair of them is cut once.
  std::set<std::tuple<int, Base, std::int64_t>> seen;
  for (int index = 0; index < static_cast<int>(program.actions.size()); ++index) {
    const Action& action = program.actions[static_cast<std::size_t>(index)];
    if (action.copies()) {
      cut_copy(program, index);
      continue;
    }
    require(action.list >= 0 && action.list < static_cast<int>(program.lists.size()),
            [&] { return Error(fmt::format("{} has no op list", program.action_name(index))); });
    std::array<int, static_cast<std::size_t>(Base::count) + 1> is_new;
    is_new.fill(-1);
    for (const Touch& touch : of(run, action)) {
      const Base base = touch.spot.base;
      int& fresh = is_new[static_cast<std::size_t>(base)];
      if (fresh < 0) {
        const std::int64_t at = touch.spot.known() ? action.at[base] : -1;
        fresh = seen.emplace(action.list, base, at).second ? 1 : 0;
      }
      if (fresh == 1) cut(program, index, touch);
    }
  }
}

void Accesses::cut_copy(const Program& program, int index) {
  const Action& action = program.actions[static_cast<std::size_t>(index)];
  const bool fetch = action.phase == Phase::fetch, leave = action.phase == Phase::leave;
  const bool keep = action.phase == Phase::keep;
  const auto within = [&](std::int64_t offset, std::int64_t begin, std::int64_t end) {
    return offset >= begin && offset <= end - action.bytes;
  };
  const std::int64_t slot = leave ? action.from : action.to;
  const std::int64_t home = leave ? action.to : action.from;
  require(
      action.list < 0 && action.bytes > 0 && within(slot, 0, arena_) &&
          (!(fetch || leave) || within(home, arena_, all_)) && (!keep || within(home, 0, arena_)),
      [&] {
        return Error(Exit::internal,
                     {fmt::format("{} copies from or to no place", program.action_name(index)),
                      fmt::format("program {}", program.name),
                      fmt::format("within {} and {} bytes", arena_, all_ - arena_),
                      fmt::format("{} bytes from {} to {}", action.bytes, action.from, action.to),
                      {}});
      });
  cuts_.insert(cuts_.end(), {slot, slot + action.bytes});
  if (fetch || leave || keep) mirrors_.insert({slot, home, action.bytes});
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
