// How a step is cut and what is kept: the part of the config that is not mathematics.
//
// Micro-batch and head chunk change the order of sums, so they are numerics and are resolved from
// the batch alone, without a look at memory. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/options.h"
#include "graph/numerics.h"
#include "graph/parts.h"
#include "graph/recompute.h"

namespace sluice {

// [plan] as a person writes it; 0 and "auto" leave the choice to resolve().
struct PlanConfig {
  std::string device = "auto";
  std::int64_t micro_batch = 0;  // sequences
  std::int64_t head_chunk = 0;   // tokens
  std::string schedule = "auto";
  std::int64_t passes = 0;
  std::string homes = "auto";
  std::string blobs = "auto";
  std::int64_t slots = 0;
  std::int64_t device_memory = 0;  // bytes
  std::int64_t host_memory = 0;
  std::int64_t disk_memory = 0;
  std::string disk_path = "";  // a folder; empty: the run's
  std::string stash = "auto";
  std::string recompute = "auto";
  std::string precision = "auto";
  std::string state = "auto";
  std::string gradients = "auto";
  std::string attention = "auto";
};

void describe(OptionTable& table, PlanConfig& config);

struct Plan {
  std::int64_t micro_batch = 1;                   // sequences of one micro-batch
  std::int64_t micro_batches = 1;                 // of one step, before any ramp
  std::vector<std::int64_t> later_micro_batches;  // of one step, after each boundary of a ramp
  std::int64_t head_chunk = 4096;                 // tokens; a micro-batch may have fewer
  std::int64_t passes = 0;       // of one step through the layers; 0: one for every micro-batch
  std::string homes = "device";  // see parse_homes()
  Blobs blobs = Blobs::layer;    // what a block streams in
  int slots = 3;                 // of each ring
  int stash_slots = 0;           // of the ring of a spilled stash; 0: as many as of the others
  bool spill_stash = false;      // what backward needs of forward waits in host memory
  Recompute recompute = Recompute::none;
  bool packed = true;  // products read packed weights, as the CPU's do
  Numerics numerics;   // precision and formats; the rest is the caller's
};

// `sequences_per_step`: of each stretch of a batch ramp, one without. The micro-batch is the same
// in all of them. auto: micro_batch is the largest divisor of every step with at most
// `tokens_at_once` tokens (one sequence if that is longer), head_chunk 4096, recompute none.
// Exit::usage, `where` being the key alone, for a micro_batch that does not divide a step, for
// negative numbers and for passes beside a schedule that has its own. blobs auto is layer, slots
// auto 3, and 4 where blobs are parts: two for either. schedule auto is micro-batch-major, which is
// layer-major with one pass for every micro-batch, unless blobs stream; layer-major has one pass
// unless `passes` says more. homes auto is the device, stash auto kept. precision auto is bf16 when
// the machine multiplies it faster (`fast_bf16`), else float32; state auto is exact, gradients auto
// float32, attention auto our own (what a GPU may use instead is for the caller to say). compact
// needs bf16
// weights (Exit::usage). REQUIRES: one count or more, all positive; sequence positive.
Plan resolve(const PlanConfig& config, const std::vector<std::int64_t>& sequences_per_step,
             std::int64_t sequence, bool fast_bf16 = false, std::int64_t tokens_at_once = 2048);

}  // namespace sluice
