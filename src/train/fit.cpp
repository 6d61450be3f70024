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
    spec_.options.recompute = plan.recompute;
    const MemoryMap memory = memory_map(spec_);
    return {memory.total(), memory.host_bytes(), memory.disk_bytes()};
  }

 private:
  const ModelConfig& model_;
  const Plan& plan_;
  ProgramSpec spec_;
};

// The placement with as much on disk as the host's budget wants, or as makes it smallest.
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

}  // namespace

TierBytes least_bytes(const Config& config, const Plan& plan, int threads) {
  Sizes sizes(config, plan, threads);
  return sizes.of(within_host(config, sizes, least(choices_of(config, plan))));
}

namespace {

// The first placement within the device's budget.
Placement within_device(const Config& config, const Plan& plan, Sizes& sizes) {
  const std::int64_t budget = config.plan.device_memory;
  if (budget == 0) return {plan.passes, plan.homes, plan.slots, plan.recompute};
  const PlacementChoices choices = choices_of(config, plan);
  const auto device = [&](const Placement& one) { return sizes.of(one).device; };
  const std::optional<Placement> found = first_that_fits(choices, budget, device);
  require(found.has_value(), [&] {
    const std::int64_t needed = device(least(choices));
    return Error(Exit::memory,
                 {fmt::format("the device's budget is too small: {} are the least that do",
                              human_bytes(needed)),
                  config.place("plan.device_memory"),
                  fmt::format("at least {} bytes", needed),
                  fmt::format("{}", budget),
                  {fmt::format("plan.device_memory = {}", needed)}});
  });
  return *found;
}

// What streams needs so much of the tier whose budget `key` is.
void require_room(const Config& config, Exit code, const char* tier, const char* key,
                  std::int64_t needed, std::int64_t budget) {
  require(budget == 0 || needed <= budget, [&] {
    return Error(code, {fmt::format("what streams needs {} of {}", human_bytes(needed), tier),
                        config.place(key),
                        fmt::format("at least {} bytes", needed),
                        fmt::format("{}", budget),
                        {fmt::format("{} = {}", key, needed)}});
  });
}

}  // namespace

Plan placed(const Config& config, const Plan& plan, int threads) {
  Sizes sizes(config, plan, threads);
  const Placement placement = within_host(config, sizes, within_device(config, plan, sizes));
  const TierBytes bytes = sizes.of(placement);
  require_room(config, Exit::memory, "host memory", "plan.host_memory", bytes.host,
               config.plan.host_memory);
  require_room(config, Exit::disk, "disk", "plan.disk_memory", bytes.disk, config.plan.disk_memory);
  return with(plan, placement);
}

namespace {

// Budgets within which everything that can leave memory does: `process` is what lies beside them.
// None when even that does not fit, or a person has chosen.
std::optional<PlanChange> streaming_change(const Config& config, const Plan& plan, int threads,
                                           std::int64_t process, std::int64_t available) {
  if (config.plan.homes != "auto" || config.plan.device_memory > 0 || config.plan.host_memory > 0)
    return std::nullopt;
  Config smallest = config;
  smallest.plan.host_memory = 1;
  const TierBytes least = least_bytes(smallest, plan, threads);
  // Programs that stream are longer, and so is what the process keeps of them.
  const std::int64_t device = available - least.host - 2 * process;
  if (device < least.device) return std::nullopt;
  return PlanChange{{{"plan.device_memory", fmt::format("{}", device)},
                     {"plan.host_memory", fmt::format("{}", least.host)}},
                    false};
}

}  // namespace

std::vector<PlanChange> changes_that_fit(const Config& config, int threads,
                                         std::int64_t available) {
  const Plan plan = placed(config, plan_of(config), threads);
  const MemoryBytes bytes = memory_of(assemble_training(config, plan, threads), threads);
  const auto streaming = streaming_change(config, plan, threads, bytes.process, available);
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
  std::vector<PlanChange> candidates = candidate_changes(now);
  // What keeps these in memory needs not be planned many times to see that it does not fit.
  if (bytes.weights + bytes.gradients + bytes.optimizer + bytes.derived > available)
    candidates.clear();
  const auto first_of_key = std::find_if(candidates.begin(), candidates.end(),
                                         [](const PlanChange& c) { return c.changes_key; });
  if (streaming) candidates.insert(first_of_key, *streaming);
  return changes_that_fit(candidates, available, total_of);
}

}  // namespace sluice
