#include "train/assembly.h"

#include "graph/backward.h"
#include "graph/derive.h"

namespace sluice {

ProgramSet assemble_training(const ModelConfig& config, const OptimConfig& optim,
                             const Parametrization& scales, const TrainingOptions& options) {
  auto model = std::make_shared<ModelGraphs>(
      build_forward(config, options.shape, scales, options.head_chunk));
  for (LayerGraph* graph : {&model->embedding, &model->block, &model->head})
    derive_backward(*graph);
  derive_packed_weights(*model);
  add_update(*model, optim, scales);
  ProgramSpec spec{std::move(model), true, {}, options.build};
  if (options.sample_rows > 0) spec.cached = cached_models(config, scales, options.sample_rows);
  return build_programs(spec);
}

ProgramSet assemble_training(const Config& config, const Plan& plan, int threads) {
  TrainingOptions options;
  options.shape = {plan.micro_batch, config.batch.sequence};
  options.head_chunk = plan.head_chunk;
  options.build.micro_batches = static_cast<int>(plan.micro_batches);
  options.build.recompute = plan.recompute;
  options.build.workers = {threads};
  options.sample_rows = config.run.sample_every > 0 ? 1 : 0;
  return assemble_training(config.model, config.optim, standard_parametrization(), options);
}

}  // namespace sluice
