#include "report/history.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/hash.h"
#include "models/published.h"
#include "train/run_files.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// Calls take(row) for each line of a file of JSON objects; a missing file has none.
void for_each_row(const fs::path& path, const std::function<void(const Json&)>& take) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return;
  const std::string text = read_file(path.string());
  std::size_t line = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    if (end == std::string::npos) return;  // it is being written
    ++line;
    const Json row = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(at),
                                 text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    require(row.is_object(), [&] {
      return Error(Exit::input, {"a row of the run is damaged",
                                 fmt::format("{} line {}", path.string(), line),
                                 "one JSON object a line",
                                 text.substr(at, std::min<std::size_t>(end - at, 60)),
                                 {}});
    });
    take(row);
    at = end + 1;
  }
}

double number(const Json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_number() ? found->get<double>() : not_known;
}

std::vector<double> numbers(const Json& row, const char* key) {
  std::vector<double> out;
  const auto found = row.find(key);
  if (found == row.end() || !found->is_array()) return out;
  for (const Json& one : *found) out.push_back(one.is_number() ? one.get<double>() : not_known);
  return out;
}

void take_row(RunHistory& run, const Json& row) {
  const auto at = row.find("step");
  if (at == row.end() || !at->is_number_integer()) return;
  const auto step = at->get<std::int64_t>();
  if (row.contains("loss"))
    run.steps.push_back({step, number(row, "loss"), number(row, "grad_norm"), number(row, "lr"),
                         number(row, "tokens"), number(row, "tokens_per_second"),
                         number(row, "mfu"), row.contains("skipped")});
  if (row.contains("val_loss"))
    run.validations.push_back({step, number(row, "val_loss"), number(row, "bits_per_byte")});
  if (row.contains("weight_norms"))
    run.norms.push_back({step, numbers(row, "weight_norms"), numbers(row, "grad_norms")});
  if (const auto digest = row.find("digest"); digest != row.end() && digest->is_string())
    run.digest = digest->get<std::string>();
}

// What the run's plan says of the machine; a run without a plan that can be read has none.
std::string machine_of(const fs::path& folder) {
  try {
    const auto plan = kept_plan(folder);
    if (!plan) return {};
    const PlanMachine& machine = plan->machine;
    std::string out = machine.model;
    if (!machine.isa.empty()) out += ", " + machine.isa;
    if (machine.device == "cpu")
      out += fmt::format(", {} thread{}", machine.threads, machine.threads == 1 ? "" : "s");
    return out;
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

double RunHistory::flops() const { return 6.0 * static_cast<double>(parameters) * tokens(); }

double RunHistory::seconds() const {
  double out = 0, before = 0;
  for (const StepRow& row : steps) {
    const double taken = (row.tokens - before) / row.tokens_per_second;
    if (std::isfinite(taken) && taken > 0) out += taken;
    before = row.tokens;
  }
  return out;
}

double RunHistory::tokens_after(std::int64_t step) const {
  const auto found =
      std::lower_bound(steps.begin(), steps.end(), step,
                       [](const StepRow& row, std::int64_t s) { return row.step < s; });
  if (found != steps.end() && found->step == step) return found->tokens;
  return static_cast<double>(length_of(config).tokens_after(step));
}

RunHistory read_history(const fs::path& folder) {
  std::error_code ignored;
  require(fs::exists(folder / "config.toml", ignored), [&] {
    return Error(Exit::input, {"this is not a run",
                               folder.string(),
                               "a folder that `sluice train` wrote, with config.toml in it",
                               fs::exists(folder, ignored) ? "none of that" : "no such folder",
                               {}});
  });
  RunHistory run;
  run.folder = folder.string();
  const fs::path config = folder / "config.toml";
  run.config = parse_config(read_file(config.string(), std::size_t{1} << 20), config.string());
  check(run.config);
  run.name = run.config.run.name;
  run.parameters = parameters_of(run.config.model);
  run.planned_steps = length_of(run.config).steps;
  if (fs::exists(folder / "key.txt", ignored))
    run.key = hex64(hash64(read_file((folder / "key.txt").string())));
  run.machine = machine_of(folder);
  for_each_row(folder / "metrics.jsonl", [&](const Json& row) { take_row(run, row); });
  for_each_row(folder / "samples.jsonl", [&](const Json& row) {
    if (row.contains("text") && row["text"].is_string() && row.contains("step") &&
        row["step"].is_number_integer())
      run.samples.push_back({row["step"].get<std::int64_t>(), row["text"].get<std::string>()});
  });
  require(!run.steps.empty(), [&] {
    return Error(Exit::input, {"the run has no step to show",
                               (folder / "metrics.jsonl").string(),
                               "at least one row of a step",
                               "none",
                               {}});
  });
  return run;
}

}  // namespace sluice
