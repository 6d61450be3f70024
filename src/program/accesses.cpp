#include "program/accesses.h"

#include <algorithm>

namespace sluice {

Accesses::Accesses(const ProgramSet& set, const Program& before, const Program& program)
    : set_(set), arena_(set.memory.total()) {
  add(0, before);
  add(1, program);
  std::sort(cuts_.begin(), cuts_.end());
  cuts_.erase(std::unique(cuts_.begin(), cuts_.end()), cuts_.end());
  for (int run = 0; run < 2; ++run)
    for (auto& [key, trace] : traces_[run]) {
      const std::vector<Bytes>& bytes = bytes_[run].at(key);
      for (std::size_t i = 0; i < trace.size(); ++i) {
        trace[i].first_span = span_at(bytes[i].begin);
        trace[i].last_span = span_at(bytes[i].end);
      }
    }
}

const Trace& Accesses::of(int run, const Action& action) const {
  return action.list < 0 ? none_ : traces_[run].at({action.list, action.binding});
}

Touch Accesses::load(const Action& action) const {
  const Meaning batch{ValueKind::batch, -1, ids_.at("batch data")};
  return {.op = 0,
          .reads = false,
          .writes = true,
          .accumulates = false,
          .scratch = false,
          .first_span = span_at(action.load_offset),
          .last_span = span_at(action.load_offset + action.load_bytes),
          .meaning = batch};
}

void Accesses::add(int run, const Program& program) {
  intern("batch data");
  for (int index = 0; index < static_cast<int>(program.actions.size()); ++index) {
    const Action& action = program.actions[static_cast<std::size_t>(index)];
    std::vector<Bytes> bytes;
    if (action.phase == Phase::load) {
      bytes.push_back(place(program, index, "its batch", action.load_offset, action.load_bytes));
    } else {
      const std::pair key{action.list, action.binding};
      if (traces_[run].contains(key)) continue;
      traces_[run][key] = trace(program, index, bytes);
      bytes_[run][key] = bytes;
    }
    for (const Bytes& one : bytes) cuts_.insert(cuts_.end(), {one.begin, one.end});
  }
}

Trace Accesses::trace(const Program& program, int index, std::vector<Bytes>& bytes) {
  const Action& action = program.actions[static_cast<std::size_t>(index)];
  const auto has = [](int i, const auto& table) {
    return i >= 0 && i < static_cast<int>(table.size());
  };
  require(has(action.list, program.lists) && has(action.binding, program.bindings), [&] {
    return Error(fmt::format("{} has no op list or no binding", program.action_name(index)));
  });
  const OpList& list = program.lists[static_cast<std::size_t>(action.list)];
  const Binding& binding = program.bindings[static_cast<std::size_t>(action.binding)];
  const LayerGraph& graph = program.model->of(list.kind);
  require(
      binding.offsets.size() == graph.values.size() && binding.workspace.size() == list.ops.size(),
      [&] {
        return Error(
            fmt::format("{}: its binding is of another op list", program.action_name(index)));
      });
  const std::vector<ValueType> types = graph.types();
  const Meaning nothing{ValueKind::activation, action.layer, intern("scratch")};
  Trace out;
  const auto touch = [&](Touch one, const std::string& what, std::int64_t at, std::int64_t size) {
    out.push_back(one);
    bytes.push_back(place(program, index, what, at, size));
  };
  const auto operands = [&](int op, bool writing) {
    for_each_operand(list.ops[static_cast<std::size_t>(op)], [&](Id id, Access access) {
      const bool writes = access != Access::read;
      if (writes != writing) return;
      touch({op, access != Access::write, writes, access == Access::accumulate, false, 0, 0,
             meaning(program, graph, action.layer, id)},
            graph[id].name, binding.offsets[static_cast<std::size_t>(id)],
            value_bytes(graph[id].type));
    });
  };
  for (int op = 0; op < static_cast<int>(list.ops.size()); ++op) {
    operands(op, false);
    operands(op, true);
    const auto o = static_cast<std::size_t>(op);
    if (const auto size = workspace_bytes(list.ops[o], types, set_.workers); size > 0)
      touch({op, false, true, false, true, 0, 0, nothing}, "scratch", binding.workspace[o], size);
    for (const FreedRange& freed : binding.freed)
      if (freed.op == op && freed.offset >= 0)  // its own op number: not an access of the op itself
        touch({-1, false, true, false, true, 0, 0, nothing}, "freed bytes", freed.offset,
              freed.bytes);
  }
  return out;
}

Meaning Accesses::meaning(const Program& program, const LayerGraph& graph, int layer, Id id) {
  const Value& value = graph[id];
  switch (value.kind) {
    case ValueKind::batch:
    case ValueKind::global:
      return {value.kind, -1, intern(value.name)};
    case ValueKind::weight:
    case ValueKind::gradient:
    case ValueKind::state:
    case ValueKind::derived: {
      if (value.owner == graph.kind) return {value.kind, layer, intern(value.name)};
      const int owner = value.owner == LayerKind::embedding ? 0 : program.model->layer_count() - 1;
      return {value.kind, owner, intern(value.owner_name)};
    }
    case ValueKind::cache:
    case ValueKind::activation:
    case ValueKind::carry:
      break;
  }
  const int x = intern("the activation between layers"), dx = intern("its gradient between layers");
  if (id == graph.carry_in) return {ValueKind::carry, layer, x};
  if (id == graph.carry_out) return {ValueKind::carry, layer + 1, x};
  if (id == graph.d_carry_in) return {ValueKind::carry, layer, dx};
  if (id == graph.d_carry_out) return {ValueKind::carry, layer + 1, dx};
  return {value.kind, layer, intern(value.name)};
}

Accesses::Bytes Accesses::place(const Program& program, int index, const std::string& what,
                                std::int64_t offset, std::int64_t size) const {
  require(offset >= 0 && size > 0 && offset <= arena_ - size, [&] {
    return Error(Exit::internal,
                 {fmt::format("{} has no place for {}", program.action_name(index), what),
                  fmt::format("program {}", program.name),
                  fmt::format("{} bytes within the {} of the plan", size, arena_),
                  fmt::format("offset {}", offset),
                  {}});
  });
  return {offset, offset + size};
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
