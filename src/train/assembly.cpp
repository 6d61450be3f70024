#include "train/assembly.h"

#include <algorithm>

#include "graph/backward.h"
#include "graph/derive.h"
#include "graph/parts.h"
#include "models/freeze.h"

namespace sluice {

ProgramSpec training_spec(const ModelConfig& config, const OptimConfig& optim,
                          const Parametrization& scales, const TrainingOptions& options) {
  auto model = std::make_shared<ModelGraphs>(
      build_forward(config, options.shape, scales, options.head_chunk, options.numerics));
  freeze(*model, config, split_patterns(optim.freeze));
  if (options.blobs == Blobs::parts) cut_blocks(*model);
  for (const LayerKind kind : model->kinds()) derive_backward(model->of(kind), options.numerics);
  if (options.packed) derive_packed_weights(*model);
  add_update(*model, optim, scales, options.numerics);
  ProgramSpec spec{std::move(model), true, {}, options.build};
  if (options.sample_rows > 0)
    spec.cached = cached_models(config, scales, options.sample_rows, options.numerics,
                                options.packed, options.blobs);
  return spec;
}

Homes homes_of(const Plan& plan, const ModelConfig& model) {
  Homes homes = parse_homes(plan.homes, static_cast<int>(model.layers));
  homes.slots.fill(plan.slots);
  return homes;
}

int stash_slots_of(const Plan& plan) { return std::max(plan.slots, plan.stash_slots); }

ProgramSpec training_spec(const Config& config, const Plan& plan, int threads) {
  TrainingOptions options;
  options.shape = {plan.micro_batch, config.batch.sequence};
  options.head_chunk = plan.head_chunk;
  options.numerics = plan.numerics;
  options.numerics.ema = config.optim.ema;
  options.numerics.dropout = config.model.dropout > 0;
  options.numerics.seed = static_cast<std::uint64_t>(config.run.seed);
  options.build.micro_batches = static_cast<int>(plan.micro_batches);
  options.build.later_micro_batches.assign(plan.later_micro_batches.begin(),
                                           plan.later_micro_batches.end());
  options.build.passes = static_cast<int>(plan.passes);
  options.build.homes = homes_of(plan, config.model);
  options.build.spill_stash = plan.spill_stash;
  options.build.stash_slots = stash_slots_of(plan);
  options.build.recompute = plan.recompute;
  options.build.workers = {threads};
  options.blobs = plan.blobs;
  options.packed = plan.packed;
  options.sample_rows = config.run.sample_every > 0 ? 1 : 0;
  try {
    return training_spec(config.model, config.optim, standard_parametrization(), options);
  } catch (Error& e) {
    // Only here do the patterns meet the names of tensors.
    if (e.report().where == "optim.freeze") e.report().where = config.place("optim.freeze");
    throw;
  }
}

}  // namespace sluice
