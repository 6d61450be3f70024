// Which blobs leave the device, and how a step is cut, when the device's memory has a budget.
//
// The first of these that fits: everything on the device; less kept for backward; blobs streaming
// from the host, optimizer state first, then gradients, then weights, as few of them as do; the
// stash spilled to the host, with as little of it as recompute leaves; more passes, so that fewer
// micro-batches are alive at once. Nothing here changes a bit of a result.
// Pure functions, any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "graph/recompute.h"

namespace sluice {

enum class Stash : std::uint8_t { kept, spilled };
std::string_view name_of(Stash stash);

struct Placement {
  std::int64_t passes = 0;  // 0: micro-batch-major
  std::string homes = "device";
  int slots = 3;
  Recompute recompute = Recompute::none;
  Stash stash = Stash::kept;
  bool operator==(const Placement&) const = default;
};

// What may be chosen: each list from the mildest to the smallest in memory, of one value if a
// person has chosen.
struct PlacementChoices {
  int blocks = 1;
  std::vector<Recompute> recompute;
  std::vector<std::int64_t> passes;  // of a streaming step
  std::vector<int> slots;
  std::string homes;                 // a person's; empty: to be chosen
  std::int64_t resident_passes = 0;  // of a step that does not stream
  std::vector<Stash> stash = {Stash::kept};
};

// Bytes of the device's memory with a placement.
using DeviceBytes = std::function<std::int64_t(const Placement&)>;

// The first placement of at most `budget` bytes. REQUIRES: no list is empty.
std::optional<Placement> first_that_fits(const PlacementChoices& choices, std::int64_t budget,
                                         const DeviceBytes& bytes);
// The one that takes least: for a stash of a few layers that may be to keep it.
Placement least(const PlacementChoices& choices, const DeviceBytes& bytes);

// The homes of a plan that sends the first `count` blobs of 3 * blocks off the device.
std::string homes_with(int count, int blocks);

}  // namespace sluice
