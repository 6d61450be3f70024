// Programs of small models, for the tests of validator, printer and executor.
#pragma once

#include "models/test_models.h"
#include "train/assembly.h"

namespace sluice::testing {

struct TinyPlan {
  std::string family = "gpt2";
  int micro_batches = 3;
  int passes = 0;
  Recompute recompute = Recompute::none;
  bool fuse = true;
  std::int64_t sample_rows = 0;
  int threads = 1;
  int layers = 2;
  std::int64_t width = 32, vocab = 61;
  std::string homes = "device";
  int slots = 3;
  bool spill = false;
  GradientFormat gradients = GradientFormat::f32;
  Blobs blobs = Blobs::layer;
};

// Three layers whose blobs are at home as said: of streaming programs.
inline TinyPlan streaming_plan(const std::string& family, int passes, const std::string& homes,
                               int slots) {
  TinyPlan out;
  out.family = family;
  out.passes = passes;
  out.layers = 3;
  out.homes = homes;
  out.slots = slots;
  return out;
}

inline ProgramSet tiny_programs(const TinyPlan& plan) {
  TrainingOptions options;
  options.shape = {2, 16};
  options.head_chunk = 8;
  options.numerics.gradients = plan.gradients;
  options.build.micro_batches = plan.micro_batches;
  options.build.passes = plan.passes;
  options.build.eval_micro_batches = 2;
  options.build.recompute = plan.recompute;
  options.build.fuse = plan.fuse;
  options.build.workers.threads = plan.threads;
  options.build.homes = parse_homes(plan.homes, plan.layers);
  options.build.homes.slots.fill(plan.slots);
  options.build.spill_stash = plan.spill;
  options.build.stash_slots = plan.slots;
  options.sample_rows = plan.sample_rows;
  options.blobs = plan.blobs;
  ModelConfig model = tiny_model(plan.family, {.width = plan.width, .vocab = plan.vocab});
  model.layers = plan.layers;
  OptimConfig optim;
  optim.eps = 1e-5;
  return assemble_training(model, optim, standard_parametrization(), options);
}

}  // namespace sluice::testing
