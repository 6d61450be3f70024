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
  out.slots = out.part_slots = {plan.slots};
  if (config.plan.slots == 0) out.slots = {3, 2}, out.part_slots = {4, 2};
  out.blobs = {plan.blobs};
  if (config.plan.blobs == "auto") out.blobs = {Blobs::layer, Blobs::parts};
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
  plan.blobs = placement.blobs;
  plan.slots = placement.slots;
  if (placement.stash_slots > 0) plan.stash_slots = placement.stash_slots;  // else as said
  plan.spill_stash = placement.stash == Stash::spilled;
  plan.recompute = placement.recompute;
  return plan;
}

Sizes::Sizes(const Config& config, const Plan& plan, int threads)
    : config_(config), plan_(plan), threads_(threads) {}

ProgramSpec& Sizes::spec_of(Blobs blobs) {
  std::optional<ProgramSpec>& spec = specs_[static_cast<std::size_t>(blobs)];
  if (!spec) {
    Plan plan = plan_;
    plan.blobs = blobs;
    spec = training_spec(config_, plan, threads_);
  }
  return *spec;
}

TierBytes Sizes::of(const Placement& placement) {
  const Plan plan = with(plan_, placement);
  ProgramSpec& spec = spec_of(plan.blobs);
  spec.options.passes = static_cast<int>(plan.passes);
  spec.options.homes = homes_of(plan, config_.model);
  spec.options.spill_stash = plan.spill_stash;
  spec.options.stash_slots = stash_slots_of(plan);
  spec.options.recompute = plan.recompute;
  const MemoryMap memory = memory_map(spec);
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
