#include "inference/accuracy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "core/test_folder.h"
#include "inference/test_model.h"

namespace sluice {
namespace {

using Ids = std::vector<std::int32_t>;

constexpr std::int64_t context = 80;  // two pieces of prefill
constexpr std::size_t at_once = 3;

class TokenAccuracy : public testing::Test {
 protected:
  TokenAccuracy() : tokenizer_(make_bytes_tokenizer()), model_(decoder()) {
    // Much of it is what the model would say, so that there is something to count.
    Generator generator(model_.executor(), model_.config(), at_once);
    const auto go_on = [](std::size_t, std::int32_t) { return true; };
    ids_ = random_ids(1, 203, 7);
    const std::vector<Generated> said =
        generator.generate({ids_}, {.max_tokens = 150, .temperature = 0}, go_on);
    ids_.insert(ids_.end(), said[0].ids.begin(), said[0].ids.end());
    for (std::size_t at = 5; at < ids_.size(); at += 17) ids_[at] = (ids_[at] + 1) % 202;
    for (const std::size_t end : {30, 31, 100}) ids_[end] = end_of_text;
    ShardWriter writer(prefix(), *tokenizer_);
    writer.append(ids_);
    writer.end_document(151);
    writer.finish();
    writer.publish();
  }

  static TestModel decoder() {
    InferenceOptions options;
    options.rows = at_once;
    return TestModel(small_model("gpt2", context), options);
  }
  std::string prefix() const { return folder_.path("text"); }

  // How many of ids_ from `begin` + 1 to `end` the model guesses that has read those before.
  std::int64_t right_in(std::size_t begin, std::size_t end) const {
    const auto first = ids_.begin();
    const Logits logits = model_.logits(
        {first + static_cast<std::ptrdiff_t>(begin), first + static_cast<std::ptrdiff_t>(end)});
    std::int64_t right = 0;
    for (std::size_t t = 0; t < logits.size(); ++t)
      right += std::max_element(logits[t].begin(), logits[t].end()) - logits[t].begin() ==
               ids_[begin + t + 1];
    return right;
  }
  std::int64_t expected(std::size_t sequence, std::size_t targets, bool separate) const {
    std::int64_t right = 0;
    for (std::size_t first = 0; first < targets; first += sequence) {
      const std::size_t end = std::min(first + sequence, targets);
      std::size_t begin = first;
      for (std::size_t at = first; separate && at + 1 < end; ++at)
        if (ids_[at] == end_of_text) right += right_in(std::exchange(begin, at + 1), at + 1);
      right += right_in(begin, end);
    }
    return right;
  }

  static constexpr std::int32_t end_of_text = 202;
  TestFolder folder_;
  TokenizerPtr tokenizer_;
  TestModel model_;
  Ids ids_;
};

TEST_F(TokenAccuracy, CountsEveryTargetOnce) {
  const TokenFile tokens(prefix());
  Generator generator(model_.executor(), model_.config(), at_once);
  const Accuracy whole = token_accuracy(generator, tokens, {.sequence = context}, 0, at_once);
  EXPECT_EQ(whole.tokens, 150);
  EXPECT_EQ(whole.right, expected(context, 150, false));
  EXPECT_GT(whole.right, 20);
  EXPECT_LT(whole.right, 150);
  // The controls: other windows and fewer targets are other numbers.
  const Accuracy short_windows = token_accuracy(generator, tokens, {.sequence = 7}, 0, at_once);
  EXPECT_EQ(short_windows.right, expected(7, 150, false));
  EXPECT_NE(short_windows.right, whole.right);
  const Accuracy part = token_accuracy(generator, tokens, {.sequence = context}, 50, at_once);
  EXPECT_EQ(part.tokens, 50);
  EXPECT_EQ(part.right, expected(context, 50, false));
}

TEST_F(TokenAccuracy, KeepsDocumentsApartWhereTheRunDid) {
  const TokenFile tokens(prefix());
  Generator generator(model_.executor(), model_.config(), at_once);
  const RowOptions rows{context, Documents::separate, end_of_text};
  const Accuracy found = token_accuracy(generator, tokens, rows, 0, at_once);
  EXPECT_EQ(found.tokens, 150);
  EXPECT_EQ(found.right, expected(context, 150, true));
  EXPECT_NE(found.right, expected(context, 150, false));
}

}  // namespace
}  // namespace sluice
