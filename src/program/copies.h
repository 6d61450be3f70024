// When blobs come and go: a schedule with the copies between homes and slots in it.
//
// Static, like everything in a program: which blob lies in which slot at each place of the list
// follows from the list alone. A blob is fetched right before its first use in a stay, unless that
// use overwrites it; it leaves right after its last write in a stay, unless nobody reads it later.
// What is fetched ahead of its use is the executor's doing: copies wait for what they need and for
// nothing else. At home on disk, a blob is read right before each fetch and written right after
// each leave.
#pragma once

#include <functional>
#include <vector>

#include "parallel/schedule.h"
#include "program/residency.h"

namespace sluice {

// What an op list does to its layer's blobs, and to those of the end that lends to it.
struct BlobUse {
  bool reads = false, writes = false;
  bool adds = false;  // reads unless accumulators start anew
  bool any() const { return reads || writes || adds; }
};
struct BlobUses {
  std::array<BlobUse, copied_kinds> kinds, lent;
  bool reads_packed = false, writes_packed = false, reads_lent_packed = false;
  const BlobUse& of(Kind kind) const { return kinds[static_cast<std::size_t>(kind)]; }
};

// What lies in the slots of each kind, and in which of weights packed ones lie beside them. -1:
// nothing of worth.
struct SlotContents {
  std::array<std::vector<int>, copied_kinds> key;  // the layer's, where it is no stash
  std::vector<bool> packed;
  bool operator==(const SlotContents&) const = default;
};

struct Stop {
  Scheduled item;           // fetch, leave, read and write among them
  Kind kind = Kind::count;  // of a copy
  int stash = -1;           // the slot of its stash
};

struct CopySpec {
  const Residency* residency;
  std::function<BlobUses(const Scheduled&)> uses;
  int layers;
  bool begins_settled, ends_settled;  // see Program
  SlotContents pending;               // in the slots while an update is: how every step ends
  int micro_batches = 0;
  std::vector<int> stash_slots;                // see stash.h; empty when nothing is spilled
  int stash_ring = 0;                          // slots of it
  std::function<bool(int layer)> keeps_input;  // in its stash
};

// Packed weights of a layer that streams are made again at each arrival (Phase::derive), and by no
// derive that the schedule lists. A layer whose stash is spilled and has the layer's input in it
// takes that input there (Phase::keep) right before its F.
std::vector<Stop> with_copies(const std::vector<Scheduled>& schedule, const CopySpec& spec);

// What a schedule that ends with an update pending leaves in the slots for the next program. Of
// `spec` neither `pending` nor how it begins and ends counts. REQUIRES: it visits every layer.
SlotContents left_pending(const std::vector<Scheduled>& schedule, const CopySpec& spec);

}  // namespace sluice
