// The rows and lines that a person and a script see while a run goes: metrics.jsonl and the step
// line. Text is made in fixed buffers: nothing allocates in the step loop.
#pragma once

#include <array>
#include <string_view>

#include "checkpoint/metrics_file.h"
#include "inference/evaluate.h"
#include "train/trainer.h"

namespace sluice {

// What the step line says beyond the step's own numbers.
struct Pace {
  double tokens_per_second = 0;
  double seconds_left = 0;
  std::int64_t tokens = 0;  // trained so far
};

class MetricsLog {
 public:
  // Rows go to `path`; step lines to stderr; with `json` the rows go to stdout too.
  MetricsLog(const std::string& path, std::int64_t steps, bool json);

  void step(const StepResult& result, const Pace& pace);
  void validation(std::int64_t step, const Evaluation& evaluation, std::uint64_t digest);
  void saved(std::int64_t step, std::uint64_t digest);
  // One line for a person: samples, warnings.
  void say(std::string_view line);

 private:
  void write(std::string_view row);

  MetricsFile file_;
  std::int64_t steps_;
  bool json_;
  std::array<char, 1024> buffer_;
};

}  // namespace sluice
