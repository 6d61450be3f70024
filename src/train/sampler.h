// What the model writes while it learns: one sample, shown and kept in samples.jsonl.
#pragma once

#include "inference/generate.h"
#include "train/metrics.h"

namespace sluice {

class Sampler {
 public:
  Sampler(Trainer& trainer, const Config& config, const Tokenizer& tokenizer,
          const std::string& path);
  // REQUIRES: the trainer is settled.
  void run(std::int64_t step, MetricsLog& log);

 private:
  Generator generator_;
  const Tokenizer& tokenizer_;
  std::vector<std::int32_t> prompt_;
  SamplingOptions options_;
  MetricsFile file_;
};

}  // namespace sluice
