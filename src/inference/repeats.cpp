#include "inference/repeats.h"

namespace sluice {

void Repeats::add_prompt(std::span<const std::int32_t> ids) {
  for (const std::int32_t id : ids) drawn_.try_emplace(id, 0);
}

std::span<const float> Repeats::adjusted(std::span<const float> logits) {
  if (!options_.any()) return logits;
  logits_.assign(logits.begin(), logits.end());
  // Each id once, whatever the order: the result is that of any other.
  for (const auto& [id, count] : drawn_) {
    if (id < 0 || static_cast<std::size_t>(id) >= logits_.size()) continue;
    double logit = logits_[static_cast<std::size_t>(id)];
    logit = logit > 0 ? logit / options_.repetition : logit * options_.repetition;
    if (count > 0) logit -= options_.presence + options_.frequency * static_cast<double>(count);
    logits_[static_cast<std::size_t>(id)] = static_cast<float>(logit);
  }
  return logits_;
}

}  // namespace sluice
