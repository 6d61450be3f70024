#include "inference/repeats.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;
using Logits = std::vector<float>;

Logits adjusted(const RepeatOptions& options, const Ids& prompt, const Ids& drawn,
                const Logits& logits) {
  Repeats repeats(options);
  repeats.add_prompt(prompt);
  for (const std::int32_t id : drawn) repeats.add_drawn(id);
  const std::span<const float> out = repeats.adjusted(logits);
  return {out.begin(), out.end()};
}

TEST(Repeats, CountWhatThePublishedRulesCount) {
  const Logits logits{2, -2, 1, 4, 0.5};
  const Ids prompt{0, 1}, drawn{1, 3, 3};
  EXPECT_EQ(adjusted({}, prompt, drawn, logits), logits);
  // Prompt and text alike, once each.
  EXPECT_EQ(adjusted({.repetition = 2}, prompt, drawn, logits), (Logits{1, -4, 1, 2, 0.5}));
  EXPECT_EQ(adjusted({.repetition = 0.5}, prompt, drawn, logits), (Logits{4, -1, 1, 8, 0.5}));
  // What was drawn, not the prompt.
  EXPECT_EQ(adjusted({.presence = 1}, prompt, drawn, logits), (Logits{2, -3, 1, 3, 0.5}));
  EXPECT_EQ(adjusted({.frequency = 1}, prompt, drawn, logits), (Logits{2, -3, 1, 2, 0.5}));
  EXPECT_EQ(adjusted({.repetition = 2, .presence = 1, .frequency = 0.5}, prompt, drawn, logits),
            (Logits{1, -5.5, 1, 0, 0.5}));
  // An id of a tokenizer that has more of them than the model.
  EXPECT_EQ(adjusted({.repetition = 2}, {9, -1}, {}, logits), logits);
}

}  // namespace
}  // namespace sluice
