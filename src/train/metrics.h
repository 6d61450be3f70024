// The rows and lines that a person and a script see while a run goes: metrics.jsonl, the step line
// and, on a terminal, the bar. Text is made in fixed buffers: nothing allocates in the step loop.
#pragma once

#include <array>
#include <functional>
#include <string_view>

#include "checkpoint/events_file.h"
#include "checkpoint/metrics_file.h"
#include "inference/evaluate.h"
#include "models/config.h"
#include "train/norms.h"
#include "train/progress.h"
#include "train/trainer.h"

namespace sluice {

// What the step line says beyond the step's own numbers.
struct Pace {
  double tokens_per_second = 0;
  double seconds_left = 0;
  std::int64_t tokens = 0;  // trained so far
};

// What training one token takes for model FLOPs utilization (MFU), in FLOPs: 6 N + 12 L D T
// (Chowdhery et al. 2022, appendix B), N being all parameters, attention's scores all counted,
// recomputation not.
double utilization_flops(const ModelConfig& model, std::int64_t sequence);

struct MetricsOptions {
  std::int64_t steps = 0;
  bool json = false;           // rows to stdout too
  bool bar = false;            // stderr is a terminal that can redraw a line
  double flops_per_token = 0;  // utilization_flops()
  double peak_flops = 0;       // FLOPs per second that are 100%; 0: not known, there is no MFU
  // Bytes that the run has of where its plan's memory lies. Null: of the process, the most so far.
  std::function<std::int64_t()> memory = nullptr;
  EventsFile* events = nullptr;  // the numbers for TensorBoard; null: not wanted. Outlives the log.
};

class MetricsLog {
 public:
  // Rows go to `path`; step lines to stderr.
  MetricsLog(const std::string& path, const MetricsOptions& options);

  void step(const StepResult& result, const Pace& pace);
  void validation(std::int64_t step, const Evaluation& evaluation, std::uint64_t digest);
  void norms(std::int64_t step, const LayerNorms& norms);
  void saved(std::int64_t step, std::uint64_t digest, bool best = false);
  // A row of its own: one JSON object.
  void row(std::string_view json) { write(json); }
  // One line for a person: samples, warnings.
  void say(std::string_view line);
  // The bar as it is now: before something that takes its time.
  void refresh();
  // The mean over this run's steps, its first two left out. 0: there were no others.
  double tokens_per_second() const { return timed_ > 0 ? timed_ / seconds_per_token_ : 0; }

 private:
  void write(std::string_view row);
  bool shows_step(const StepResult& result);

  MetricsFile file_;
  MetricsOptions options_;
  Console console_;
  std::chrono::steady_clock::time_point line_at_;  // of the last step line
  std::array<char, 1024> buffer_;
  int warming_ = 2;                           // steps that are not timed yet
  double timed_ = 0, seconds_per_token_ = 0;  // steps, and the sum of theirs
};

}  // namespace sluice
