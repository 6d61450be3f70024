#include "train/machine_fit.h"

#include <optional>
#include <utility>

#include "planner/budget.h"
#include "planner/simulate.h"
#include "train/assembly.h"
#include "train/changes.h"
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
  plan.numerics.attention = attention_of(config, machine.device != "cpu");
  plan.numerics.gelu_in_product = gelu_in_product(config, machine.device != "cpu");
  return plan;
}

namespace {

// Seconds of a step with a placement. The passes between the first and the last are alike, so a
// step of many is costed as one of four and as many more as it has times what the fourth adds.
class Steps {
 public:
  Steps(const Config& config, const Plan& plan, const Machine& machine, int threads)
      : config_(config), plan_(plan), machine_(machine), threads_(threads) {}

  double seconds(const Placement& placement) const { return seconds(with(plan_, placement)); }
  double seconds(const Plan& plan) const {
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

// Within the budgets of all three tiers.
std::vector<Placement> within_budgets(const Config& config, const Plan& plan, Sizes& sizes) {
  const auto device = [&](const Placement& one) { return sizes.of(one).device; };
  std::vector<Placement> out;
  const auto fits = [](std::int64_t needed, std::int64_t budget) {
    return budget == 0 || needed <= budget;
  };
  PlacementChoices choices = choices_of(config, plan);
  // Parts of blocks are for what does not fit with whole ones.
  for (const Blobs blobs : std::exchange(choices.blobs, {})) {
    choices.blobs = {blobs};
    for (const Placement& one : all_that_fit(choices, config.plan.device_memory, device)) {
      const Placement placement = within_host(config, sizes, one);
      const TierBytes bytes = sizes.of(placement);
      if (fits(bytes.host, config.plan.host_memory) && fits(bytes.disk, config.plan.disk_memory))
        out.push_back(placement);
    }
    if (!out.empty()) break;
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
  if (!best) return placed(config, plan, threads, 0);  // which says why none does
  // All that fit are the first few of their kind, and those may have been too much for the host.
  try {
    Plan first = placed(config, plan, threads, 0);
    if (steps.seconds(first) < least) return first;
  } catch (const BudgetError&) {  // then what was found is all there is
  }
  return with(plan, *best);
}

namespace {

// Throws unless it fits.
void plan_again(const Config& asked, const Machine& machine) {
  const Config config = on_machine(asked, machine);
  check(config);
  const Plan plan = plan_of(config, machine);
  if (machine.device != "cpu") {
    Sizes sizes(config, plan, 1);
    if (!within_budgets(config, plan, sizes).empty()) return;
  }
  placed(config, plan, 1);
}

bool fits(const Config& asked, const Machine& machine) {
  try {
    plan_again(asked, machine);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::vector<std::string> changes_that_fit(const Config& asked, const Machine& machine) {
  const Changes::Again again = [&](const Config& config) { plan_again(config, machine); };
  Changes changes(asked, again);
  const std::vector<std::string> budgets = {"plan.device_memory", "plan.host_memory",
                                            "plan.disk_memory"};
  const PlanConfig& plan = asked.plan;
  if (plan.device_memory > 0 || plan.host_memory > 0 || plan.disk_memory > 0)
    changes.budgets(budgets);
  changes.free_choices();
  changes.formats();
  changes.smaller_batches(plan_of(on_machine(asked, machine), machine).micro_batch);
  changes.budgets({"plan.host_memory", "plan.disk_memory"});
  std::vector<Machine> larger;
  for (const BuiltinMachine& one : builtin_machines())
    if (Machine other = load_machine(std::string(one.name));
        other.real && other.host_budget() > machine.host_budget())
      larger.push_back(std::move(other));
  for (const Machine& other : larger)
    if (!changes.enough() && fits(asked, other))
      changes.machine(fmt::format("--machine {}", other.name));
  changes.smaller_model();
  changes.fewer_layers();
  if (asked.plan.state != "compact") changes.fewer_layers("plan.state=compact");
  for (const Machine& other : larger) {
    if (changes.enough()) break;
    const Changes::Again there = [&](const Config& config) { plan_again(config, other); };
    if (const std::int64_t layers = layers_that_fit(asked, there); layers > 0)
      changes.machine(fmt::format("--machine {} --model.layers={}", other.name, layers));
  }
  if (asked.plan.state != "compact") changes.smaller_model("plan.state=compact");
  changes.budgets(budgets);
  changes.other_models();
  std::vector<std::string> out;
  for (const Alternative& change : std::move(changes).take()) out.push_back(change.as_options());
  return out;
}

}  // namespace sluice
