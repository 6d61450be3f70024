// One kind of layer as a program sees it: its op lists and where each value lives during them.
#pragma once

#include "graph/recompute.h"
#include "program/frame.h"
#include "program/program.h"

namespace sluice {

// Places of the activations of one kind of layer.
struct Segments {
  std::vector<Op> forward, backward_input,
      backward_weight;                     // fused; recompute leads backward_input
  std::vector<bool> stash;                 // per value
  std::vector<std::int64_t> stash_offset;  // within a layer's stash
  std::int64_t stash_bytes = 0;
  FrameLayout forward_frame;   // of F
  FrameLayout backward_frame;  // of I and the W right behind it, as one list
};

Segments make_segments(const LayerGraph& graph, Recompute recompute, bool fuse, bool backward,
                       Workers workers);

}  // namespace sluice
