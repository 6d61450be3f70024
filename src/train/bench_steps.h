// Whole training steps on random tokens, timed: what `sluice bench` runs. The loop's own trainer
// does them; weights are random numbers of the usual size, made quickly.
#pragma once

#include <cstdint>
#include <vector>

#include "train/trainer.h"

namespace sluice {

// A folder with raw token ids that are gone when this ends; Error (disk).
class RandomTokens {
 public:
  RandomTokens(std::int64_t vocab, std::int64_t tokens);
  ~RandomTokens();
  RandomTokens(const RandomTokens&) = delete;
  RandomTokens& operator=(const RandomTokens&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string folder_, path_;
};

// Seconds of each step after `warm` ones; at least `least` steps, and about `seconds` in all.
struct BenchSteps {
  std::vector<double> seconds;
  StepResult last;
};
BenchSteps run_steps(Trainer& trainer, int warm, int least, double seconds);

// Every weight gets random numbers of its own spread; moments are zero.
void fill_quickly(Trainer& trainer);

}  // namespace sluice
