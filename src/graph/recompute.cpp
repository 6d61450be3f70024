#include "graph/recompute.h"

#include <algorithm>

namespace sluice {
namespace {

constexpr std::string_view names[] = {"none", "selective", "block"};

bool remakeable(const Op& op, Recompute level) {
  bool adds = false;  // an op that adds to an accumulator may run only once
  for_each_operand(op, [&](Id, Access access) {
    adds |= access == Access::accumulate || access == Access::update;
  });
  if (adds || level == Recompute::none) return false;
  if (level == Recompute::block) return true;
  if (const auto* gelu = std::get_if<Gelu>(&op); gelu != nullptr && gelu->in_product) return false;
  return std::holds_alternative<LayerNorm>(op) || std::holds_alternative<Gelu>(op) ||
         std::holds_alternative<Cast>(op);
}

bool is_activation(const Value& value) {
  return value.kind == ValueKind::activation || value.kind == ValueKind::carry;
}

}  // namespace

std::string_view name_of(Recompute level) { return names[static_cast<std::size_t>(level)]; }

Recompute parse_recompute(std::string_view name) {
  for (std::size_t i = 0; i < std::size(names); ++i)
    if (names[i] == name) return static_cast<Recompute>(i);
  throw Error(Exit::usage, {fmt::format("no recompute level is called {}", name),
                            {},
                            "none, selective or block",
                            std::string(name),
                            {}});
}

Kept choose_kept(const LayerGraph& graph, Recompute level) {
  // Which op of F makes a value; -1: none (weights, batch, the layer's input, gradients).
  std::vector<int> maker(graph.values.size(), -1);
  for (std::size_t i = 0; i < graph.forward.size(); ++i)
    for_each_operand(graph.forward[i], [&](Id id, Access access) {
      if (access == Access::write) maker[static_cast<std::size_t>(id)] = static_cast<int>(i);
    });

  Kept kept;
  kept.stash.assign(graph.values.size(), false);
  std::vector<bool> rerun(graph.forward.size(), false);
  std::vector<Id> needed;
  std::vector<bool> made_in_backward(graph.values.size(), false);
  for (const auto* list : {&graph.input_grad, &graph.weight_grad})
    for (const Op& op : *list)
      for_each_operand(op, [&](Id id, Access access) {
        if (access == Access::write) made_in_backward[static_cast<std::size_t>(id)] = true;
        if (access == Access::read) needed.push_back(id);
      });
  const auto comes_from_above = [&](Id id) {
    return id == graph.d_carry_out || id == graph.d_side_out;
  };
  while (!needed.empty()) {
    const Id id = needed.back();
    const auto index = static_cast<std::size_t>(id);
    needed.pop_back();
    if (!is_activation(graph[id]) || made_in_backward[index] || comes_from_above(id)) continue;
    const int op = maker[index];
    if (op < 0 || !remakeable(graph.forward[static_cast<std::size_t>(op)], level)) {
      kept.stash[index] = true;
    } else if (!rerun[static_cast<std::size_t>(op)]) {
      rerun[static_cast<std::size_t>(op)] = true;
      for_each_operand(graph.forward[static_cast<std::size_t>(op)], [&](Id input, Access access) {
        if (access == Access::read) needed.push_back(input);
      });
    }
  }
  // A product that was made together with its GELU is made so again, whoever needs it.
  for (std::size_t i = 0; i + 1 < rerun.size(); ++i)
    if (const auto* gelu = std::get_if<Gelu>(&graph.forward[i + 1]);
        rerun[i] && gelu != nullptr && gelu->in_product)
      rerun[i + 1] = true;
  for (std::size_t i = 0; i < rerun.size(); ++i)
    if (rerun[i]) kept.recompute.push_back(graph.forward[i]);
  return kept;
}

}  // namespace sluice
