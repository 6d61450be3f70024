#include "program/plumbing.h"

#include <algorithm>

namespace sluice {

std::int64_t Plumbing::add_kind(LayerKind kind, const BuildOptions& options, bool backward) {
  const LayerGraph& graph = model->of(kind);
  const auto k = static_cast<std::size_t>(kind);
  forward_only[k] = make_segments(graph, Recompute::none, options.fuse, false, options.workers);
  std::int64_t frame = forward_only[k].forward_frame.bytes;
  if (!backward) return frame;
  training[k] = make_segments(graph, options.recompute, options.fuse, true, options.workers);
  frame = std::max({frame, training[k].forward_frame.bytes, training[k].backward_frame.bytes});
  const std::vector<bool> nothing(graph.values.size());
  for (const auto* list : {&graph.norm, &graph.update})  // once-a-step lists need scratch alone
    frame = std::max(frame, pack_frame(graph, *list, nothing, options.workers).bytes);
  return frame;
}

void Plumbing::reserve_cache(MemoryMap& memory) const {
  std::int64_t bytes = 0;
  for (const Value& value : model->block.values)
    if (value.kind == ValueKind::cache) bytes += align_up(value_bytes(value.type), blob_alignment);
  memory.at_least(Region::cache, bytes * model->layers);
}

std::int64_t Plumbing::stash_bytes(LayerKind kind) const {
  return align_up(of(kind, true).stash_bytes, blob_alignment);
}

Plumbing::Plumbing(std::shared_ptr<const ModelGraphs> of_model, const BuildOptions& options,
                   bool backward, MemoryMap& memory)
    : model(std::move(of_model)), batch(batch_layout(*model)) {
  std::int64_t frame = 0, stash = 0, at_once = options.eval_at_once();
  if (backward)
    for (const int count : options.all_micro_batches())
      at_once = std::max<std::int64_t>(at_once, options.at_once(count));
  for (const LayerKind kind : {LayerKind::embedding, LayerKind::block, LayerKind::head})
    frame = std::max(frame, add_kind(kind, options, backward));
  for (int layer = 0; layer < model->layer_count(); ++layer) {
    stash_base.push_back(stash);
    if (backward) stash += at_once * stash_bytes(model->kind_of(layer));
  }
  carry_bytes = align_up(value_bytes(model->block[model->block.carry_in].type), tensor_alignment);
  memory.at_least(Region::frame, frame);
  memory.at_least(Region::stash, stash);
  memory.at_least(Region::carry, (at_once + 1) * carry_bytes);
  memory.at_least(Region::batch, 2 * at_once * slot_bytes());
  reserve_cache(memory);
}

}  // namespace sluice
