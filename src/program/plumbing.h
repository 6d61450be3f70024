// What the programs over one model share: its segments, its batch layout, and the sizes of stash,
// carries and frame, reserved in the memory map when it is made.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "program/build.h"
#include "program/segments.h"
#include "program/stash.h"

namespace sluice {

struct Plumbing {
  Plumbing(std::shared_ptr<const ModelGraphs> model, const BuildOptions& options, bool backward,
           MemoryMap& memory);

  const Segments& of(LayerKind kind, bool backward) const {
    return (backward ? training : forward_only)[static_cast<std::size_t>(kind)];
  }

  std::shared_ptr<const ModelGraphs> model;
  BatchLayout batch;
  std::array<Segments, layer_kinds> training, forward_only;
  // Per layer, of its first micro-batch's: in the region, or in host memory when it is spilled.
  std::vector<std::int64_t> stash_base;
  StashRing ring;
  std::int64_t carry_bytes = 0;
  std::int64_t sides = 0, side_bytes = 0;  // what goes beside carries: from where in their region

  std::int64_t stash_bytes(LayerKind kind) const;  // of one micro-batch, in whole blobs
  // Of a layer's input in its stash; -1: it is not kept. And of what comes beside it.
  std::int64_t kept_input(LayerKind kind) const;
  std::int64_t kept_side(LayerKind kind) const;
  std::int64_t slot_bytes() const { return align_up(batch.bytes, blob_alignment); }

 private:
  // Bytes of frame that the lists of one kind need.
  std::int64_t add_kind(LayerKind kind, const BuildOptions& options, bool backward);
  void reserve_stash(bool spilled, std::int64_t at_once, MemoryMap& memory);
  void reserve_cache(MemoryMap& memory) const;
  std::int64_t kept(LayerKind kind, Id input) const;
};

}  // namespace sluice
