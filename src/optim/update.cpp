#include "core/random.h"
#include "ops/optimizer/formats.h"
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
               const Parametrization& scales, Id pending, std::uint64_t seed) {
  AdamW op{.w = p.weight,
           .low = p.low,
           .g = p.gradient,
           .m = p.m,
           .v = p.v,
           .m_scale = p.m_scale,
           .v_scale = p.v_scale,
           .pending = pending};
  op.beta1 = static_cast<float>(config.beta1);
  op.beta2 = static_cast<float>(config.beta2);
  op.parts = static_cast<std::int32_t>(p.roles.size());
  op.seed = seed;
  op.stream = stream_of(fmt::format("update {} {}", name_of(uncut(graph.kind)), p.name));
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
    if (value.frozen) continue;
    const ValueType type{DType::f32, value.type.shape};
    const Id borrowed = owner.add_value("head." + name, type, ValueKind::gradient);
    owner.values.back().owner = LayerKind::head;
    owner.values.back().owner_name = name;
    owner.norm.push_back(AddInto{borrowed, owner.require_value("d." + value.owner_name)});
  }
}

// A gradient that is rounded rests as what it is rounded to; a vector's as it is. The ops that
// close a step in a layer whose gradients rest packed, and make them float32 again.
class Packing {
 public:
  explicit Packing(LayerGraph& graph) : graph_(graph) {}

  // `round`: how the gradient is rounded; null: not at all.
  void add(const Parameter& p, const RoundGradient* round) {
    const Shape shape = graph_[p.gradient].type.shape;
    if (round != nullptr && round->format == GradientFormat::int8) {
      RoundGradient stores = *round;
      stores.codes = value(p.name, {DType::u8, shape});
      stores.scales =
          value(p.name + ".scales", {DType::f32, {{Axis::scalar, state_blocks(shape)}}});
      graph_.packed_norm.push_back(stores);
      graph_.unpack.push_back(RestoreGradient{stores.codes, stores.scales, p.gradient});
      return;
    }
    const DType type = round != nullptr ? DType::bf16 : DType::f32;
    const Id packed = value(p.name, {type, shape});
    if (round != nullptr) graph_.packed_norm.push_back(*round);
    graph_.packed_norm.push_back(Cast{p.gradient, packed});
    graph_.unpack.push_back(Cast{packed, p.gradient});
  }

 private:
  Id value(const std::string& name, const ValueType& type) {
    return graph_.add_value("packed." + name, type, ValueKind::packed);
  }

  LayerGraph& graph_;
};

RoundGradient rounding_of(const LayerGraph& graph, const Parameter& p, Id control,
                          const Numerics& numerics) {
  RoundGradient round{.g = p.gradient, .control = control};
  round.format = numerics.gradients;
  round.seed = numerics.seed;
  round.stream = stream_of(fmt::format("gradient {} {}", name_of(uncut(graph.kind)), p.name));
  return round;
}

// Gradients of one layer: rounded to their format, their squared norms, the update that uses them.
// Returns how many tensors there are.
std::int64_t add_layer(LayerGraph& graph, const OptimConfig& config, const Parametrization& scales,
                       const Numerics& numerics) {
  const std::int64_t count = graph.trained();
  // In a layer, "norms" is the layer's own part of the table.
  const Id norms = graph.add_value("norms", table_type(count), ValueKind::global);
  const Id pending = graph.add_value("pending", table_type(Pending::slots), ValueKind::global);
  Id control = graph.find("control");  // where dropout reads it already
  if (numerics.gradients != GradientFormat::f32 && control == no_value)
    control = graph.add_value("control", table_type(Control::slots), ValueKind::batch);
  std::int32_t index = 0;
  const bool rounds = numerics.gradients != GradientFormat::f32;
  if (is_block(graph.kind) && rounds) graph.packed_norm = graph.norm;
  Packing packing(graph);
  for (const Parameter& p : graph.parameters) {
    if (p.frozen) continue;
    const RoundGradient round = rounding_of(graph, p, control, numerics);
    if (rounds && p.decays) graph.norm.push_back(round);
    const SquaredNorm norm{p.gradient, norms, index++};
    graph.norm.push_back(norm);
    if (rounds && is_block(graph.kind)) {
      packing.add(p, p.decays ? &round : nullptr);
      graph.packed_norm.push_back(norm);
    }
    graph.update.push_back(adamw_of(graph, p, config, scales, pending, numerics.seed));
    if (p.average != no_value)
      graph.update.push_back(
          Ema{p.weight, p.low, p.average, pending, static_cast<float>(numerics.ema)});
  }
  graph.update.insert(graph.update.end(), graph.derive.begin(), graph.derive.end());
  return count;
}

}  // namespace

void add_update(ModelGraphs& model, const OptimConfig& config, const Parametrization& scales,
                const Numerics& numerics) {
  join_tied(model);
  std::int64_t tensors = 0;
  for (const LayerKind kind : model.kinds())
    tensors += add_layer(model.of(kind), config, scales, numerics) * model.copies(kind);
  LayerGraph& step = model.step;
  FinishStep finish{};
  finish.stats = step.add_value("stats", table_type(2), ValueKind::global);
  finish.norms = step.add_value("norms", table_type(tensors), ValueKind::global);
  finish.control = step.add_value("control", table_type(Control::slots), ValueKind::batch);
  finish.pending = step.add_value("pending", table_type(Pending::slots), ValueKind::global);
  finish.results = step.add_value("results", table_type(2 * Results::slots), ValueKind::global);
  finish.clip = static_cast<float>(config.clip);
  if (config.skip_spikes > 0)
    finish.spikes = step.add_value("spikes", table_type(Spikes::slots), ValueKind::global);
  finish.deviations = static_cast<float>(config.skip_spikes);
  step.forward.push_back(finish);
}

}  // namespace sluice
