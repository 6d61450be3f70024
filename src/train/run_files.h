// A run directory: config.toml, metrics.jsonl, hashes.jsonl, samples.jsonl, TensorBoard's
// events, checkpoints/. Opening
// one decides between a new run, a resumed one and a refusal; nothing is changed before that is
// decided.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "checkpoint/store.h"
#include "inference/evaluate.h"
#include "train/key.h"
#include "train/plan_file.h"
#include "train/trainer.h"

namespace sluice {

// The plan with which the run of `folder` went on last; none: there is no run, or none was kept.
std::optional<PlanFile> kept_plan(const std::filesystem::path& folder);

// KeyFacts::from of the run in `folder`; empty: there is none, or it began with random weights.
std::string kept_start(const std::filesystem::path& folder);

class RunFiles {
 public:
  // Decides what `folder` is. Exit::usage: the folder holds something else, or a run whose key
  // differs in ways that `accepted` does not name (another device's apart: key.h); with resume ==
  // "never", any run. Exit::input: there are checkpoints, but none verifies. The key need not have
  // its line of algorithms yet.
  RunFiles(std::filesystem::path folder, const NumericsKey& key,
           const std::vector<std::string>& accepted, const std::string& resume);

  const std::filesystem::path& folder() const { return folder_; }
  const std::optional<Checkpoint>& resumed() const { return resumed_; }
  // Checkpoints that count: damaged ones are set aside, and stay.
  std::int64_t checkpoints() const;
  std::int64_t step() const { return resumed_ ? resumed_->step : 0; }
  // What a person is told about the decision, a line each.
  const std::vector<std::string>& messages() const { return messages_; }

  // From here on files change: takes the lock, moves metrics rows past the resumed step aside,
  // writes plan.toml and config.toml.
  void open(const Config& config, const NumericsKey& key, const PlanFile& plan, Faults& faults);
  // Weights and state of the resumed step, converted when the run's formats are others. Returns
  // what a person is told about that. Checkpoints that a kill kept too many of are removed then.
  std::vector<std::string> load(Trainer& trainer, const ModelConfig& model);

  // What was found of the weights that a save is of.
  struct Findings {
    std::uint64_t digest = 0;
    std::optional<Evaluation> validation;  // none: this step was not validated
    bool best = false;                     // is_best() said so
  };
  // Whether no checkpoint that is there has as small a loss over as many tokens.
  bool is_best(const Evaluation& validation) const;
  // Writes the checkpoint of `step`. Error(Exit::disk) leaves everything as it was.
  void save(const Trainer& trainer, const Config& config, const NumericsKey& key, std::int64_t step,
            const Findings& findings, const std::string& tokenizer_path);

 private:
  void find_best();

  std::filesystem::path folder_;
  std::optional<Checkpoint> resumed_;
  std::vector<std::string> messages_;
  std::vector<std::filesystem::path> damaged_;
  nlohmann::json changes_ = nlohmann::json::array();  // accepted at this resume and earlier ones
  std::string conversions_;  // changes of format since the resumed step, in words
  std::unique_ptr<RunLock> lock_;
  std::unique_ptr<CheckpointStore> store_;
  struct Best {
    std::int64_t step = 0, tokens = 0;
    double loss = 0;
  };
  std::optional<Best> best_;  // of the checkpoints that are there
};

}  // namespace sluice
