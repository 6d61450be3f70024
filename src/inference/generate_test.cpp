#include "inference/generate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "inference/test_model.h"

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;

constexpr auto go_on = [](std::size_t, std::int32_t) { return true; };

TestModel decoder(const std::string& family, std::int64_t context, std::int64_t rows) {
  InferenceOptions options;
  options.rows = rows;
  return TestModel(small_model(family, context), options);
}

class Cached : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, Cached, testing::Values("gpt2", "gptj"));

// Two whole pieces of prefill and a part of a third.
TEST_P(Cached, logits_are_the_uncached_ones_at_every_position) {
  TestModel model = decoder(GetParam(), 150, 1);
  Generator generator(model.executor(), model.config(), 1);
  const Ids ids = random_ids(2 * prefill_tokens + 11, model.config().vocab, 1);
  const Logits expected = model.logits(ids);
  for (const bool one_by_one : {false, true}) {
    const auto found = generator.all_logits({ids}, one_by_one)[0];
    ASSERT_EQ(found.size(), ids.size());
    double worst = 0;
    for (std::size_t t = 0; t < ids.size(); ++t)
      worst = std::max(worst, distance(found[t], expected[t]));
    EXPECT_LT(worst, 1e-5) << (one_by_one ? "one by one" : "prefill");
  }
  // The control: one other id at the start must show at the end.
  Ids other = ids;
  other[0] = (other[0] + 1) % static_cast<std::int32_t>(model.config().vocab);
  const auto found = generator.all_logits({other}, true)[0];
  EXPECT_GT(distance(found.back(), expected.back()), 1e-5);
}

TEST_P(Cached, prompts_of_unequal_length_are_each_alone) {
  TestModel model = decoder(GetParam(), 120, 4);
  Generator generator(model.executor(), model.config(), 4);
  const std::int64_t vocab = model.config().vocab;
  const std::vector<Ids> prompts = {random_ids(70, vocab, 1), random_ids(1, vocab, 2),
                                    random_ids(64, vocab, 3), random_ids(100, vocab, 4)};
  const SamplingOptions greedy{.max_tokens = 30, .temperature = 0};
  const std::vector<Generated> together = generator.generate(prompts, greedy, go_on);
  for (std::size_t r = 0; r < prompts.size(); ++r) {
    const Ids alone = generator.generate({prompts[r]}, greedy, go_on)[0].ids;
    EXPECT_EQ(together[r].ids, alone) << "row " << r;
    EXPECT_EQ(alone.size(), 30u);
    // The control: another prompt is continued otherwise.
    EXPECT_NE(alone, together[(r + 1) % prompts.size()].ids);
  }
}

// What the model says, one token at a time, without a cache: when the window is full, all but
// context / share of it is forgotten.
Ids uncached(const TestModel& model, Ids text, std::int64_t count, std::int64_t share) {
  const auto context = static_cast<std::size_t>(model.config().context);
  const std::size_t begin = text.size();
  std::size_t window = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (text.size() - window > context)
      window = text.size() - context / static_cast<std::size_t>(share);
    const auto last =
        model.logits({text.begin() + static_cast<std::ptrdiff_t>(window), text.end()}).back();
    text.push_back(
        static_cast<std::int32_t>(std::max_element(last.begin(), last.end()) - last.begin()));
  }
  return {text.begin() + static_cast<std::ptrdiff_t>(begin), text.end()};
}

TEST_P(Cached, past_the_context_its_last_half_is_prefilled_again) {
  TestModel model = decoder(GetParam(), 24, 1);
  Generator generator(model.executor(), model.config(), 1);
  const Ids prompt = random_ids(13, model.config().vocab, 9);
  const SamplingOptions greedy{.max_tokens = 40, .temperature = 0};
  const Ids found = generator.generate({prompt}, greedy, go_on)[0].ids;
  EXPECT_EQ(found, uncached(model, prompt, 40, 2));
  EXPECT_NE(found, uncached(model, prompt, 40, 4));  // the control
  // A prompt longer than the context keeps its last half.
  const Ids text = random_ids(60, model.config().vocab, 5);
  EXPECT_EQ(generator.generate({text}, greedy, go_on)[0].ids,
            generator.generate({{text.end() - 12, text.end()}}, greedy, go_on)[0].ids);
}

TEST(Generate, ends_at_the_stop_id_the_limit_or_the_callers_word) {
  TestModel model = decoder("gpt2", 40, 1);
  Generator generator(model.executor(), model.config(), 1);
  SamplingOptions sampling{.max_tokens = 20, .temperature = 1, .seed = 4};
  const Generated whole = generator.generate({{1, 2, 3}}, sampling, go_on)[0];
  EXPECT_EQ(whole.ids.size(), 20u);
  EXPECT_EQ(whole.finish, Finish::length);
  EXPECT_EQ(generator.generate({{1, 2, 3}}, sampling, go_on)[0].ids, whole.ids);

  std::size_t seen = 0;
  const auto five = [&](std::size_t, std::int32_t) { return ++seen < 5; };
  const Generated stopped = generator.generate({{1, 2, 3}}, sampling, five)[0];
  EXPECT_EQ(stopped.ids, Ids(whole.ids.begin(), whole.ids.begin() + 5));
  EXPECT_EQ(stopped.finish, Finish::stop);

  sampling.stop_id = whole.ids[7];
  const auto first = std::find(whole.ids.begin(), whole.ids.end(), sampling.stop_id);
  const Generated cut = generator.generate({{1, 2, 3}}, sampling, go_on)[0];
  EXPECT_EQ(cut.ids, Ids(whole.ids.begin(), first));
  EXPECT_EQ(cut.finish, Finish::stop);

  sampling.seed = 5;  // the control
  EXPECT_NE(generator.generate({{1, 2, 3}}, sampling, go_on)[0].ids, cut.ids);
}

TEST(Generate, no_tokens_asked_for_gives_none) {
  TestModel model = decoder("gpt2", 40, 1);
  Generator generator(model.executor(), model.config(), 1);
  EXPECT_TRUE(generator.generate({{1}}, {.max_tokens = 0}, go_on)[0].ids.empty());
}

}  // namespace
}  // namespace sluice
