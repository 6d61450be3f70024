// --run.log_hashes: a hash of every weight, gradient and kept activation of every step, for `sluice
// diff`.
#pragma once

#include <array>

#include "checkpoint/metrics_file.h"
#include "executor/executor.h"

namespace sluice {

// Writes RUN/hashes.jsonl from the compute lane, rows in the order of execution. A weight's row
// carries the step whose update made it. Weights, gradients and stash of a step are logged right
// after the action that made them.
class HashLog final : public Observer {
 public:
  HashLog(const std::string& path, std::shared_ptr<const ProgramSet> programs,
          std::int64_t done_steps);
  void after(const Program& program, int action, std::span<const Tensor> values) override;

 private:
  void log(const char* phase, std::int64_t step, const Program& program, const Action& action,
           const Value& value, const Tensor& tensor);

  MetricsFile file_;
  std::shared_ptr<const ProgramSet> programs_;
  std::int64_t done_steps_;  // steps whose FinishStep ran
  std::array<char, 512> buffer_;
};

}  // namespace sluice
