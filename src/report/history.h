// What a run has told so far, read from its folder: config, key, metrics, samples. A run that goes
// on may be read: a row that is being written is left out.
//
// Values; any thread. Errors: Exit::input for a folder that is no run, naming file and line of what
// is damaged. Nothing is allocated on the word of a file beyond its size.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "train/config.h"

namespace sluice {

inline constexpr double not_known = NAN;

struct StepRow {
  std::int64_t step = 0;
  double loss = not_known, grad_norm = not_known, lr = not_known;
  double tokens = not_known;  // trained on so far
  double tokens_per_second = not_known, mfu = not_known;
  bool skipped = false;  // a spike that was not applied
};

struct ValidationRow {
  std::int64_t step = 0;
  double loss = not_known, bits_per_byte = not_known;
};

struct NormsRow {
  std::int64_t step = 0;
  std::vector<double> weights, gradients;  // by layer: embedding, blocks, head
};

struct SampleRow {
  std::int64_t step = 0;
  std::string text;
};

struct RunHistory {
  std::string folder, name;
  Config config;
  std::string key;      // 16 digits
  std::string digest;   // of the newest weights that were hashed; empty: none were
  std::string machine;  // "cpu, AMD …, avx512_bf16, 2 threads"; empty: not known
  std::int64_t parameters = 0;
  std::int64_t planned_steps = 0;
  std::vector<StepRow> steps;
  std::vector<ValidationRow> validations;
  std::vector<NormsRow> norms;
  std::vector<SampleRow> samples;

  double tokens() const { return steps.empty() ? 0 : steps.back().tokens; }
  double flops() const;    // 6 N a token
  double seconds() const;  // of the steps alone
  // Tokens after `step`, by the rows or, where there is none, by the plan.
  double tokens_after(std::int64_t step) const;
};

RunHistory read_history(const std::filesystem::path& folder);

}  // namespace sluice
