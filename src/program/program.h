// A program: what one rank does in one run of it, completely. Actions on lanes, explicit waits
// between lanes, and the place of every value. The executor obeys; there is nothing left to decide.
//
// Life of a value: from its first writer's start to the wait that joins its last reader.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/recompute.h"
#include "parallel/schedule.h"
#include "program/place.h"
#include "program/residency.h"

namespace sluice {

enum class Lane : std::uint8_t { compute, in, out, disk_read, disk_write, count };
inline constexpr int lanes = static_cast<int>(Lane::count);
std::string_view name_of(Lane lane);

// What the runs before may still be busy with: the last read of a batch slot, the last use of a
// ring's slot, the last time it was emptied, the last time a layer's blob came home, and the last
// time a staging slot was fetched from, or written to disk from. Numbers are those of Marks.
using Mark = int;

// This action starts only after another one has ended: an action of this run, or the last one of
// any run before that set a mark.
struct Wait {
  int action = -1;  // index into Program::actions; -1: of the runs before
  Mark mark = -1;
  bool operator==(const Wait&) const = default;
};

// Numbers the marks of a ProgramSet.
class Marks {
 public:
  Marks() = default;
  Marks(int batch_slots, int stash_slots, const Residency& residency, int layers);

  Mark read(int batch_slot) const { return batch_slot; }
  Mark used(Kind kind, int slot) const { return first_slot_[index(kind)] + 2 * slot; }
  Mark emptied(Kind kind, int slot) const { return used(kind, slot) + 1; }
  // Of blobs that layers own, whatever their form.
  Mark home(Kind kind, int layer) const { return first_home_ + layer * copied_kinds + index(kind); }
  Mark fetched(Kind kind, int staging) const { return first_staging_[index(kind)] + 2 * staging; }
  Mark written(Kind kind, int staging) const { return fetched(kind, staging) + 1; }
  int count() const { return count_; }
  Lane lane(Mark mark) const;
  std::string name(Mark mark, const ModelGraphs& model) const;  // "last read of slot 0"

 private:
  static int index(Kind kind) { return static_cast<int>(kind); }

  std::array<int, copied_kinds> first_slot_{}, first_staging_{};
  int first_home_ = 0, count_ = 0;
  std::vector<bool> on_disk_;  // by layer and kind, as homes are numbered
};

// Bytes that nobody needs after op `op` of an action: what poison mode fills with NaN.
struct FreedRange {
  int op;
  Spot spot;
  std::int64_t bytes;
};

// An op list shared by all layers of a kind, and where its operands lie.
struct OpList {
  std::string name;  // "block.forward"
  LayerKind kind = LayerKind::block;
  std::vector<Op> ops;
  std::vector<Spot> values;             // per value of the layer's graph
  std::vector<std::int64_t> workspace;  // per op, from Base::frame; -1: none
  std::vector<FreedRange> freed;
};

struct Action {
  Phase phase = Phase::forward;
  Lane lane = Lane::compute;
  int layer = 0;
  int micro = 0;
  bool first = true;  // accumulators start anew
  int list = -1;      // index into Program::lists; -1 for a copy
  Bases at;
  // Of a copy: what, and offsets in the arena or, from its end on, in host memory, then on disk. A
  // load comes from the batch's staging block, a layer's input from a carry, in the arena too.
  Kind kind = Kind::count;
  int slot = -1;      // of its kind's ring, at one end
  bool side = false;  // of a keep: of what comes beside the layer's input
  std::int64_t from = -1, to = -1, bytes = 0;
  std::vector<Wait> waits;

  bool copies() const { return list < 0; }
};

struct Program {
  // "first", "steady", "flush", "derive", "eval", "prefill", "decode"; build.h's stretch_name()
  std::string name;
  std::shared_ptr<const ModelGraphs> model;
  BatchLayout batch;
  int micro_batches = 0;
  int at_once = 1;  // micro-batches of one pass
  std::vector<OpList> lists;
  std::vector<Action> actions;
  // Per mark: the last action here that sets it; -1: none does.
  std::vector<int> marks;
  // Whether it begins, and ends, with every blob at home and no update pending.
  bool begins_settled = true, ends_settled = true;

  // Passes take turns with two sets of batch slots.
  int slots() const { return 2 * at_once; }
  int slot_of(int micro) const { return micro / at_once % 2 * at_once + micro % at_once; }
  const OpList& list_of(const Action& action) const {
    return lists[static_cast<std::size_t>(action.list)];
  }
  std::string action_name(int action) const;  // "forward block 3 micro 1"
};

// Everything a run walks: programs over one memory map.
struct ProgramSet {
  MemoryMap memory;
  Workers workers;  // what workspaces were sized for
  Marks marks;
  std::vector<Program> programs;
  std::shared_ptr<const Residency> residency;
  std::shared_ptr<const ModelGraphs> model;  // the one that residency was made of

  const Program& named(std::string_view name) const;
  int index_of(std::string_view name) const;  // throws when absent
  // Where a value that outlives a step is at home. Offsets as a copy's.
  struct Home {
    Tier tier = Tier::device;
    Kind kind = Kind::count;  // of a blob that streams
    std::int64_t blob = 0;    // where it begins
    std::int64_t offset = 0;  // where the value does
  };
  Home home(int layer, std::string_view value) const;
  std::int64_t offset(int layer, std::string_view value) const { return home(layer, value).offset; }
  std::int64_t global_offset(const std::string& name) const;
};

}  // namespace sluice
