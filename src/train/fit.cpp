#include "train/fit.h"

#include <algorithm>
#include <optional>

#include "backend/cpu/cpu.h"
#include "planner/placement.h"
#include "train/assembly.h"

namespace sluice {

MemoryBytes memory_of(const ProgramSet& programs, int threads) {
  const ProcessShape shape = process_shape(programs, threads, CpuBackend::scratch_bytes);
  return memory_bytes(programs, process_bytes(shape));
}

namespace {

PlacementChoices choices_of(const Config& config, const Plan& plan) {
  PlacementChoices out;
  out.blocks = static_cast<int>(config.model.layers);
  out.recompute = {plan.recompute};
  if (config.plan.recompute == "auto")
    out.recompute = {Recompute::none, Recompute::selective, Recompute::block};
  out.slots = {plan.slots};
  if (config.plan.slots == 0) out.slots = {3, 2};
  out.stash = {plan.spill_stash ? Stash::spilled : Stash::kept};
  if (config.plan.stash == "auto") out.stash = {Stash::kept, Stash::spilled};
  if (config.plan.homes != "auto") out.homes = config.plan.homes;
  out.passes = {plan.passes};
  if (config.plan.schedule != "micro-batch-major" && config.plan.passes == 0) {
    out.passes = {1};
    while (out.passes.back() < plan.micro_batches)
      out.passes.push_back(std::min(2 * out.passes.back(), plan.micro_batches));
  }
  out.resident_passes = plan.passes;
  return out;
}

Plan with(Plan plan, const Placement& placement) {
  plan.passes = placement.passes;
  plan.homes = placement.homes;
  plan.slots = placement.slots;
  plan.spill_stash = placement.stash == Stash::spilled;
  plan.recompute = placement.recompute;
  return plan;
}

// What each placement takes, the model's graphs made once.
class Sizes {
 public:
  Sizes(const Config& config, const Plan& plan, int threads)
      : model_(config.model), plan_(plan), spec_(training_spec(config, plan, threads)) {}

  TierBytes of(const Placement& placement) {
    const Plan plan = with(plan_, placement);
    spec_.options.passes = static_cast<int>(plan.passes);
    spec_.options.homes = homes_of(plan, model_);
    spec_.options.spill_stash = plan.spill_stash;
    spec_.options.stash_slots = plan.slots;
    spec_.options.recompute = plan.recompute;
    const MemoryMap memory = memory_map(spec_);
    return {memory.total(), memory.host_bytes()};
  }

 private:
  const ModelConfig& model_;
  const Plan& plan_;
  ProgramSpec spec_;
};

}  // namespace

TierBytes least_bytes(const Config& config, const Plan& plan, int threads) {
  Sizes sizes(config, plan, threads);
  const auto device = [&](const Placement& one) { return sizes.of(one).device; };
  return sizes.of(least(choices_of(config, plan), device));
}

Plan placed(const Config& config, const Plan& plan, int threads) {
  const std::int64_t budget = config.plan.device_memory;
  Sizes sizes(config, plan, threads);
  Placement placement{plan.passes, plan.homes, plan.slots, plan.recompute,
                      plan.spill_stash ? Stash::spilled : Stash::kept};
  if (budget > 0) {
    const PlacementChoices choices = choices_of(config, plan);
    const auto device = [&](const Placement& one) { return sizes.of(one).device; };
    const std::optional<Placement> found = first_that_fits(choices, budget, device);
    require(found.has_value(), [&] {
      const std::int64_t needed = device(least(choices, device));
      return Error(Exit::memory,
                   {fmt::format("the device's budget is too small: {} are the least that do",
                                human_bytes(needed)),
                    config.place("plan.device_memory"),
                    fmt::format("at least {} bytes", needed),
                    fmt::format("{}", budget),
                    {fmt::format("plan.device_memory = {}", needed)}});
    });
    placement = *found;
  }
  const std::int64_t host = sizes.of(placement).host, there = config.plan.host_memory;
  require(there == 0 || host <= there, [&] {
    return Error(Exit::memory,
                 {fmt::format("what streams needs {} of host memory", human_bytes(host)),
                  config.place("plan.host_memory"),
                  fmt::format("at least {} bytes", host),
                  fmt::format("{}", there),
                  {fmt::format("plan.host_memory = {}", host)}});
  });
  return with(plan, placement);
}

std::vector<PlanChange> changes_that_fit(const Config& config, int threads,
                                         std::int64_t available) {
  const Plan plan = placed(config, plan_of(config), threads);
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
    const Plan again = placed(changed, plan_of(changed), threads);
    return memory_of(assemble_training(changed, again, threads), threads).total;
  };
  return changes_that_fit(candidate_changes(now), available, total_of);
}

}  // namespace sluice
