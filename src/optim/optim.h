// The optimizer's settings, the learning-rate schedule, and the ops that close and apply a step.
#pragma once

#include <cstdint>
#include <string>

#include "core/options.h"
#include "graph/graph.h"

namespace sluice {

struct OptimConfig {
  double lr = 6e-4;
  double lr_end = 6e-5;
  std::string lr_schedule = "cosine";
  std::int64_t warmup_tokens = 0;
  double weight_decay = 0.1;
  double clip = 1.0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
};

void describe(OptionTable& table, OptimConfig& config);
// Throws Exit::usage for values that no optimizer takes.
void check(const OptimConfig& config);

// Length of a run as schedules count it.
struct RunLength {
  std::int64_t tokens_per_step = 1;
  std::int64_t steps = 1;
};

// The learning rate of update `step`, 0 being the first. Warm-up rises linearly from 0, so the
// first update has rate 0 (Cerebras' and gigaGPT's convention); then cosine or linear to lr_end
// over all remaining steps, or constant.
double learning_rate(const OptimConfig& config, RunLength run, std::int64_t step);

// Adds to the graphs, after derive_backward and derive_packed_weights:
//   norm:   joins a tied weight's accumulators (embedding's first), then SquaredNorm of every
//   gradient; update: AdamW of every parameter with its role's multipliers, then the derived
//   weights; step:   FinishStep. Values "norms", "pending", "results" are
//           global; "control" arrives with the batch.
void add_update(ModelGraphs& model, const OptimConfig& config,
                const Parametrization& parametrization);

}  // namespace sluice
