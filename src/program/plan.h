// How a step is cut and what is kept: the part of the config that is not mathematics.
//
// Micro-batch and head chunk change the order of sums, so they are numerics and are resolved from
// the batch alone, without a look at memory. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>

#include "core/options.h"
#include "graph/recompute.h"

namespace sluice {

// [plan] as a person writes it; 0 and "auto" leave the choice to resolve().
struct PlanConfig {
  std::string device = "auto";
  std::int64_t micro_batch = 0;  // sequences
  std::int64_t head_chunk = 0;   // tokens
  std::string recompute = "auto";
  std::string precision = "float32";
};

void describe(OptionTable& table, PlanConfig& config);

struct Plan {
  std::int64_t micro_batch = 1;    // sequences of one micro-batch
  std::int64_t micro_batches = 1;  // of one step
  std::int64_t head_chunk = 4096;  // tokens; a micro-batch may have fewer
  Recompute recompute = Recompute::none;
};

// auto: micro_batch is the largest divisor of `sequences_per_step` with at most 2048 tokens (one
// sequence if that is longer), head_chunk 4096, recompute none. Exit::usage, `where` being the key
// alone, for a micro_batch that does not divide the step and for negative numbers.
// REQUIRES: both counts positive.
Plan resolve(const PlanConfig& config, std::int64_t sequences_per_step, std::int64_t sequence);

}  // namespace sluice
