#include "train/machine_fit.h"

#include <fmt/ranges.h>

#include <optional>

#include "models/published.h"
#include "planner/simulate.h"
#include "train/assembly.h"
#include "train/fit.h"
#include "train/sizes.h"

namespace sluice {

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
  return best ? with(plan, *best) : placed(config, plan, threads, 0);  // which says why none does
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
