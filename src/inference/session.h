// A model ready for use: found on disk, checked, loaded, with the programs to evaluate or to
// decode.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "checkpoint/store.h"
#include "data/tokenizer.h"
#include "executor/executor.h"
#include "inference/placing.h"
#include "models/config.h"

namespace sluice {

// What a *checkpoint argument* stands for.
struct ModelFolder {
  std::filesystem::path path;        // has config.json and weights (checkpoint/weight_files.h)
  std::optional<std::int64_t> step;  // none: a Hugging Face folder
  nlohmann::json run;                // the manifest's run object; null for a Hugging Face folder
  std::vector<Report> skipped;       // damaged newer steps of a run that were passed over
};

// `path` is a run (its newest verified step), a step folder, or a Hugging Face folder with weights
// in any form. A step's files are checked against the manifest's hashes: one read of each. Errors:
// Exit::input.
ModelFolder resolve_checkpoint(const std::filesystem::path& path,
                               CheckDepth depth = CheckDepth::hashes);

// The tokenizer of a checkpoint: its tokenizer.json, or its vocab.json and merges.txt. Null where
// there is none that fits; `why` then says so. Exit::input when a step of ours has a damaged one.
TokenizerPtr tokenizer_of(const ModelFolder& folder, const ModelConfig& model, std::string& why);

struct SessionOptions {
  int threads = 0;                      // 0: usable_threads()
  std::int64_t rows = 0;                // sequences decoded together; 0: no decoding
  std::int64_t sequence = 1;            // tokens of an evaluation window; 0: the context
  std::optional<DType> precision = {};  // f32 or bf16; none: that of the file's matrices
  std::string weights = {};             // a file of its own: "average.safetensors"
  PlanConfig plan = {};                 // device, and of inference/placing.h where they live
  bool poison = false;                  // ExecutorOptions::poison, for tests
  Faults* faults = nullptr;             // of the disk, for tests; outlives the session
};

// Owns everything that using a model takes. The programs are those of assemble_inference().
//
// One thread. Errors: Exit::input for a folder that does not hold what it says, Exit::usage for a
// sequence beyond the context, Exit::memory when it does not fit in what is available or in the
// plan's budget, Exit::disk when the disk has too little room for what is at home there
// (plan.disk_path, else the model's folder).
class Session {
 public:
  Session(const ModelFolder& folder, const SessionOptions& options);

  const ModelConfig& model() const { return model_; }
  Executor& executor() { return *executor_; }
  // Null when the folder has no tokenizer that Sluice knows; without_tokenizer() then says why.
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  const std::string& without_tokenizer() const { return without_tokenizer_; }
  std::int64_t sequence() const { return sequence_; }
  const WeightPlacement& placement() const { return placement_; }
  // What of the weights is at home on disk; null: nothing.
  const ScratchFile* scratch() const { return scratch_.get(); }

 private:
  ModelConfig model_;
  TokenizerPtr tokenizer_;
  std::string without_tokenizer_;
  std::int64_t sequence_ = 0;
  WeightPlacement placement_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Faults> faults_;
  std::unique_ptr<ScratchFile> scratch_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace sluice
