#include "train/changes.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "models/published.h"
#include "planner/budget.h"

namespace sluice {
namespace {

bool fits_again(const Changes::Again& again, const Config& config) {
  try {
    check(config);
    again(config);
    return true;
  } catch (const Error&) {  // too large, or no plan at all
    return false;
  }
}

bool is_bare(const std::string& value) {  // TOML writes it without quotes
  return !value.empty() && value.find_first_not_of("0123456789_") == std::string::npos;
}

bool holds(const std::vector<std::string>& all, const std::vector<std::string>& part) {
  return std::all_of(part.begin(), part.end(), [&](const std::string& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  });
}

}  // namespace

std::string Alternative::as_options() const {
  std::string out;
  for (const std::string& setting : settings)
    out += fmt::format("{}--{}", out.empty() ? "" : " ", setting);
  return out + note;
}

PlanChange Alternative::as_lines() const {
  Config defaults;
  const OptionTable table = table_of(defaults);
  PlanChange out{{}, false, note};
  for (const std::string& setting : settings) {
    const std::size_t equals = setting.find('=');
    const std::string key = setting.substr(0, equals), value = setting.substr(equals + 1);
    out.settings.push_back({key, is_bare(value) ? value : fmt::format("\"{}\"", value)});
    const bool numerics = table.require_key(key, "").effect == Effect::numerics;
    out.changes_key = out.changes_key || numerics;
  }
  return out;
}

Config Changes::with(const std::vector<std::string>& settings) const {
  Config config = asked_;
  apply_overrides(config, settings);
  return config;
}

bool Changes::fits(const std::vector<std::string>& settings) const {
  return fits_again(again_, with(settings));
}

void Changes::add(const std::vector<std::string>& settings, const std::string& note) {
  const auto same = [&](const Alternative& one) {
    return one.settings == settings && one.note == note;
  };
  if (std::any_of(found_.begin(), found_.end(), same)) return;
  const bool more = std::any_of(found_.begin(), found_.end(), [&](const Alternative& one) {
    return !one.settings.empty() && holds(settings, one.settings);
  });
  (more ? others_ : found_).push_back({settings, note});
}

void Changes::consider(const std::vector<std::string>& settings, const std::string& note) {
  if (!enough() && fits(settings)) add(settings, note);
}

void Changes::first_of(int last, const std::function<std::vector<std::string>(int)>& settings) {
  if (enough() || last < 1 || !fits(settings(last))) return;
  int at = 1;
  while (at < last && !fits(settings(at))) ++at;
  add(settings(at), "");
}

void Changes::free_choices() {
  const PlanConfig& plan = asked_.plan;
  std::vector<std::string> all;
  const auto leave = [&](bool said, const char* key) {
    if (!said) return;
    all.push_back(fmt::format("plan.{}=auto", key));
    consider({all.back()});
  };
  leave(plan.passes > 0, "passes");
  leave(plan.schedule == "micro-batch-major", "schedule");
  leave(plan.homes != "auto", "homes");
  leave(plan.recompute != "auto", "recompute");
  leave(plan.stash != "auto", "stash");
  leave(plan.slots > 2, "slots");
  leave(plan.blobs == "layer", "blobs");
  if (all.size() > 1) consider(all);
  leave(plan.device_memory > 0, "device_memory");
  leave(plan.host_memory > 0, "host_memory");
  leave(plan.disk_memory > 0, "disk_memory");
  if (plan.homes != "auto" && plan.homes != "disk") consider({"plan.homes=disk"});
}

void Changes::formats() {
  const bool exact = asked_.plan.state != "compact";
  if (exact) consider({"plan.state=compact"});
  const bool open = asked_.plan.gradients == "auto" || asked_.plan.gradients == "float32";
  std::vector<std::string> gradients;
  if (open) gradients.emplace_back("plan.gradients=bf16");
  if (asked_.plan.gradients != "int8") gradients.emplace_back("plan.gradients=int8");
  for (const std::string& one : gradients) consider({one});
  if (exact)
    for (const std::string& one : gradients) consider({"plan.state=compact", one});
  if (asked_.plan.precision != "float32") return;
  consider({"plan.precision=bf16"});
  if (exact) consider({"plan.precision=bf16", "plan.state=compact"});
}

void Changes::smaller_batches(std::int64_t micro_batch) {
  const auto halves = [](std::int64_t whole, std::int64_t least) {
    int count = 0;
    for (; whole % 2 == 0 && whole / 2 >= least; whole /= 2) ++count;
    return count;
  };
  const auto halved = [](const char* key, std::int64_t whole) {
    return [=](int times) {
      return std::vector<std::string>{fmt::format("{}={}", key, whole >> times)};
    };
  };
  first_of(halves(micro_batch, 1), halved("plan.micro_batch", micro_batch));
  if (asked_.batch.ramp.empty())
    first_of(halves(asked_.batch.tokens, asked_.batch.sequence),
             halved("batch.tokens", asked_.batch.tokens));
  first_of(halves(asked_.batch.sequence, 64), [&](int times) {
    return std::vector<std::string>{
        fmt::format("batch.sequence={}", asked_.batch.sequence >> times), "plan.micro_batch=1"};
  });
}

void Changes::budgets(const std::vector<std::string>& keys) {
  if (enough()) return;
  std::vector<std::string> settings;
  std::string note;
  Config config = asked_;
  for (std::size_t round = 0; round <= keys.size(); ++round) try {
      check(config);
      again_(config);
      if (!settings.empty()) add(settings, note);
      return;
    } catch (const BudgetError& e) {
      if (std::find(keys.begin(), keys.end(), e.key()) == keys.end()) return;
      const auto of_key = [&](const std::string& one) { return one.starts_with(e.key() + "="); };
      if (std::any_of(settings.begin(), settings.end(), of_key)) return;
      settings.push_back(fmt::format("{}={}", e.key(), e.least()));
      note += fmt::format("{} {} more of {}", note.empty() ? "," : " and",
                          human_bytes(e.least() - e.budget()), e.tier());
      config = with(settings);
    } catch (const Error&) {
      return;
    }
}

namespace {

// Published models of the family with fewer parameters, the largest first.
std::vector<std::string> smaller_models(const Config& asked) {
  std::vector<std::pair<std::int64_t, std::string>> smaller;
  const std::int64_t all = parameters_of(asked.model);
  for (const std::string& name : builtin_names()) {
    const ModelConfig model = load_config(name).model;
    if (model.family == asked.model.family && parameters_of(model) < all)
      smaller.emplace_back(-parameters_of(model), name);
  }
  std::sort(smaller.begin(), smaller.end());
  std::vector<std::string> out;
  for (auto& [fewer, name] : smaller) out.push_back(std::move(name));
  return out;
}

}  // namespace

std::int64_t layers_that_fit(Config config, const Changes::Again& again) {
  std::int64_t fit = 0, too_many = config.model.layers;
  while (too_many - fit > 1) {
    config.model.layers = (fit + too_many) / 2;
    (fits_again(again, config) ? fit : too_many) = config.model.layers;
  }
  return fit;
}

void Changes::smaller_model(const std::string& setting) {
  if (enough()) return;
  std::vector<std::string> settings;
  if (!setting.empty()) settings.push_back(setting);
  const auto fits_as = [&](const std::string& name, Config config) {
    config.model = load_config(name).model;
    return fits_again(again_, config);
  };
  for (const std::string& name : smaller_models(asked_)) {
    if (!fits_as(name, with(settings))) continue;
    if (setting.empty())
      machine(fmt::format("{}, a smaller model", name));
    else if (!fits_as(name, asked_))
      machine(fmt::format("{}, a smaller model, with --{}", name, setting));
    return;
  }
}

void Changes::other_models() {
  for (const std::string& name : smaller_models(asked_)) {
    if (enough() || found_.size() + others_.size() >= most) return;
    Config config = asked_;
    config.model = load_config(name).model;
    if (fits_again(again_, config)) machine(fmt::format("{}, a smaller model", name));
  }
}

void Changes::fewer_layers(const std::string& setting) {
  if (enough()) return;
  std::vector<std::string> settings;
  if (!setting.empty()) settings.push_back(setting);
  const std::int64_t layers = layers_that_fit(with(settings), again_);
  if (layers == 0) return;
  settings.insert(settings.begin(), fmt::format("model.layers={}", layers));
  add(settings, "");
}

void Changes::machine(const std::string& text) {
  if (!enough()) add({}, text);
}

std::vector<Alternative> Changes::take() && {
  for (Alternative& one : others_)
    if (!enough()) found_.push_back(std::move(one));
  return std::move(found_);
}

}  // namespace sluice
