// Builds programs: schedule + recompute level + memory map -> actions, waits and places.
#pragma once

#include "program/program.h"

namespace sluice {

struct BuildOptions {
  int micro_batches = 1;                 // of a training step
  std::vector<int> later_micro_batches;  // the same after each boundary of a batch ramp
  int passes = 0;  // through the layers in a step; 0: one for every micro-batch
  int eval_micro_batches = 1;
  Homes homes;
  bool spill_stash = false;  // to host memory, through so many slots:
  int stash_slots = 3;       // 2 or more
  Recompute recompute = Recompute::none;
  bool fuse = true;
  Workers workers;

  std::vector<int> all_micro_batches() const;  // of every stretch
  int at_once(int micro_batches) const;        // of a step of so many: those of one pass
  int eval_at_once() const;
};

// Forward graphs in cached form (graph/forms.h) that share the weights: "prefill" or "decode".
struct CachedModel {
  std::string name;
  std::shared_ptr<const ModelGraphs> model;
};

struct ProgramSpec {
  std::shared_ptr<const ModelGraphs> model;
  bool training = false;  // the model has its backward, derived weights and update
  std::vector<CachedModel> cached;
  BuildOptions options;
};

// All programs of a run over one memory map. Always: derive, eval. Training: first, steady (with
// the pending update) and flush, and a first and a steady for each boundary of a batch ramp. Then
// the cached ones.
ProgramSet build_programs(const ProgramSpec& spec);

// The memory of those programs, without making them: quick, whatever their length.
MemoryMap memory_map(const ProgramSpec& spec);

// "steady" for stretch 0 of a batch ramp, "steady-1" after its first boundary.
std::string stretch_name(const char* program, std::size_t stretch);

}  // namespace sluice
