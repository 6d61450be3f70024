#include "program/segments.h"

#include <algorithm>

#include "graph/fusion.h"

namespace sluice {
namespace {

// Without backward the head computes the loss alone, and nothing is dropped.
std::vector<Op> without_training(std::vector<Op> ops) {
  for (Op& op : ops) {
    if (auto* loss = std::get_if<HeadLoss>(&op))
      loss->dx = loss->dw = loss->dbias = loss->packed_t = no_value;
    if (auto* dropout = std::get_if<Dropout>(&op)) dropout->key = {}, dropout->control = no_value;
    if (auto* one = std::get_if<Attention>(&op)) one->dropout = {}, one->control = no_value;
  }
  return ops;
}

bool is_temporary(const LayerGraph& graph, std::size_t v) {
  const Id id = static_cast<Id>(v);
  const Id others[] = {graph.carry_in, graph.carry_out, graph.d_carry_in, graph.d_carry_out,
                       graph.side_in,  graph.side_out,  graph.d_side_in,  graph.d_side_out};
  return graph.values[v].kind == ValueKind::activation ||
         (graph.values[v].kind == ValueKind::carry &&
          std::find(std::begin(others), std::end(others), id) == std::end(others));
}

}  // namespace

Segments make_segments(const LayerGraph& graph, Recompute recompute, bool fuse_ops, bool backward,
                       Workers workers) {
  const auto fused = [&](const std::vector<Op>& ops, std::span<const Op> later = {}) {
    return fuse_ops ? fuse(ops, later) : ops;
  };
  Segments out;
  out.stash.assign(graph.values.size(), false);
  out.stash_offset.assign(graph.values.size(), -1);
  out.forward = fused(backward ? graph.forward : without_training(graph.forward));
  if (backward) {
    Kept kept = choose_kept(graph, recompute);
    out.stash = std::move(kept.stash);
    out.backward_input = fused(kept.recompute);
    const std::vector<Op> input_grad = fused(graph.input_grad, graph.weight_grad);
    out.backward_input.insert(out.backward_input.end(), input_grad.begin(), input_grad.end());
    out.backward_weight = graph.weight_grad;
  }
  std::vector<bool> in_frame(graph.values.size());
  for (std::size_t v = 0; v < graph.values.size(); ++v) {
    in_frame[v] = is_temporary(graph, v) && !out.stash[v];
    if (!out.stash[v]) continue;
    const ValueType& type = graph.values[v].type;
    out.stash_offset[v] = out.stash_bytes;
    out.stash_bytes =
        align_up(out.stash_bytes + type.shape.count() * size_of(type.dtype), tensor_alignment);
  }
  out.forward_frame = pack_frame(graph, out.forward, in_frame, workers);
  std::vector<Op> both = out.backward_input;
  both.insert(both.end(), out.backward_weight.begin(), out.backward_weight.end());
  out.backward_frame = pack_frame(graph, both, in_frame, workers);
  return out;
}

}  // namespace sluice
