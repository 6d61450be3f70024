#include "program/frame.h"

#include <algorithm>

#include "program/residency.h"

namespace sluice {
namespace {

struct Block {
  std::int64_t bytes;
  int first, last;            // ops, inclusive
  std::int64_t* destination;  // where the chosen offset goes
};

std::int64_t place(std::vector<Block>& blocks) {
  std::stable_sort(blocks.begin(), blocks.end(),
                   [](const Block& a, const Block& b) { return a.bytes > b.bytes; });
  std::int64_t total = 0;
  std::vector<const Block*> placed;
  for (Block& block : blocks) {
    // The gaps left by those alive at the same time, lowest first.
    std::vector<std::pair<std::int64_t, std::int64_t>> taken;
    for (const Block* other : placed)
      if (other->first <= block.last && block.first <= other->last)
        taken.emplace_back(*other->destination, *other->destination + other->bytes);
    std::sort(taken.begin(), taken.end());
    std::int64_t offset = 0;
    for (const auto& [begin, end] : taken) {
      if (begin - offset >= block.bytes) break;
      offset = std::max(offset, end);
    }
    *block.destination = offset;
    total = std::max(total, offset + block.bytes);
    placed.push_back(&block);
  }
  return total;
}

}  // namespace

FrameLayout pack_frame(const LayerGraph& graph, std::span<const Op> ops,
                       const std::vector<bool>& in_frame, Workers workers) {
  const std::size_t values = graph.values.size();
  FrameLayout layout;
  layout.offset.assign(values, -1);
  layout.workspace.assign(ops.size(), -1);
  layout.last_use.assign(values, -1);
  std::vector<int> first(values, -1);
  const std::vector<ValueType> types = graph.types();
  std::vector<Block> blocks;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    for_each_operand(ops[i], [&](Id id, Access) {
      const auto v = static_cast<std::size_t>(id);
      if (!in_frame[v]) return;
      if (first[v] < 0) first[v] = static_cast<int>(i);
      layout.last_use[v] = static_cast<int>(i);
    });
    const std::int64_t scratch = workspace_bytes(ops[i], types, workers);
    const int at = static_cast<int>(i);
    if (scratch > 0)
      blocks.push_back({align_up(scratch, tensor_alignment), at, at, &layout.workspace[i]});
  }
  for (std::size_t v = 0; v < values; ++v)
    if (first[v] >= 0)
      blocks.push_back(
          {align_up(types[v].shape.count() * size_of(types[v].dtype), tensor_alignment), first[v],
           layout.last_use[v], &layout.offset[v]});
  layout.bytes = place(blocks);
  return layout;
}

}  // namespace sluice
