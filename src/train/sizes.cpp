#include "train/sizes.h"

#include <algorithm>

#include "train/assembly.h"

namespace sluice {

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
  if (placement.stash_slots > 0) plan.stash_slots = placement.stash_slots;  // else as said
  plan.spill_stash = placement.stash == Stash::spilled;
  plan.recompute = placement.recompute;
  return plan;
}

Sizes::Sizes(const Config& config, const Plan& plan, int threads)
    : model_(config.model), plan_(plan), spec_(training_spec(config, plan, threads)) {}

TierBytes Sizes::of(const Placement& placement) {
  const Plan plan = with(plan_, placement);
  spec_.options.passes = static_cast<int>(plan.passes);
  spec_.options.homes = homes_of(plan, model_);
  spec_.options.spill_stash = plan.spill_stash;
  spec_.options.stash_slots = stash_slots_of(plan);
  spec_.options.recompute = plan.recompute;
  const MemoryMap memory = memory_map(spec_);
  return {memory.total(), memory.host_bytes(), memory.disk_bytes()};
}

Placement within_host(const Config& config, Sizes& sizes, Placement placement) {
  const std::int64_t budget = config.plan.host_memory;
  if (budget == 0 || config.plan.homes != "auto") return placement;
  const auto blocks = static_cast<int>(config.model.layers);
  const auto host = [&](const std::string& homes) {
    Placement moved = placement;
    moved.homes = homes;
    return sizes.of(moved).host;
  };
  placement.homes = homes_within(placement.homes, blocks, budget, host);
  return placement;
}

}  // namespace sluice
