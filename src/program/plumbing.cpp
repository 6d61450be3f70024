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
  for (const auto* list : {&graph.norm, &graph.packed_norm, &graph.unpack,
                           &graph.update})  // once-a-step lists need scratch alone
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

std::int64_t Plumbing::kept(LayerKind kind, Id input) const {
  return input == no_value ? -1 : of(kind, true).stash_offset[static_cast<std::size_t>(input)];
}
std::int64_t Plumbing::kept_input(LayerKind kind) const {
  return kept(kind, model->of(kind).carry_in);
}
std::int64_t Plumbing::kept_side(LayerKind kind) const {
  return kept(kind, model->of(kind).side_in);
}

void Plumbing::reserve_stash(bool spilled, std::int64_t at_once, MemoryMap& memory) {
  std::int64_t all = 0, largest = 0, count = 0;
  for (int layer = 0; layer < model->layer_count(); ++layer) {
    const std::int64_t bytes = stash_bytes(model->kind_of(layer));
    stash_base.push_back(spilled ? memory.reserve_host(at_once * bytes) : all);
    all += at_once * bytes;
    largest = std::max(largest, bytes);
    if (bytes > 0) count += at_once;
  }
  if (!spilled) return memory.at_least(Region::stash, all);
  ring.slots = static_cast<int>(std::min<std::int64_t>(ring.slots, count));
  ring.slot_bytes = largest;
  memory.at_least(Region::stash, ring.slots * largest);
}

Plumbing::Plumbing(std::shared_ptr<const ModelGraphs> of_model, const BuildOptions& options,
                   bool backward, MemoryMap& memory)
    : model(std::move(of_model)), batch(batch_layout(*model)) {
  std::int64_t frame = 0, at_once = options.eval_at_once();
  if (backward)
    for (const int count : options.all_micro_batches())
      at_once = std::max<std::int64_t>(at_once, options.at_once(count));
  for (const LayerKind kind : model->kinds())
    frame = std::max(frame, add_kind(kind, options, backward));
  if (backward) {
    if (options.spill_stash) ring.slots = options.stash_slots;
    reserve_stash(options.spill_stash, at_once, memory);
  }
  carry_bytes = align_up(value_bytes(model->block[model->block.carry_in].type), tensor_alignment);
  memory.at_least(Region::frame, frame);
  // A pass's micro-batches go beside the carries one after the other, between two layers at a time.
  sides = (at_once + 1) * carry_bytes;
  if (const Id side = model->block.side_out; side != no_value)
    side_bytes = align_up(value_bytes(model->block[side].type), tensor_alignment);
  memory.at_least(Region::carry, sides + at_once * side_bytes);
  memory.at_least(Region::batch, 2 * at_once * slot_bytes());
  reserve_cache(memory);
}

}  // namespace sluice
