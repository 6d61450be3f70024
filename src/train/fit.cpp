#include "train/fit.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "backend/cpu/cpu.h"
#include "models/published.h"
#include "planner/placement.h"
#include "planner/simulate.h"
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

// What a placement takes of the device. Spilling is no way out where the host's budget has no room
// for the stash, even with all blobs on disk: a stash never goes there.
DeviceBytes device_of(const Config& config, Sizes& sizes, const PlacementChoices& choices) {
  const bool may_keep =
      std::find(choices.stash.begin(), choices.stash.end(), Stash::kept) != choices.stash.end();
  const std::int64_t host = may_keep ? config.plan.host_memory : 0;
  return [&sizes, host, homes = config.plan.homes](const Placement& placement) {
    if (placement.stash == Stash::spilled && host > 0) {
      Placement on_disk = placement;
      if (homes == "auto") on_disk.homes = "disk";
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

// The first placement within the device's budget.
Placement within_device(const Config& config, const Plan& plan, Sizes& sizes) {
  const std::int64_t budget = config.plan.device_memory;
  if (budget == 0)
    return {plan.passes, plan.homes, plan.slots, plan.recompute,
            plan.spill_stash ? Stash::spilled : Stash::kept};
  const PlacementChoices choices = choices_of(config, plan);
  std::optional<Placement> found =
      first_that_fits(choices, budget, device_of(config, sizes, choices));
  const auto device = [&](const Placement& one) { return sizes.of(one).device; };
  // What would fit with more of the host is refused for that.
  if (!found) found = first_that_fits(choices, budget, device);
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

Config on_machine(const Config& config, const Machine& machine) {
  Config out = config;
  const bool bf16 = gemm_rate(machine, "bf16", 1024, 1024, 1024) >
                    gemm_rate(machine, "float32", 1024, 1024, 1024);
  if (out.plan.precision == "auto") out.plan.precision = bf16 ? "bf16" : "float32";
  if (machine.device == "cpu") return out;  // its memory is one, and is looked at as a whole
  if (out.plan.device_memory == 0) out.plan.device_memory = machine.device_budget();
  if (out.plan.host_memory == 0) out.plan.host_memory = machine.host_budget();
  if (out.plan.disk_memory == 0)
    out.plan.disk_memory = static_cast<std::int64_t>(machine.disk_memory.value);
  return out;
}

Plan plan_of(const Config& config, const Machine& machine) {
  Plan plan = plan_of(config);
  plan.packed = machine.packs;
  return plan;
}

namespace {

// Seconds of a step with a placement. The passes between the first and the last are alike, so a
// step of many is costed as one of four and as many more as it has times what the fourth adds.
class Steps {
 public:
  Steps(const Config& config, const Plan& plan, const Machine& machine, int threads)
      : config_(config), plan_(plan), machine_(machine), threads_(threads) {}

  double seconds(const Placement& placement) const {
    const Plan plan = with(plan_, placement);
    const std::int64_t passes = plan.passes == 0 ? plan.micro_batches : plan.passes;
    if (passes <= few) return seconds(plan, plan.micro_batches);
    const std::int64_t at_once = (plan.micro_batches + passes - 1) / passes;
    const double less = seconds(cut(plan, few - 1), (few - 1) * at_once);
    const double more = seconds(cut(plan, few), few * at_once);
    return more + static_cast<double>(plan.micro_batches - few * at_once) /
                      static_cast<double>(at_once) * (more - less);
  }

 private:
  static constexpr std::int64_t few = 4;

  static Plan cut(Plan plan, std::int64_t passes) {
    if (plan.passes > 0) plan.passes = passes;
    return plan;
  }
  double seconds(Plan plan, std::int64_t micro_batches) const {
    plan.micro_batches = micro_batches;
    plan.later_micro_batches.clear();
    return simulate(assemble_training(config_, plan, threads_), machine_).seconds;
  }

  const Config& config_;
  const Plan& plan_;
  const Machine& machine_;
  int threads_;
};

}  // namespace

namespace {

// Within the budgets of all three tiers.
std::vector<Placement> within_budgets(const Config& config, const Plan& plan, Sizes& sizes) {
  const auto device = [&](const Placement& one) { return sizes.of(one).device; };
  std::vector<Placement> out;
  for (const Placement& one :
       all_that_fit(choices_of(config, plan), config.plan.device_memory, device)) {
    const Placement placement = within_host(config, sizes, one);
    const TierBytes bytes = sizes.of(placement);
    const auto fits = [](std::int64_t needed, std::int64_t budget) {
      return budget == 0 || needed <= budget;
    };
    if (fits(bytes.host, config.plan.host_memory) && fits(bytes.disk, config.plan.disk_memory))
      out.push_back(placement);
  }
  return out;
}

}  // namespace

Plan fastest(const Config& config, const Plan& plan, const Machine& machine, int threads) {
  if (machine.device == "cpu") return placed(config, plan, threads);
  Sizes sizes(config, plan, threads);
  const Steps steps(config, plan, machine, threads);
  std::optional<Placement> best;
  double least = 0;
  for (const Placement& one : within_budgets(config, plan, sizes)) {
    const double seconds = steps.seconds(one);
    if (best && seconds >= least) continue;
    best = one;
    least = seconds;
  }
  return best ? with(plan, *best) : placed(config, plan, threads);  // which says why none does
}

namespace {

bool fits(const Config& asked, const Machine& machine) {
  try {
    const Config config = on_machine(asked, machine);
    check(config);
    const Plan plan = plan_of(config, machine);
    if (machine.device == "cpu") {
      placed(config, plan, 1);
      return true;
    }
    Sizes sizes(config, plan, 1);
    return !within_budgets(config, plan, sizes).empty();
  } catch (const Error&) {
    return false;
  }
}

// The largest published model that is smaller and fits, in the same run; empty: none.
std::string smaller_model(const Config& asked, const Machine& machine) {
  std::string best;
  std::int64_t most = 0;
  const std::int64_t all = parameters_of(asked.model);
  for (const std::string& name : builtin_names()) {
    Config config = asked;
    config.model = load_config(name).model;
    const std::int64_t parameters = parameters_of(config.model);
    const bool same = config.model.family == asked.model.family;
    if (!same || parameters >= all || parameters <= most || !fits(config, machine)) continue;
    best = name;
    most = parameters;
  }
  return best;
}

// The most blocks that fit; 0: not one.
std::int64_t layers_that_fit(Config config, const Machine& machine) {
  std::int64_t fit = 0, too_many = config.model.layers;
  while (too_many - fit > 1) {
    config.model.layers = (fit + too_many) / 2;
    (fits(config, machine) ? fit : too_many) = config.model.layers;
  }
  return fit;
}

}  // namespace

std::vector<std::string> changes_that_fit(const Config& asked, const Machine& machine) {
  constexpr std::size_t most = 3;
  std::vector<std::string> out;
  const auto consider = [&](const std::vector<std::string>& settings) {
    Config config = asked;
    apply_overrides(config, settings);
    if (out.size() < most && fits(config, machine))
      out.push_back(fmt::format("--{}", fmt::join(settings, " --")));
  };
  if (asked.plan.passes > 0) consider({"plan.passes=auto"});
  if (asked.plan.state != "compact") consider({"plan.state=compact"});
  if (asked.plan.gradients == "auto") consider({"plan.gradients=bf16"});
  if (asked.plan.gradients == "auto" && asked.plan.state != "compact")
    consider({"plan.state=compact", "plan.gradients=bf16"});
  const std::int64_t micro_batch = plan_of(on_machine(asked, machine), machine).micro_batch;
  if (micro_batch > 1) consider({fmt::format("plan.micro_batch={}", micro_batch / 2)});
  if (asked.batch.sequence > 512)
    consider({fmt::format("batch.sequence={}", asked.batch.sequence / 4)});
  for (const BuiltinMachine& one : builtin_machines()) {
    const Machine other = load_machine(std::string(one.name));
    const bool larger = other.real && other.host_budget() > machine.host_budget();
    if (out.size() < most && larger && fits(asked, other))
      out.push_back(fmt::format("--machine {}", one.name));
  }
  if (const std::string name = smaller_model(asked, machine); out.size() < most && !name.empty())
    out.push_back(fmt::format("{}, a smaller model", name));
  Config smaller = asked;
  for (const char* state : {"", "compact"}) {
    if (out.size() == most || asked.plan.state == state) continue;
    if (*state != '\0') smaller.plan.state = state;
    if (const std::int64_t layers = layers_that_fit(smaller, machine); layers > 0)
      out.push_back(fmt::format("--model.layers={}{}", layers,
                                *state == '\0' ? "" : " --plan.state=compact"));
  }
  for (const BuiltinMachine& one : builtin_machines()) {
    const Machine other = load_machine(std::string(one.name));
    const bool larger = other.real && other.host_budget() > machine.host_budget();
    if (out.size() == most || !larger) continue;
    if (const std::int64_t layers = layers_that_fit(asked, other); layers > 0)
      out.push_back(fmt::format("--machine {} --model.layers={}", one.name, layers));
  }
  return out;
}

}  // namespace sluice
