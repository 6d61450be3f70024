// The ring that spilled stashes pass through: which slot holds which stash, and when.
//
// A stash (what backward needs of a layer and micro-batch) is made in a slot by its F, and read in
// one by its I and W; between them it may have been in host memory. All stashes of a kind of layer
// are alike, so any slot does. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/schedule.h"

namespace sluice {

struct StashRing {
  int slots = 0;  // 0: nothing is spilled
  std::int64_t slot_bytes = 0;
};

// Per item of the schedule: the slot of its stash; -1: it touches none. The slot that was used
// longest ago comes next. At the turn from F to I and W a stash that still lies in its slot stays:
// then slots are taken first from stashes that are done with. A pass with more micro-batches than
// slots finds nothing in place, because each layer goes up through them: there the ring just turns
// on, so that what comes is on its way while what lies there is used.
// `has_stash`: of a layer. REQUIRES: slots > 0.
std::vector<int> stash_slots(const std::vector<Scheduled>& schedule, int slots, int micro_batches,
                             int at_once, const std::function<bool(int layer)>& has_stash);

}  // namespace sluice
