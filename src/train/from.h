// A run that begins with the weights of a checkpoint: tuning. Step 0, moments zero; only weights
// are taken, and the model with them.
//
// Pure functions but for reading the folder; any thread. Errors: Exit::usage, Exit::input.
#pragma once

#include <string>

#include "data/shards.h"
#include "inference/session.h"
#include "train/config.h"

namespace sluice {

// Where a run begins that does not begin with random numbers.
struct Start {
  ModelFolder folder;
  std::string hash;            // of the weights' bytes: part of the run's key
  TokenizerPtr tokenizer;      // null: none that Sluice knows
  std::string tokenizer_path;  // of `tokenizer`, when it is a tokenizer.json
};
Start open_start(const ModelFolder& folder, const ModelConfig& model);

// `config` with the model of `folder`. What it says of [model] itself must say the same, dropout
// and initial values apart; every key that does not is named. batch.sequence, where nobody has set
// it, is at most the context.
Config with_model_of(Config config, const ModelFolder& folder);

// Refuses `tokens`, made with `tokenizer`, when their ids mean other bytes to the checkpoint's own
// tokenizer. One that has more ids agrees.
void require_same_ids(const TokenFile& tokens, const Tokenizer& tokenizer, const Start& start);

}  // namespace sluice
