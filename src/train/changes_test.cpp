#include "train/changes.h"

#include <gtest/gtest.h>

#include <random>

#include "planner/budget.h"
#include "train/fit.h"
#include "train/machine_fit.h"

namespace sluice {
namespace {

constexpr std::int64_t no_limit = std::int64_t{1} << 60;

Config tiny(const std::vector<std::string>& settings) {
  Config config = parse_config(
      "model = { layers = 6, width = 64, heads = 2, context = 256, vocab = 300 }\n"
      "batch = { tokens = 2048, sequence = 256 }\nplan = { micro_batch = 4 }\n",
      "tiny.toml");
  apply_overrides(config, settings);
  check(config);
  return config;
}

// "plan.state = "compact" and plan.passes = 2, … (another …)" as the settings that it tells.
std::vector<std::string> settings_in(std::string text) {
  text = text.substr(0, std::min(text.find(','), text.find(" (")));
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(" and ", at), text.size());
    std::string one = text.substr(at, end - at);
    std::erase_if(one, [](char c) { return c == ' ' || c == '"'; });
    out.push_back(one);
    at = end + 5;
  }
  return out;
}

// How many changes a refusal names; each is carried out and must fit.
int changes_of(const Config& config) {
  try {
    placed_or_told(config, plan_of(config), 2, no_limit);
    return -1;
  } catch (const BudgetError& e) {
    for (const std::string& text : e.report().tries) {
      if (text.find(" model") != std::string::npos) continue;  // of another name
      Config changed = config;
      apply_overrides(changed, settings_in(text));
      EXPECT_NO_THROW(placed(changed, plan_of(changed), 2)) << text;
    }
    return static_cast<int>(e.report().tries.size());
  }
}

TEST(Changes, EachOneFitsAndThereAreThree) {
  // What a person chose can be left to the planner, made smaller, or given more room.
  for (const std::vector<std::string>& asked :
       std::vector<std::vector<std::string>>{{"plan.homes=host", "plan.host_memory=1000"},
                                             {"plan.homes=disk", "plan.disk_memory=1000"},
                                             {"plan.stash=spilled", "plan.host_memory=1000"}})
    EXPECT_EQ(changes_of(tiny(asked)), 3) << asked.front();
  // A byte less of the device than the least.
  for (const std::vector<std::string>& asked : std::vector<std::vector<std::string>>{
           {},
           {"plan.precision=bf16"},
           {"plan.homes=device"},
           {"plan.recompute=none", "plan.schedule=layer-major", "plan.passes=1"},
           {"plan.schedule=micro-batch-major", "plan.stash=kept"}}) {
    Config config = tiny(asked);
    config.plan.device_memory = 1;
    config.plan.device_memory = least_bytes(config, plan_of(config), 2).device - 1;
    EXPECT_EQ(changes_of(config), 3) << (asked.empty() ? "all open" : asked.front());
  }
  // Room for next to nothing: no formats and no batch do, the blobs of one block alone are larger.
  // More of the budget remains, and no budget at all.
  EXPECT_EQ(changes_of(tiny({"plan.device_memory=1000"})), 2);
  EXPECT_EQ(changes_of(tiny({})), -1);
}

// The budgets that are named are exact: a byte less of one is refused.
TEST(Changes, BudgetsAreExact) {
  std::mt19937 random(3);
  int refused = 0;
  for (int i = 0; i < 30; ++i) {
    const char* homes[] = {"auto", "host", "disk", "optimizer=host"};
    std::vector<std::string> asked = {fmt::format("plan.homes={}", homes[random() % 4]),
                                      fmt::format("plan.device_memory={}", 1 + random() % 2500000),
                                      fmt::format("plan.host_memory={}", 1 + random() % 2500000)};
    const Config config = tiny(asked);
    const Changes::Again again = [](const Config& c) { placed(c, plan_of(c), 2); };
    Changes changes(config, again);
    changes.budgets({"plan.device_memory", "plan.host_memory", "plan.disk_memory"});
    const std::vector<Alternative> found = std::move(changes).take();
    if (found.empty()) continue;
    ++refused;
    Config raised = config;
    apply_overrides(raised, found[0].settings);
    EXPECT_NO_THROW(again(raised));
    for (const std::string& setting : found[0].settings) {
      Config less = raised;
      const std::size_t equals = setting.find('=');
      const std::int64_t bytes = std::stoll(setting.substr(equals + 1));
      const std::string short_of = fmt::format("{}={}", setting.substr(0, equals), bytes - 1);
      apply_overrides(less, {&short_of, 1});
      EXPECT_THROW(again(less), Error) << setting;
    }
  }
  EXPECT_GT(refused, 10);
}

// On the machines that have files: each change that is an option is planned again here.
TEST(ChangesSlow, OnAMachineThereAreThree) {
  int carried_out = 0;
  for (const char* name : {"h200", "h200x4-one", "rtx4090-64g"})
    for (const char* state : {"exact", "compact"})
      for (const char* passes : {"auto", "1"}) {
        Config asked = load_config("gigagpt-175b");
        apply_overrides(asked, std::vector<std::string>{fmt::format("plan.state={}", state),
                                                        "plan.gradients=bf16", "batch.tokens=65536",
                                                        "plan.schedule=layer-major",
                                                        fmt::format("plan.passes={}", passes)});
        const Machine machine = load_machine(name);
        const std::vector<std::string> found = changes_that_fit(asked, machine);
        EXPECT_EQ(found.size(), 3U) << name << " " << state << " " << passes;
        for (std::string text : found) {
          if (!text.starts_with("--") || text.find("--machine") != std::string::npos) continue;
          std::vector<std::string> settings;
          text = text.substr(0, text.find(','));
          for (std::size_t at = 0; at < text.size();) {
            const std::size_t end = std::min(text.find(' ', at), text.size());
            settings.push_back(text.substr(at, end - at));
            at = end + 1;
          }
          Config changed = asked;
          apply_overrides(changed, settings);
          changed = on_machine(changed, machine);
          EXPECT_NO_THROW(fastest(changed, plan_of(changed, machine), machine, 1)) << text;
          ++carried_out;
        }
      }
  EXPECT_GT(carried_out, 12);
}

}  // namespace
}  // namespace sluice
