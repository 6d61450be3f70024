#include "train/fit.h"

#include "backend/cpu/cpu.h"
#include "train/assembly.h"

namespace sluice {

MemoryBytes memory_of(const ProgramSet& programs, int threads) {
  const ProcessShape shape = process_shape(programs, threads, CpuBackend::scratch_bytes);
  return memory_bytes(programs, process_bytes(shape));
}

std::vector<PlanChange> changes_that_fit(const Config& config, int threads,
                                         std::int64_t available) {
  const Plan plan = plan_of(config);
  // What no such change makes smaller; without this look a hopeless model is planned many times.
  const MemoryBytes bytes = memory_of(assemble_training(config, plan, threads), threads);
  if (bytes.weights + bytes.gradients + bytes.optimizer + bytes.derived > available) return {};
  PlanChoices now;
  now.recompute = name_of(plan.recompute);
  now.micro_batch = plan.micro_batch;
  now.sequence = config.batch.sequence;
  now.samples = config.run.sample_every > 0;
  const auto total_of = [&](const PlanChange& change) {
    Config changed = config;
    for (const PlanChange::Setting& setting : change.settings) {
      const std::string text = fmt::format("{}={}", setting.key, setting.value);
      apply_overrides(changed, {&text, 1});
    }
    check(changed);
    return memory_of(assemble_training(changed, plan_of(changed), threads), threads).total;
  };
  return changes_that_fit(candidate_changes(now), available, total_of);
}

}  // namespace sluice
