// The training loop. Start reading here: everything else is what it calls.
#pragma once

#include <atomic>

#include "train/metrics.h"
#include "train/run_files.h"

namespace sluice {

// What the loop works with. All of it outlives the loop.
struct LoopParts {
  const Config& config;
  const NumericsKey& key;
  Trainer& trainer;
  RunFiles& files;
  MetricsLog& log;
  class Validator* validator;  // null: no validation set
  class Sampler* sampler;      // null: no samples
  class Tracing* tracing;      // null: no trace
  std::string tokenizer_path;  // copied into checkpoints; empty: none
  Faults& faults;
  const std::atomic<int>* stop_signal;
};

// Trains from step `files.step()` to the end, or to a signal. Returns ok or requeue; throws
// Exit::diverged, naming the tensor, when numbers are not finite.
Exit training_loop(const LoopParts& parts);

}  // namespace sluice
