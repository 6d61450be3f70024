// A model as a folder for others: config.json and safetensors under Hugging Face's names, cut into
// several files with an index where it is large. Tensors go from file to file, a piece at a time.
//
// One thread. Errors: Exit::input of what is read, Exit::disk of what is written; the caller
// removes what was written then.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/durable_file.h"
#include "checkpoint/model_files.h"
#include "checkpoint/weight_files.h"

namespace sluice {

struct ExportOptions {
  std::int64_t shard_bytes = 5'000'000'000;  // of tensors in one file; a larger tensor has its own
  std::string dtype;                         // "F32" or "BF16"; empty: as it is stored
  std::int64_t end_of_text = -1;             // id; -1: not known
};

struct ExportedFile {
  std::string name;
  WrittenFile written;
};

// Writes into `dir`, which exists and is empty. The weights are held against the model first.
std::vector<ExportedFile> export_model(const WeightFiles& files, const ModelConfig& config,
                                       const std::filesystem::path& dir,
                                       const ExportOptions& options, Faults& faults);

// A file of `text` in `dir`.
ExportedFile export_text(const std::filesystem::path& dir, const std::string& name,
                         std::string_view text, Faults& faults);

}  // namespace sluice
