#include "train/run_files.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "checkpoint/manifest.h"
#include "checkpoint/metrics_file.h"
#include "checkpoint/state_files.h"
#include "core/file.h"
#include "core/hash.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* plan_name = "plan.toml";

bool is_run(const fs::path& folder) { return fs::exists(folder / "config.toml"); }

// A run that was killed while open() made it: config.toml comes last.
bool is_unborn(const fs::path& folder) {
  if (!fs::is_directory(folder)) return false;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool ours = name == ".lock" || name == "key.txt" || name == "key.txt.tmp" ||
                      name == "config.toml.tmp" || name == plan_name ||
                      name == std::string(plan_name) + ".tmp" || name == "algorithms.json" ||
                      name == "algorithms.json.tmp" ||
                      (name == "checkpoints" && fs::is_empty(entry.path()));
    if (!ours) return false;
  }
  return true;
}

void require_empty_or_run(const fs::path& folder) {
  if (!fs::exists(folder) || is_run(folder)) return;
  require(is_unborn(folder), [&] {
    return Error(Exit::usage, {"the output directory holds something that is not a run",
                               folder.string(),
                               "an empty or missing directory, or a run of the same key",
                               fs::is_directory(folder) ? "other files" : "a file",
                               {"--out with another directory"}});
  });
}

// Changes between two keys. The table of algorithms is settled later, and says itself what changed.
std::vector<Change> changes_between(std::string_view was, std::string_view now) {
  std::vector<Change> out = compare_keys(was, now);
  std::erase_if(out, [](const Change& change) { return change.key == "algorithms"; });
  return out;
}

// What the checkpoints of a run remember: every change that was accepted, and from which step on.
nlohmann::json changes_json(const Checkpoint& from, const std::vector<Change>& changes,
                            const NumericsKey& key) {
  nlohmann::json out = from.run.value("changes", nlohmann::json::array());
  if (changes.empty()) return out;
  nlohmann::json options = nlohmann::json::array();
  for (const Change& change : changes)
    options.push_back({{"key", change.key}, {"was", change.was}, {"now", change.now}});
  out.push_back({{"step", from.step},
                 {"was", from.run.value("key_hash", "")},
                 {"now", key.hash()},
                 {"options", options}});
  return out;
}

// Of the changes since a checkpoint, those that its tensors are converted for.
std::string conversions(const std::vector<Change>& changes) {
  std::string out;
  for (const Change& change : changes)
    if (change.key == "plan.precision" || change.key == "plan.state" ||
        change.key == "optim.freeze")
      out +=
          fmt::format("{}{} {} → {}", out.empty() ? "" : ", ", change.key, change.was, change.now);
  return out;
}

// What optim.skip_spikes knew; false when it was off until now.
bool load_spikes(const Checkpoint& from, std::span<double> spikes) {
  std::fill(spikes.begin(), spikes.end(), 0.0);
  if (spikes.empty()) return true;
  if (!from.run.contains("spikes")) return false;
  const nlohmann::json& saved = from.run["spikes"];
  const bool good = saved.is_array() && saved.size() == spikes.size() &&
                    std::all_of(saved.begin(), saved.end(),
                                [](const nlohmann::json& one) { return one.is_number(); }) &&
                    saved[0].get<double>() >= 0 && saved[0].get<double>() < 1e15;
  require(good, [&] {
    return Error(Exit::input, {"the statistics of optim.skip_spikes are damaged",
                               (from.path / "manifest.json").string(),
                               fmt::format("{} numbers, the first one a count", spikes.size()),
                               "something else",
                               {}});
  });
  for (std::size_t i = 0; i < spikes.size(); ++i) spikes[i] = saved[i].get<double>();
  return true;
}

}  // namespace

std::optional<PlanFile> kept_plan(const fs::path& folder) {
  const fs::path file = folder / plan_name;
  if (!is_run(folder) || !fs::exists(file)) return {};
  try {
    return load_plan_file(file.string());
  } catch (Error& e) {
    e.report().tries.push_back(fmt::format("remove {}, to plan anew", file.string()));
    throw;
  }
}

std::string kept_start(const fs::path& folder) {
  if (!is_run(folder)) return {};
  const std::string key = read_file((folder / "key.txt").string());
  constexpr std::string_view line = "\nfrom = \"";
  const std::size_t at = key.find(line);
  if (at == std::string::npos) return {};
  const std::size_t begin = at + line.size();
  return key.substr(begin, key.find('"', begin) - begin);
}

RunFiles::RunFiles(fs::path folder, const NumericsKey& key,
                   const std::vector<std::string>& accepted, const std::string& resume)
    : folder_(std::move(folder)) {
  require_empty_or_run(folder_);
  if (!is_run(folder_)) return;
  require(resume != "never", [&] {
    return Error(Exit::usage, {"the output directory already holds a run",
                               folder_.string(),
                               "an empty or missing directory, with --resume never",
                               "a run",
                               {"--resume auto", "--out with another directory"}});
  });
  // The key lies beside the config from the first moment on, so a run that never saved is known
  // too.
  const std::string was = read_file((folder_ / "key.txt").string());
  std::vector<Change> since = changes_between(was, key.text);
  const std::string moved = take_other_device(was, key.text, since);
  require_accepted(since, accepted, folder_.string());
  NewestVerified newest = newest_verified(folder_);
  for (const Report& problem : newest.skipped)
    messages_.push_back(fmt::format("skipped {}: {}", problem.where, problem.what));
  damaged_ = newest.damaged;
  resumed_ = std::move(newest.checkpoint);
  if (!resumed_ && !newest.skipped.empty()) {
    Report report = newest.skipped.front();
    report.tries = {"remove the checkpoints to begin anew"};
    throw Error(Exit::input, std::move(report));
  }
  if (!moved.empty()) messages_.push_back(moved);
  if (!resumed_) return;
  // The checkpoint's own key tells since when: a change may have been accepted, and no step saved.
  std::vector<Change> changes = changes_between(resumed_->run.value("key", ""), key.text);
  conversions_ = conversions(changes);
  std::erase_if(changes, [](const Change& change) { return !change.key.starts_with("model."); });
  require_accepted(changes, {}, resumed_->path.string());
  messages_.push_back(fmt::format("resuming {} at step {}", folder_.string(), resumed_->step));
}

std::int64_t RunFiles::checkpoints() const {
  return static_cast<std::int64_t>(checkpoint_steps(folder_).size() - damaged_.size());
}

void RunFiles::open(const Config& config, const NumericsKey& key, const PlanFile& plan,
                    Faults& faults) {
  lock_ = std::make_unique<RunLock>(folder_);
  store_ =
      std::make_unique<CheckpointStore>(folder_, static_cast<int>(config.run.keep_last), faults);
  for (const fs::path& damaged : damaged_) store_->set_aside(damaged);
  find_best();
  store_->keep_also(
      [this, every = config.run.keep_every, best = config.run.keep_best](std::int64_t step) {
        return (every > 0 && step % every == 0) || (best && best_ && step == best_->step);
      });
  for (const char* file : {"metrics.jsonl", "hashes.jsonl", "samples.jsonl"})
    truncate_after(folder_ / file, step());
  if (resumed_)
    changes_ = changes_json(*resumed_, compare_keys(resumed_->run.value("key", ""), key.text), key);
  write_file_atomic((folder_ / "key.txt").string(), key.text);
  write_file_atomic((folder_ / plan_name).string(), to_toml(plan));
  write_file_atomic((folder_ / "config.toml").string(), to_toml(config));
}

std::vector<std::string> RunFiles::load(Trainer& trainer, const ModelConfig& model) {
  const auto access = [&](int layer, const std::string& value) {
    return trainer.tensor(layer, value);
  };
  load_model(resumed_->path, model, trainer.tensors(), access);
  const LoadedState loaded = load_state(resumed_->path, trainer.tensors(), access);
  std::vector<std::string> messages;
  if (!load_spikes(*resumed_, trainer.spikes()))
    messages.emplace_back("the statistics of optim.skip_spikes begin here");
  if (loaded.began_average) messages.emplace_back("the average of the weights begins here");
  if (loaded.converted) {
    store_->remove_old(step());
    messages.push_back("converted on reading: " + conversions_);
    return messages;  // other bytes: the digest that was saved is of the old ones
  }
  const std::string expected = resumed_->run.value("digest", "");
  const std::string found = hex64(trainer.digest());
  require(expected == found, [&] {
    return Error(Exit::input, {"the weights are not those that were saved",
                               resumed_->path.string(),
                               fmt::format("digest {}", expected),
                               found,
                               {}});
  });
  store_->remove_old(step());
  return messages;
}

// Every checkpoint says what was found when it was made.
void RunFiles::find_best() {
  for (const std::int64_t step : checkpoint_steps(folder_)) {
    const fs::path path = folder_ / "checkpoints" / folder_of_step(step) / "manifest.json";
    try {
      const nlohmann::json run = parse_manifest(read_file(path.string()), path.string()).run;
      if (!run.contains("validation")) continue;
      const nlohmann::json& found = run["validation"];
      Evaluation validation;
      validation.loss = found.at("loss").get<double>();
      validation.tokens = found.at("tokens").get<std::int64_t>();
      if (is_best(validation)) best_ = {step, validation.tokens, validation.loss};
    } catch (const nlohmann::json::exception&) {  // it says nothing then
    } catch (const Error&) {                      // whoever uses it is told what is damaged
    }
  }
}

bool RunFiles::is_best(const Evaluation& validation) const {
  if (!std::isfinite(validation.loss)) return false;
  return !best_ || validation.tokens != best_->tokens || validation.loss < best_->loss;
}

void RunFiles::save(const Trainer& trainer, const Config& config, const NumericsKey& key,
                    std::int64_t step, const Findings& findings,
                    const std::string& tokenizer_path) {
  const auto access = [&](int layer, const std::string& value) {
    return trainer.tensor(layer, value, Access::read);
  };
  CheckpointSave save = store_->begin(step);
  save_model(save, config.model, trainer.tensors(), access);
  save_state(save, trainer.tensors(), access);
  if (!tokenizer_path.empty() && fs::exists(tokenizer_path))
    save.add_file("tokenizer.json", read_file(tokenizer_path));
  const std::int64_t tokens = length_of(config).tokens_after(step);
  nlohmann::json run{{"step", step},        {"cursor", tokens / config.batch.sequence},
                     {"tokens", tokens},    {"digest", hex64(findings.digest)},
                     {"key", key.text},     {"key_hash", key.hash()},
                     {"changes", changes_}, {"config", to_toml(config)}};
  if (const std::span<double> spikes = trainer.spikes(); !spikes.empty()) run["spikes"] = spikes;
  if (const auto& found = findings.validation)
    run["validation"] = {{"loss", found->loss}, {"tokens", found->tokens}};
  const std::optional<Best> before = best_;
  if (findings.best) best_ = {step, findings.validation->tokens, findings.validation->loss};
  try {
    save.commit(run);  // which removes what is not the best any more
  } catch (const Error&) {
    best_ = before;
    throw;
  }
}

}  // namespace sluice
