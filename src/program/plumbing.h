// What the programs over one model share: its segments, its batch layout, and the sizes of stash,
// carries and frame, reserved in the memory map when it is made.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "program/build.h"
#include "program/segments.h"

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
  std::vector<std::int64_t> stash_base;  // per layer
  std::int64_t carry_bytes = 0;

 private:
  // Bytes of frame that the lists of one kind need.
  std::int64_t add_kind(LayerKind kind, const BuildOptions& options, bool backward);
  void reserve_cache(MemoryMap& memory) const;
};

}  // namespace sluice
