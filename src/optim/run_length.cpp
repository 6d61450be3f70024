#include "optim/run_length.h"

#include <fmt/format.h>

namespace sluice {

RunLength::RunLength(std::int64_t tokens_per_step, std::span<const Boundary> ramp,
                     std::int64_t tokens)
    : stretches{{0, 0, tokens_per_step}} {
  for (const Boundary& boundary : ramp) {
    const std::int64_t step = steps_for(boundary.tokens);
    stretches.push_back({step, tokens_after(step), boundary.tokens_per_step});
  }
  steps = steps_for(tokens);
  if (tokens_after(steps) > tokens) --steps;
}

std::size_t RunLength::stretch_after(std::int64_t done) const {
  std::size_t stretch = stretches.size() - 1;
  while (stretch > 0 && stretches[stretch].first_step > done) --stretch;
  return stretch;
}

std::int64_t RunLength::tokens_after(std::int64_t done) const {
  const Stretch& stretch = stretches[stretch_after(done)];
  return stretch.first_tokens + (done - stretch.first_step) * stretch.tokens_per_step;
}

std::int64_t RunLength::tokens_of(std::int64_t step) const {
  return stretches[stretch_after(step - 1)].tokens_per_step;
}

std::int64_t RunLength::steps_for(std::int64_t tokens) const {
  std::size_t at = stretches.size() - 1;
  while (at > 0 && stretches[at].first_tokens >= tokens) --at;
  const Stretch& stretch = stretches[at];
  const std::int64_t missing = tokens - stretch.first_tokens;
  return stretch.first_step + (missing + stretch.tokens_per_step - 1) / stretch.tokens_per_step;
}

std::string steps_text(const RunLength& run) {
  std::string out =
      fmt::format("{} steps of {} tokens", run.steps, run.stretches.front().tokens_per_step);
  for (const RunLength::Stretch& stretch : run.stretches)
    if (stretch.first_step > 0 && stretch.first_step < run.steps)
      out +=
          fmt::format(", of {} from step {} on", stretch.tokens_per_step, stretch.first_step + 1);
  return out;
}

}  // namespace sluice
