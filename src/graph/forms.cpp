#include "graph/forms.h"

namespace sluice {
namespace {

void cache_attention(LayerGraph& graph, Op& op, const BatchShape& shape, std::int64_t capacity) {
  auto* attention = std::get_if<Attention>(&op);
  if (attention == nullptr) return;
  const Shape keys = graph[attention->k.id].type.shape;
  const Shape cache{{Axis::batch, shape.batch},
                    {Axis::time, capacity},
                    {Axis::heads, keys.size(Axis::heads)},
                    {Axis::head, keys.size(Axis::head)}};
  const DType type = graph[attention->k.id].type.dtype;
  attention->starts = no_value;
  attention->lengths =
      graph.add_value("lengths", {DType::i32, {{Axis::batch, shape.batch}}}, ValueKind::batch);
  attention->k_cache = graph.add_value("k_cache", {type, cache}, ValueKind::cache);
  attention->v_cache = graph.add_value("v_cache", {type, cache}, ValueKind::cache);
  check(op, graph.types());
}

void loss_to_logits(LayerGraph& graph, Op& op, const BatchShape& shape) {
  const auto* loss = std::get_if<HeadLoss>(&op);
  if (loss == nullptr) return;
  const std::int64_t rows = graph[loss->w].type.shape[0].size;
  const Id logits = graph.add_value(
      "logits",
      {DType::f32, {{Axis::batch, shape.batch}, {Axis::time, shape.time}, {Axis::vocab, rows}}},
      ValueKind::global);
  op = Linear{loss->x, loss->w, loss->bias, logits, true, loss->scale};
  check(op, graph.types());
}

}  // namespace

void make_cached(ModelGraphs& model, std::int64_t capacity) {
  for (Op& op : model.block.forward) cache_attention(model.block, op, model.shape, capacity);
  for (Op& op : model.head.forward) loss_to_logits(model.head, op, model.shape);
}

}  // namespace sluice
