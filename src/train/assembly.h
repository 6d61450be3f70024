// From a description to the programs of a training run: graphs, backward, derived weights, update,
// memory map. A pure function: no device is touched, no memory of the model is taken.
#pragma once

#include "inference/assembly.h"
#include "optim/optim.h"
#include "train/config.h"

namespace sluice {

struct TrainingOptions {
  BatchShape shape;  // of a micro-batch
  std::int64_t head_chunk = 4096;
  Numerics numerics;  // dropout and ema included
  BuildOptions build;
  Blobs blobs = Blobs::layer;
  bool packed = true;            // products read packed weights
  std::int64_t sample_rows = 0;  // sequences sampled together while training; 0: none
};

ProgramSpec training_spec(const ModelConfig& model, const OptimConfig& optim,
                          const Parametrization& scales, const TrainingOptions& options);
inline ProgramSet assemble_training(const ModelConfig& model, const OptimConfig& optim,
                                    const Parametrization& scales, const TrainingOptions& options) {
  return build_programs(training_spec(model, optim, scales, options));
}

// Throws Exit::usage, `where` being the key alone, when the plan's homes are not of this model.
Homes homes_of(const Plan& plan, const ModelConfig& model);
int stash_slots_of(const Plan& plan);  // of a spilled stash

// The same for a config and its resolved plan: what `train` runs and `plan` prints. Memory budgets
// apart, nothing but `threads` of the machine enters.
ProgramSpec training_spec(const Config& config, const Plan& plan, int threads);
inline ProgramSet assemble_training(const Config& config, const Plan& plan, int threads) {
  return build_programs(training_spec(config, plan, threads));
}

}  // namespace sluice
