// Packs the temporaries of one op list into a frame: values whose lives do not overlap share bytes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/graph.h"

namespace sluice {

struct FrameLayout {
  std::vector<std::int64_t> offset;     // per value; -1: not in the frame
  std::vector<std::int64_t> workspace;  // per op; -1: none
  std::vector<int> last_use;            // per value: op after which its bytes are free
  std::int64_t bytes = 0;
};

// `in_frame[id]`: the value lives in the frame. First-fit, largest first, 256-byte aligned; an op's
// workspace lives during that op. Deterministic.
FrameLayout pack_frame(const LayerGraph& graph, std::span<const Op> ops,
                       const std::vector<bool>& in_frame, Workers workers);

}  // namespace sluice
