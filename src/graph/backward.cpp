#include "graph/backward.h"

#include <algorithm>
#include <map>

#include "ops/gradient.h"
#include "ops/optimizer/formats.h"

namespace sluice {
namespace {

class Backward final : public GradientBuilder {
 public:
  explicit Backward(LayerGraph& graph) : graph_(graph) {}

  Id gradient_of(Id y) override {
    const auto found = parts_.find(y);
    if (found == parts_.end()) return no_value;
    std::vector<Id>& parts = found->second;
    while (parts.size() > 1) {  // summed first to last: the last consumer's contribution first
      const Id sum = fresh(y);
      emit_input(Add{parts[0], parts[1], sum});
      parts.erase(parts.begin());
      parts.front() = sum;
    }
    return parts.front();
  }

  bool wants(Id x) const override {
    const ValueKind kind = graph_[x].kind;
    return kind == ValueKind::activation || kind == ValueKind::carry;
  }

  Slice contribution(Slice x) override {
    if (x.parts == 1) return {fresh(x.id), 0, 1};
    const auto [found, is_new] = fused_.try_emplace(x.id, no_value);
    if (is_new) found->second = fresh(x.id);
    return {found->second, x.part, x.parts};
  }

  void add(Id x, Id dx) override {
    std::vector<Id>& parts = parts_[x];
    if (std::find(parts.begin(), parts.end(), dx) == parts.end()) parts.push_back(dx);
  }

  Id accumulator(Id weight) override { return accumulator_of(graph_, weight); }
  void emit_input(const Op& op) override { emit(op, graph_.input_grad); }
  void emit_weight(const Op& op) override { emit(op, graph_.weight_grad); }

  // The accumulator of an own weight, or the one that a tied use has beside the owner's.
  static Id accumulator_of(LayerGraph& graph, Id weight) {
    if (graph[weight].frozen) return no_value;
    const std::string name = "d." + graph[weight].name;
    const Id known = graph.find(name);
    if (known != no_value) return known;
    return graph.add_value(name, {DType::f32, graph[weight].type.shape}, ValueKind::gradient);
  }

 private:
  // A value shaped like `x` that holds (part of) its gradient: d.x, d.x~1, d.x~2 …
  Id fresh(Id x) {
    std::string name = "d." + graph_[x].name;
    for (int i = 1; graph_.find(name) != no_value; ++i)
      name = fmt::format("d.{}~{}", graph_[x].name, i);
    return graph_.add_value(name, graph_[x].type, ValueKind::activation);
  }

  void emit(const Op& op, std::vector<Op>& list) {
    check(op, graph_.types());
    list.push_back(op);
  }

  LayerGraph& graph_;
  std::map<Id, std::vector<Id>> parts_;
  std::map<Id, Id> fused_;
};

void add_state(LayerGraph& graph, const Numerics& numerics) {
  for (Parameter& p : graph.parameters) {
    if (p.frozen) continue;
    const ValueType type = graph[p.weight].type;
    const auto add = [&](const char* what, DType of, const Shape& shape) {
      return graph.add_value(fmt::format("{}.{}", what, p.name), {of, shape}, ValueKind::state);
    };
    p.gradient = Backward::accumulator_of(graph, p.weight);
    const bool half = type.dtype == DType::bf16;
    const bool compact = half && numerics.state == StateFormat::compact;
    if (half && !compact) p.low = add("low", DType::i16, type.shape);
    p.m = add("m", compact ? DType::u8 : DType::f32, type.shape);
    p.v = add("v", compact ? DType::u8 : DType::f32, type.shape);
    if (compact) {
      const Shape blocks{type.shape[0], {Axis::scalar, row_blocks(type.shape)}};
      p.m_scale = add("m_scale", DType::f32, blocks);
      p.v_scale = add("v_scale", DType::f32, blocks);
    }
    if (numerics.ema > 0) p.average = add("average", DType::f32, type.shape);
  }
}

// Inside F, head_loss makes dx and adds to dw; only now do those values exist.
void complete_head(LayerGraph& graph, Op& op) {
  auto* loss = std::get_if<HeadLoss>(&op);
  if (loss == nullptr) return;
  loss->dx =
      graph.add_value("d." + graph[loss->x].name, graph[loss->x].type, ValueKind::activation);
  loss->dw = Backward::accumulator_of(graph, loss->w);
  if (loss->bias != no_value) loss->dbias = Backward::accumulator_of(graph, loss->bias);
  check(op, graph.types());
}

// Of a part that another one hands a second value to. Where nothing but a sum reads its input, the
// gradient goes through as it came: a copy, as every layer writes its own.
void add_side_gradients(LayerGraph& graph, Backward& backward) {
  const auto carries = [&](Id id) {
    graph.values[static_cast<std::size_t>(id)].kind = ValueKind::carry;
  };
  graph.d_side_in = backward.gradient_of(graph.side_in);
  carries(graph.d_side_in);
  if (graph.d_carry_in != graph.d_carry_out) return;
  graph.d_carry_in = backward.contribution({graph.carry_in}).id;
  backward.emit_input(Scale{graph.d_carry_out, graph.d_carry_in, 1});
}

}  // namespace

void derive_backward(LayerGraph& graph, const Numerics& numerics) {
  add_state(graph, numerics);
  for (Op& op : graph.forward) complete_head(graph, op);
  Backward backward(graph);
  if (graph.carry_out != no_value) {
    graph.d_carry_out = graph.add_value("dy", graph[graph.carry_out].type, ValueKind::carry);
    backward.add(graph.carry_out, graph.d_carry_out);
  }
  if (graph.side_out != no_value) {  // the part above used the value after this one's own ops
    const Value& out = graph[graph.side_out];
    graph.d_side_out = graph.add_value("d." + out.name, out.type, ValueKind::carry);
    backward.add(graph.side_of, graph.d_side_out);
  }
  for (auto op = graph.forward.rbegin(); op != graph.forward.rend(); ++op) gradient(*op, backward);
  if (graph.carry_in != no_value) {
    graph.d_carry_in = backward.gradient_of(graph.carry_in);
    if (graph.side_in != no_value) add_side_gradients(graph, backward);
    require(graph.d_carry_in != no_value && graph.d_carry_in != graph.d_carry_out, [&] {
      return Error(fmt::format("{} graph: no gradient reaches its input", name_of(graph.kind)));
    });
    graph.values[static_cast<std::size_t>(graph.d_carry_in)].kind = ValueKind::carry;
  }
}

}  // namespace sluice
