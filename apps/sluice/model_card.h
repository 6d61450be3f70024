// README.md of an exported model: what it is, what made it, how to use it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/export_files.h"
#include "data/tokenizer.h"
#include "inference/session.h"

namespace sluice {

struct ModelCard {
  std::string name;
  const ModelFolder* folder = nullptr;
  ModelConfig model;
  const Tokenizer* tokenizer = nullptr;  // null: none that Sluice knows
  bool average = false;
  std::string dtype;  // "F32"; empty: as stored
  std::vector<ExportedFile> files;
};

// Markdown with the head that Hugging Face's hub reads. Of a run: config, data, tokens, FLOPs,
// losses and digest, as its manifest and metrics tell.
std::string model_card(const ModelCard& card);

}  // namespace sluice
