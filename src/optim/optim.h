// The optimizer's settings, the learning-rate schedule, and the ops that close and apply a step.
#pragma once

#include <cstdint>
#include <string>

#include "core/options.h"
#include "graph/graph.h"
#include "graph/numerics.h"
#include "optim/run_length.h"

namespace sluice {

struct OptimConfig {
  double lr = 6e-4;
  double lr_end = 6e-5;
  std::string lr_schedule = "cosine";
  std::int64_t warmup_tokens = 0;    // length of the warm-up: this, or
  std::int64_t warmup_steps = 0;     // this; both 0: none
  std::int64_t decay_tokens = 0;     // length of the decay: this, or
  std::int64_t decay_steps = 0;      // this; both 0: all that follows the warm-up
  std::string decay_shape = "sqrt";  // of wsd
  double weight_decay = 0.1;
  double clip = 1.0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double ema = 0;          // decay of the averaged weights; 0: none are kept
  std::string freeze;      // patterns of tensor names, separated by commas
  double skip_spikes = 0;  // standard deviations; 0: no step is skipped
};

void describe(OptionTable& table, OptimConfig& config);
// Throws Exit::usage for values that no optimizer takes.
void check(const OptimConfig& config);

// The same, and refuses a schedule that this run cannot follow.
void check(const OptimConfig& config, const RunLength& run);

// The learning rate of update `step`, 0 being the first: a function of the tokens that were trained
// on before it. Lengths in steps are the tokens of those steps.
//   warm-up   rises linearly from 0, so the first update has rate 0 (Cerebras' and gigaGPT's
//             convention), for warmup_tokens
//   cosine, linear   from lr to lr_end over decay_tokens from the warm-up's end on (auto: to the
//             run's end), and stays there
//   constant  stays at lr
//   wsd       warm-up, stable, decay: stays at lr, and over the run's last decay_tokens falls to
//             lr_end as decay_shape says. With x from 0 to 1 over the decay, the share of lr -
//             lr_end that is left: linear 1 - x, sqrt 1 - √x (Hägele et al. 2024), cosine (1 + cos
//             πx) / 2
double learning_rate(const OptimConfig& config, const RunLength& run, std::int64_t step);

// Adds to the graphs, after derive_backward and derive_packed_weights:
//   norm:   joins a tied weight's accumulators (embedding's first), then SquaredNorm of every
//   gradient; update: AdamW of every parameter with its role's multipliers, then the derived
//   weights; step:   FinishStep. Values "norms", "pending", "results" are
//           global; "control" arrives with the batch.
void add_update(ModelGraphs& model, const OptimConfig& config,
                const Parametrization& parametrization, const Numerics& numerics = {});

}  // namespace sluice
