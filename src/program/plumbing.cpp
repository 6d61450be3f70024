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

Plumbing::Plumbing(std::shared_ptr<const ModelGraphs> of_model, const BuildOptions& options,
                   bool backward, MemoryMap& memory)
    : model(std::move(of_model)), batch(batch_layout(*model)) {
  std::int64_t frame = 0, stash = 0;
  for (const LayerKind kind : {LayerKind::embedding, LayerKind::block, LayerKind::head})
    frame = std::max(frame, add_kind(kind, options, backward));
  for (int layer = 0; layer < model->layer_count(); ++layer) {
    stash_base.push_back(stash);
    if (backward) stash += align_up(of(model->kind_of(layer), true).stash_bytes, blob_alignment);
  }
  carry_bytes = align_up(value_bytes(model->block[model->block.carry_in].type), tensor_alignment);
  memory.at_least(Region::frame, frame);
  memory.at_least(Region::stash, stash);
  memory.at_least(Region::carry, 2 * carry_bytes);
  memory.at_least(Region::batch, batch_slots * align_up(batch.bytes, blob_alignment));
  reserve_cache(memory);
}

}  // namespace sluice
