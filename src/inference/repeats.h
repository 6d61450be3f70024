// Repetition controls: logits of ids that a text has already are lowered before the next one is
// drawn.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace sluice {

struct RepeatOptions {
  double repetition = 1;  // of ids anywhere in the text: positive logits divided by it, others
                          // multiplied (Keskar et al. 2019); 1: off
  double presence = 0;    // taken from the logit of an id that was drawn before
  double frequency = 0;   // taken once for each time that it was drawn

  bool any() const { return repetition != 1 || presence != 0 || frequency != 0; }
};

// The ids of one text. One thread.
class Repeats {
 public:
  explicit Repeats(const RepeatOptions& options) : options_(options) {}

  void add_prompt(std::span<const std::int32_t> ids);
  void add_drawn(std::int32_t id) { ++drawn_[id]; }
  // The logits as the controls change them; valid until the next call. Without any, `logits`.
  std::span<const float> adjusted(std::span<const float> logits);

 private:
  RepeatOptions options_;
  std::unordered_map<std::int32_t, std::int64_t> drawn_;  // of all ids of the text: 0 of a prompt's
  std::vector<float> logits_;
};

}  // namespace sluice
