#include "optim/optim.h"

namespace sluice {
namespace {

ValueType table_type(std::int64_t slots) { return {DType::f64, {{Axis::scalar, slots}}}; }

AdamWPart part_of(const OptimConfig& config, const Parametrization& scales, Role tensor_role,
                  const Parameter& p) {
  // A bias keeps its own row even inside a fused projection.
  const RoleScale& scale = scales[tensor_role];
  AdamWPart part;
  part.lr = static_cast<float>(scale.lr);
  part.decay = p.decays ? static_cast<float>(config.weight_decay * scale.decay) : 0.0f;
  part.eps = static_cast<float>(config.eps * scale.eps);
  return part;
}

AdamW adamw_of(const LayerGraph& graph, const Parameter& p, const OptimConfig& config,
               const Parametrization& scales, Id pending) {
  AdamW op{.w = p.weight, .g = p.gradient, .m = p.m, .v = p.v, .pending = pending};
  op.beta1 = static_cast<float>(config.beta1);
  op.beta2 = static_cast<float>(config.beta2);
  op.parts = static_cast<std::int32_t>(p.roles.size());
  const Shape& shape = graph[p.weight].type.shape;
  op.parts_inner = shape.count();
  if (op.parts > 1) op.parts_inner = shape.size(Axis::heads) * shape.size(Axis::head);
  for (std::size_t i = 0; i < p.roles.size(); ++i)
    op.part[i] = part_of(config, scales, p.roles[i], p);
  return op;
}

// The head's accumulator of a weight that the embedding owns is added to the embedding's own, once
// a step: embedding first.
void join_tied(ModelGraphs& model) {
  for (const Value& value : model.head.values) {
    if (value.kind != ValueKind::weight || value.owner == LayerKind::head) continue;
    LayerGraph& owner = model.of(value.owner);
    const std::string name = "d." + value.name;
    const Id borrowed = owner.add_value("head." + name, value.type, ValueKind::gradient);
    owner.values.back().owner = LayerKind::head;
    owner.values.back().owner_name = name;
    owner.norm.push_back(AddInto{borrowed, owner.require_value("d." + value.owner_name)});
  }
}

}  // namespace

void add_update(ModelGraphs& model, const OptimConfig& config, const Parametrization& scales) {
  join_tied(model);
  std::int64_t tensors = 0;
  for (const LayerKind kind : {LayerKind::embedding, LayerKind::block, LayerKind::head}) {
    LayerGraph& graph = model.of(kind);
    const auto count = static_cast<std::int64_t>(graph.parameters.size());
    tensors += count * (kind == LayerKind::block ? model.layers : 1);
    // In a layer, "norms" is the layer's own part of the table.
    const Id norms = graph.add_value("norms", table_type(count), ValueKind::global);
    const Id pending = graph.add_value("pending", table_type(Pending::slots), ValueKind::global);
    std::int32_t index = 0;
    for (const Parameter& p : graph.parameters) {
      graph.norm.push_back(SquaredNorm{p.gradient, norms, index++});
      graph.update.push_back(adamw_of(graph, p, config, scales, pending));
    }
    graph.update.insert(graph.update.end(), graph.derive.begin(), graph.derive.end());
  }
  LayerGraph& step = model.step;
  FinishStep finish{};
  finish.stats = step.add_value("stats", table_type(2), ValueKind::global);
  finish.norms = step.add_value("norms", table_type(tensors), ValueKind::global);
  finish.control = step.add_value("control", table_type(Control::slots), ValueKind::batch);
  finish.pending = step.add_value("pending", table_type(Pending::slots), ValueKind::global);
  finish.results = step.add_value("results", table_type(2 * Results::slots), ValueKind::global);
  finish.clip = static_cast<float>(config.clip);
  step.forward.push_back(finish);
}

}  // namespace sluice
