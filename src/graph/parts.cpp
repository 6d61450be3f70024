#include "graph/parts.h"

#include <algorithm>

namespace sluice {
namespace {

// The values of a graph that a part of its ops uses, in their order, and under their names.
class Part {
 public:
  Part(const LayerGraph& whole, LayerKind kind, int begin, int end)
      : whole_(whole), begin_(begin), end_(end), id_of_(whole.values.size(), no_value) {
    graph_.kind = kind;
    std::vector<bool> used(whole.values.size());
    for (int op = begin; op < end; ++op)
      for_each_operand(whole.forward[static_cast<std::size_t>(op)],
                       [&](Id id, Access) { used[static_cast<std::size_t>(id)] = true; });
    for (std::size_t v = 0; v < used.size(); ++v) {
      if (!used[v]) continue;
      id_of_[v] = static_cast<Id>(graph_.values.size());
      graph_.values.push_back(whole.values[v]);
      if (whole.values[v].owner == whole.kind) graph_.values.back().owner = kind;
    }
  }

  // no_value when this part does not use it.
  Id id(Id of_whole) const {
    return of_whole == no_value ? no_value : id_of_[static_cast<std::size_t>(of_whole)];
  }
  LayerGraph& graph() { return graph_; }

  LayerGraph take() {
    for (int op = begin_; op < end_; ++op) {
      Op moved = whole_.forward[static_cast<std::size_t>(op)];
      for_each_operand(moved, [&](Id& operand, Access) { operand = id(operand); });
      check(moved, graph_.types());
      graph_.forward.push_back(moved);
    }
    for (const Parameter& p : whole_.parameters) {
      if (id(p.weight) == no_value) continue;
      graph_.parameters.push_back(p);
      graph_.parameters.back().weight = id(p.weight);
    }
    return std::move(graph_);
  }

 private:
  const LayerGraph& whole_;
  int begin_, end_;
  std::vector<Id> id_of_;
  LayerGraph graph_;
};

void make_carry(LayerGraph& graph, Id value) {
  if (value != no_value) graph.values[static_cast<std::size_t>(value)].kind = ValueKind::carry;
}

// Activations that both parts use are those that the family named.
void require_clean(const LayerGraph& whole, const Part& low, const Part& high) {
  for (std::size_t v = 0; v < whole.values.size(); ++v) {
    const Id id = static_cast<Id>(v);
    const Value& value = whole.values[v];
    const bool crosses = low.id(id) != no_value && high.id(id) != no_value;
    const bool named = id == whole.cut_carry || id == whole.cut_side;
    const bool shared = value.kind == ValueKind::batch || value.kind == ValueKind::global;
    require(!crosses || named || shared, [&] {
      return Error(fmt::format("{} of a {} crosses its cut", value.name, name_of(whole.kind)));
    });
  }
}

}  // namespace

std::string_view name_of(Blobs blobs) { return blobs == Blobs::layer ? "layer" : "parts"; }

void cut_blocks(ModelGraphs& model) {
  const LayerGraph whole = std::move(model.block);
  require(whole.cut > 0 && whole.input_grad.empty(), [] {
    return Error("a block is cut where its family says, and before its backward is derived");
  });
  const int ops = static_cast<int>(whole.forward.size());
  Part low(whole, LayerKind::block, 0, whole.cut), high(whole, LayerKind::mlp, whole.cut, ops);
  require_clean(whole, low, high);
  LayerGraph &attention = low.graph(), &mlp = high.graph();
  attention.carry_in = low.id(whole.carry_in);
  attention.carry_out = low.id(whole.cut_carry);
  mlp.carry_in = high.id(whole.cut_carry);
  mlp.carry_out = high.id(whole.carry_out);
  make_carry(attention, attention.carry_out);
  make_carry(mlp, mlp.carry_in);
  model.block = low.take();
  model.mlp = high.take();
  model.parts = 2;
  if (whole.cut_side == no_value) return;
  // Both parts keep it for their own backward: a copy goes up.
  LayerGraph& below = model.block;
  below.side_of = low.id(whole.cut_side);
  const Value source = below[below.side_of];
  below.side_out = below.add_value(source.name + ".beside", source.type, ValueKind::carry);
  below.forward.push_back(Scale{below.side_of, below.side_out, 1});
  model.mlp.side_in = high.id(whole.cut_side);
  make_carry(model.mlp, model.mlp.side_in);
}

}  // namespace sluice
