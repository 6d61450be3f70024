// Which blobs leave the device, and how a step is cut, when the device's memory has a budget.
//
// The first of these that fits: everything on the device; less kept for backward; blobs streaming
// from the host, optimizer state first, then gradients, then weights, the blocks' before those of
// embedding and head, as few of them as do; the
// stash spilled to the host, with as little of it as recompute leaves; more passes, so that fewer
// micro-batches are alive at once; all of this with blocks that stream in parts. When host memory
// has a budget too, blobs that stream go on to disk in the same order, as few as do; a spilled
// stash never does. Nothing here changes a bit of a result. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "graph/parts.h"
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
  int stash_slots = 0;  // of the ring of a spilled stash; 0: as many as `slots`
  Blobs blobs = Blobs::layer;
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
  std::vector<Blobs> blobs = {Blobs::layer};
  std::vector<int> part_slots = {4, 2};  // in place of `slots` where blobs are parts

  const std::vector<int>& slots_of(Blobs of) const {
    return of == Blobs::layer ? slots : part_slots;
  }
};

// Bytes of the device's memory with a placement.
using DeviceBytes = std::function<std::int64_t(const Placement&)>;

// The first placement of at most `budget` bytes. REQUIRES: no list is empty.
std::optional<Placement> first_that_fits(const PlacementChoices& choices, std::int64_t budget,
                                         const DeviceBytes& bytes);
// Every placement worth a look for its speed: resident ones that fit; of each recompute level, of a
// kept and a spilled stash and of each number of slots the fewest passes that fit, and the next
// two, with as few blobs off the device as do; the same again where embedding and head may leave
// it. Of `choices.blobs` the first alone. REQUIRES: no list is empty.
std::vector<Placement> all_that_fit(const PlacementChoices& choices, std::int64_t budget,
                                    const DeviceBytes& bytes);
// The placement with more slots for its spilled stash, while they fit: up to `most`. A stash is
// small beside a blob, and what waits for a slot of its ring waits behind blobs that are on their
// way. REQUIRES: the placement fits.
Placement with_stash_slots(Placement placement, int most, std::int64_t budget,
                           const DeviceBytes& bytes);
// The one that takes least: for a stash of a few layers that may be to keep it.
Placement least(const PlacementChoices& choices, const DeviceBytes& bytes);

// Adds to a plan's homes that blocks [first, end) of `blocks` have this kind of blob on `tier`;
// nothing for none of them.
void add_homes(std::string& homes, std::string_view kind, int first, int end, int blocks,
               std::string_view tier);

// The homes of a plan that sends the first `count` blobs of all_blobs() off the device, and of
// those the first `disk` of 3 * blocks to disk. The last three are the ends' (embedding and head),
// of a kind together: they go to the host, never on to disk, where their staging would take more
// than they do.
std::string homes_with(int count, int blocks, int disk = 0);
inline int all_blobs(int blocks) { return 3 * blocks + 3; }

// The same homes with blobs on disk, so that `bytes` (of host memory) are at most `budget`; when
// nothing makes them fit, the homes that take least. REQUIRES: homes_with() made them.
std::string homes_within(const std::string& homes, int blocks, std::int64_t budget,
                         const std::function<std::int64_t(const std::string&)>& bytes);

}  // namespace sluice
