// The length of a run in steps and tokens, when the batch may grow on the way. Everything that is
// counted in steps (cursor, schedule, progress) is counted in tokens through this.
//
// A stretch begins with the first step whose predecessors trained on its boundary's tokens or more.
// Steps are whole: what is left of the run's tokens after the last one is not trained on. Steps
// past the end count as the last stretch's, so that a schedule may reach beyond the run. A plain
// value.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sluice {

struct RunLength {
  struct Boundary {
    std::int64_t tokens = 0;           // trained on before this size holds
    std::int64_t tokens_per_step = 1;  // from then on
  };
  struct Stretch {
    std::int64_t first_step = 0;    // steps before it
    std::int64_t first_tokens = 0;  // tokens before it
    std::int64_t tokens_per_step = 1;
  };

  // Steps of `tokens_per_step`, then as `ramp` says, for at most `tokens`. REQUIRES: positive
  // sizes; boundaries above 0 and ascending; tokens >= 0, all below 2^53.
  RunLength(std::int64_t tokens_per_step, std::span<const Boundary> ramp, std::int64_t tokens);
  // `steps` of one size.
  RunLength(std::int64_t tokens_per_step, std::int64_t steps)
      : stretches{{0, 0, tokens_per_step}}, steps(steps) {}

  // The index in `stretches` of the step after `done` steps.
  std::size_t stretch_after(std::int64_t done) const;
  std::int64_t tokens_after(std::int64_t done) const;  // trained on in the first `done` steps
  std::int64_t tokens_of(std::int64_t step) const;     // of one step, 1 being the first
  std::int64_t tokens() const { return tokens_after(steps); }
  // The least number of steps that trains on `tokens` or more.
  std::int64_t steps_for(std::int64_t tokens) const;

  std::vector<Stretch> stretches;  // at least one; the last one has no end of its own
  std::int64_t steps = 1;
};

// "135223 steps of 1474560 tokens, of 2211840 from step 57001 on".
std::string steps_text(const RunLength& run);

}  // namespace sluice
