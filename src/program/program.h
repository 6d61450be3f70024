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
#include "program/residency.h"

namespace sluice {

enum class Lane : std::uint8_t { compute, in, count };
inline constexpr int lanes = static_cast<int>(Lane::count);
std::string_view name_of(Lane lane);

// A milestone of a run that the next run may wait for, whatever program that is.
enum class Milestone : std::uint8_t { slot_0_read, slot_1_read, end, count };

// This action starts only after another one has ended: an action of this run, or a milestone of the
// run before (whichever program it was).
struct Wait {
  int action = -1;  // index into Program::actions; -1: `milestone` of the previous run
  Milestone milestone = Milestone::end;
  bool operator==(const Wait&) const = default;
};

// Bytes of the arena that nobody needs after op `op` of an action: what poison mode fills with NaN.
struct FreedRange {
  int op;
  std::int64_t offset, bytes;
};

// Where the values of an op list lie in one (layer, batch slot): arena offsets, -1 when absent.
struct Binding {
  std::vector<std::int64_t> offsets;    // per value of the layer's graph
  std::vector<std::int64_t> workspace;  // per op
  std::vector<FreedRange> freed;
};

// An op list shared by all layers of a kind.
struct OpList {
  std::string name;  // "block.forward"
  LayerKind kind = LayerKind::block;
  std::vector<Op> ops;
};

struct Action {
  Phase phase = Phase::forward;
  Lane lane = Lane::compute;
  int layer = 0;
  int micro = 0;
  bool first = true;  // accumulators start anew
  int list = -1;      // index into Program::lists; -1 for load
  int binding = -1;
  std::int64_t load_offset = -1, load_bytes = 0;  // of a load: its slot
  std::vector<Wait> waits;
};

struct Program {
  // "first", "steady", "flush", "derive", "eval", "prefill", "decode"; build.h's stretch_name()
  std::string name;
  std::shared_ptr<const ModelGraphs> model;
  BatchLayout batch;
  int micro_batches = 0;
  std::vector<OpList> lists;
  std::vector<Binding> bindings;
  std::vector<Action> actions;
  int milestones[static_cast<int>(Milestone::count)] = {-1, -1,
                                                        -1};  // action; -1: not in this program

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
