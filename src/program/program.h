// A program: what one rank does in one run of it, completely. Actions on lanes, explicit waits
// between lanes, and the place of every value. The executor obeys; there is nothing left to decide.
//
// Life of a value: from its first writer's start to the wait that joins its last reader.
#pragma once

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

enum class Lane : std::uint8_t { compute, in, count };
inline constexpr int lanes = static_cast<int>(Lane::count);
std::string_view name_of(Lane lane);

// This action starts only after another one has ended: an action of this run, or one of the run
// before, whichever program that was.
struct Wait {
  int action = -1;  // index into Program::actions; -1: of the previous run
  int slot = -1;    // its last read of this batch slot; -1: its end
  bool operator==(const Wait&) const = default;
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
  int list = -1;      // index into Program::lists; -1 for load
  Bases at;
  std::vector<Wait> waits;
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
  std::vector<int> last_reads;  // per batch slot: the action; -1: none reads it

  // Passes take turns with two sets of slots.
  int slots() const { return 2 * at_once; }
  int slot_of(int micro) const { return micro / at_once % 2 * at_once + micro % at_once; }
  // The action that ends a read of a slot (-1: of everything), for the run behind this one.
  int last_read(int slot) const;
  const OpList& list_of(const Action& action) const {
    return lists[static_cast<std::size_t>(action.list)];
  }
  std::string action_name(int action) const;  // "forward block 3 micro 1"
};

// Everything a run walks: programs over one memory map.
struct ProgramSet {
  MemoryMap memory;
  Workers workers;  // what workspaces were sized for
  std::vector<Program> programs;
  std::shared_ptr<const Residency> residency;
  std::shared_ptr<const ModelGraphs> model;  // the one that residency was made of

  const Program& named(std::string_view name) const;
  int index_of(std::string_view name) const;  // throws when absent
  // Arena offset of a value that outlives a step.
  std::int64_t offset(int layer, std::string_view value) const;
  std::int64_t global_offset(const std::string& name) const;
};

}  // namespace sluice
