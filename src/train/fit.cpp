#include "train/fit.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "backend/cpu/cpu.h"
#include "models/published.h"
#include "planner/budget.h"
#include "train/assembly.h"
#include "train/changes.h"
#include "train/sizes.h"

namespace sluice {

Counted Counted::on_gpu(std::int64_t rest, std::int64_t host) {
  Counted out(1);
  out.rest = rest, out.host = host;
  return out;
}

MemoryBytes memory_of(const ProgramSet& programs, const Counted& counted) {
  const std::int64_t scratch = counted.gpu() ? 0 : CpuBackend::scratch_bytes;
  const std::int64_t process = process_bytes(process_shape(programs, counted.threads, scratch));
  return counted.gpu() ? memory_on_gpu(programs, process, counted.rest)
                       : memory_bytes(programs, process);
}

namespace {

// The blocks on disk, and embedding and head where they were.
std::string as_much_on_disk(const std::string& homes) {
  const std::size_t ends = homes.starts_with("host,") ? homes.find(',') : homes.npos;
  return ends == homes.npos ? "disk" : "disk" + homes.substr(ends);
}

// What a placement takes of the device. Neither spilling nor an end on the host is a way out where
// the host's budget has no room for it, even with all blocks on disk: it never goes there.
DeviceBytes device_of(const Config& config, Sizes& sizes, const PlacementChoices& choices) {
  const bool may_keep =
      std::find(choices.stash.begin(), choices.stash.end(), Stash::kept) != choices.stash.end();
  return [&sizes, may_keep, host = config.plan.host_memory,
          open = config.plan.homes == "auto"](const Placement& placement) {
    const bool spills = may_keep && placement.stash == Stash::spilled;
    const bool ends_leave = open && placement.homes.find("@ends") != std::string::npos;
    if (host > 0 && (spills || ends_leave)) {
      Placement on_disk = placement;
      if (open) on_disk.homes = as_much_on_disk(placement.homes);
      if (sizes.of(on_disk).host > host) return std::numeric_limits<std::int64_t>::max();
    }
    return sizes.of(placement).device;
  };
}

}  // namespace

TierBytes least_bytes(const Config& config, const Plan& plan, int threads) {
  Sizes sizes(config, plan, threads);
  const PlacementChoices choices = choices_of(config, plan);
  const DeviceBytes device = device_of(config, sizes, choices);
  return sizes.of(within_host(config, sizes, least(choices, device)));
}

namespace {

Budget budget_of(const Config& config, const char* key, std::int64_t bytes) {
  return {key, config.place(key), bytes};
}

// The first placement within the device's budget, of those with these blobs.
Placement within_device(const Config& config, const Plan& plan, Sizes& sizes, Blobs blobs) {
  const std::int64_t budget = config.plan.device_memory;
  const PlacementChoices all = choices_of(config, plan);
  if (budget == 0)
    return {plan.passes,
            plan.homes,
            all.slots_of(blobs).front(),
            plan.recompute,
            plan.spill_stash ? Stash::spilled : Stash::kept,
            0,
            blobs};
  PlacementChoices choices = all;
  choices.blobs = {blobs};
  std::optional<Placement> found =
      first_that_fits(choices, budget, device_of(config, sizes, choices));
  const auto device = [&](const Placement& one) { return sizes.of(one).device; };
  // What would fit with more of the host is refused for that.
  if (!found) found = first_that_fits(choices, budget, device);
  require(found.has_value(), [&] {
    return below_the_least(budget_of(config, "plan.device_memory", budget),
                           device(least(all, device)));
  });
  return *found;
}

// The same within the budgets of all three tiers.
Placement within_budgets(const Config& config, const Plan& plan, Sizes& sizes, Blobs blobs) {
  Placement placement = within_host(config, sizes, within_device(config, plan, sizes, blobs));
  const TierBytes bytes = sizes.of(placement);
  require_room(budget_of(config, "plan.host_memory", config.plan.host_memory), Exit::memory,
               "what streams needs", "host memory", bytes.host);
  require_room(budget_of(config, "plan.disk_memory", config.plan.disk_memory), Exit::disk,
               "what streams needs", "disk", bytes.disk);
  return placement;
}

// Parts of blocks are for what does not fit with whole ones. When neither fits the refusal is of
// what came farther (device, host, then disk), or needs less.
Placement placement_of(const Config& config, const Plan& plan, Sizes& sizes) {
  const std::vector<Blobs> blobs = choices_of(config, plan).blobs;
  std::optional<BudgetError> whole;
  try {
    return within_budgets(config, plan, sizes, blobs.front());
  } catch (const BudgetError& e) {
    if (blobs.size() == 1) throw;
    whole = e;
  }
  try {
    return within_budgets(config, plan, sizes, blobs.back());
  } catch (const BudgetError& parts) {
    const auto came_to = [](const BudgetError& e) {
      return e.key() == "plan.disk_memory" ? 2 : e.key() == "plan.host_memory" ? 1 : 0;
    };
    const int farther = came_to(parts) - came_to(*whole);
    if (farther > 0 || (farther == 0 && parts.least() < whole->least())) throw;
  }
  throw BudgetError(*whole);
}

}  // namespace

Plan placed(const Config& config, const Plan& plan, int threads, int most_stash_slots) {
  Sizes sizes(config, plan, threads);
  const Placement placement = placement_of(config, plan, sizes);
  if (config.plan.device_memory == 0 || config.plan.slots != 0 || plan.stash_slots > 0)
    return with(plan, placement);
  const auto device = [&](const Placement& one) { return sizes.of(one).device; };
  return with(plan,
              with_stash_slots(placement, most_stash_slots, config.plan.device_memory, device));
}

namespace {

// Bytes that count against what is available; more than there can be when the host has too little.
std::int64_t needed(const MemoryBytes& bytes, const Counted& counted) {
  const bool host_lacks = counted.gpu() && bytes.host + bytes.process > counted.host;
  return host_lacks ? std::numeric_limits<std::int64_t>::max() : bytes.total;
}

// Plans a config; throws Error unless it takes at most `available` bytes.
void plan_again(const Config& config, bool packed, const Counted& counted, std::int64_t available) {
  const auto fits = [&](std::int64_t bytes) {
    require(bytes <= available, [] { return Error(Exit::memory, {"too large", {}, {}, {}, {}}); });
  };
  // Weights, gradients and state in the smallest formats, where nothing may leave memory: what
  // cannot fit needs no programs.
  const bool all_here = config.plan.homes == "auto" && config.plan.device_memory == 0;
  if (all_here || config.plan.homes == "device") fits(6 * parameters_of(config.model));
  Plan open = plan_of(config);
  open.packed = packed;
  const Plan plan = placed(config, open, counted.threads);
  fits(needed(memory_of(assemble_training(config, plan, counted.threads), counted), counted));
}

}  // namespace

Plan placed_or_told(const Config& config, const Plan& plan, const Counted& counted,
                    std::int64_t available) {
  try {
    return placed(config, plan, counted.threads);
  } catch (BudgetError& e) {
    const Changes::Again again = [&](const Config& c) {
      plan_again(c, plan.packed, counted, available);
    };
    Changes changes(config, again);
    changes.budgets({"plan.device_memory", "plan.host_memory", "plan.disk_memory"});
    changes.free_choices();
    changes.formats();
    changes.smaller_batches(plan.micro_batch);
    changes.smaller_model();
    changes.fewer_layers();
    changes.smaller_model("plan.state=compact");
    changes.other_models();
    const std::vector<Alternative> found = std::move(changes).take();
    if (!found.empty()) e.report().tries.clear();
    for (const Alternative& one : found) e.report().tries.push_back(one.as_lines().text());
    throw;
  }
}

namespace {

// Budgets within which everything that can leave memory does: `process` is what lies beside them.
// None when even that does not fit, or a person has chosen.
std::optional<PlanChange> streaming_change(const Config& config, const Plan& plan,
                                           const Counted& counted, std::int64_t process,
                                           std::int64_t available) {
  if (config.plan.homes != "auto" || config.plan.device_memory > 0 || config.plan.host_memory > 0)
    return std::nullopt;
  if (counted.gpu()) {  // the host's memory is another
    const std::int64_t budget = available - counted.rest, of_host = counted.host - 2 * process;
    const TierBytes least = least_bytes(config, plan, counted.threads);
    if (budget < least.device) return std::nullopt;
    PlanChange out{{{"plan.device_memory", fmt::format("{}", budget)}}, false};
    if (least.host > of_host && of_host > 0)  // the rest on disk
      out.settings.push_back({"plan.host_memory", fmt::format("{}", of_host)});
    return out;
  }
  Config smallest = config;
  smallest.plan.host_memory = 1;
  smallest.plan.homes = "disk";  // blocks: embedding and head on the host would take more in all
  const TierBytes least = least_bytes(smallest, plan, counted.threads);
  // Programs that stream are longer, and so is what the process keeps of them.
  const std::int64_t device = available - least.host - 2 * process;
  if (device < least.device) return std::nullopt;
  return PlanChange{{{"plan.device_memory", fmt::format("{}", device)},
                     {"plan.host_memory", fmt::format("{}", least.host)}},
                    false};
}

}  // namespace

std::vector<PlanChange> changes_that_fit(const Config& config, const Counted& counted,
                                         std::int64_t available) {
  const int threads = counted.threads;
  const Plan plan = placed(config, plan_of(config), threads);
  const MemoryBytes bytes = memory_of(assemble_training(config, plan, threads), counted);
  const auto streaming = streaming_change(config, plan, counted, bytes.process, available);
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
    return needed(memory_of(assemble_training(changed, again, threads), counted), counted);
  };
  std::vector<PlanChange> candidates = candidate_changes(now);
  // What keeps these in memory needs not be planned many times to see that it does not fit.
  if (bytes.weights + bytes.gradients + bytes.optimizer + bytes.derived > available)
    candidates.clear();
  const auto first_of_key = std::find_if(candidates.begin(), candidates.end(),
                                         [](const PlanChange& c) { return c.changes_key; });
  if (streaming) candidates.insert(first_of_key, *streaming);
  std::vector<PlanChange> out = changes_that_fit(candidates, available, total_of);
  if (out.size() == Changes::most) return out;
  const Changes::Again again = [&](const Config& c) {
    plan_again(c, plan.packed, counted, available);
  };
  Changes changes(config, again);
  changes.free_choices();
  changes.formats();
  changes.smaller_model();
  changes.fewer_layers();
  changes.smaller_model("plan.state=compact");
  changes.other_models();
  for (const Alternative& one : std::move(changes).take())
    if (out.size() < Changes::most) out.push_back(one.as_lines());
  return out;
}

}  // namespace sluice
