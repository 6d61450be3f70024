#include "inference/evaluate.h"

#include <gtest/gtest.h>

#include "core/test_folder.h"
#include "inference/test_model.h"

namespace sluice {
namespace {

constexpr std::int64_t context = 24;

class Evaluate : public testing::Test {
 protected:
  Evaluate() : tokenizer_(make_bytes_tokenizer()), prefix_(folder_.path("text")) {
    ids_ = random_ids(101, 203, 7);
    ShardWriter writer(prefix_, *tokenizer_);
    writer.append(ids_);
    writer.end_document(101);
    writer.finish();
    writer.publish();
  }

  static TestModel model(std::int64_t rows, std::int64_t sequence, int micro_batches) {
    InferenceOptions options;
    options.evaluation = {rows, sequence};
    options.head_chunk = 16;
    options.rows = 0;
    options.build.eval_micro_batches = micro_batches;
    return TestModel(small_model("gpt2", context), options);
  }

  // Mean over the first `targets` targets, in windows of `sequence`, in double precision.
  double expected(const TestModel& model, std::int64_t sequence, std::int64_t targets) const {
    double sum = 0;
    for (std::int64_t first = 0; first < targets; first += sequence) {
      const std::int64_t count = std::min(sequence, targets - first);
      const Logits logits = model.logits({ids_.begin() + first, ids_.begin() + first + count});
      for (std::int64_t t = 0; t < count; ++t) {
        double total = 0;
        for (const double x : logits[static_cast<std::size_t>(t)]) total += std::exp(x);
        const auto target = static_cast<std::size_t>(ids_[static_cast<std::size_t>(first + t + 1)]);
        sum += std::log(total) - logits[static_cast<std::size_t>(t)][target];
      }
    }
    return sum / static_cast<double>(targets);
  }

  Evaluation run(TestModel& model, std::int64_t sequence, int micro_batches,
                 std::int64_t limit = 0) {
    TokenFile tokens(prefix_);
    Staging staging(model.executor().programs().named("eval").batch, micro_batches);
    return evaluate(model.executor(), tokens, tokenizer_.get(), {.sequence = sequence}, limit,
                    staging);
  }

  TestFolder folder_;
  TokenizerPtr tokenizer_;
  std::string prefix_;
  std::vector<std::int32_t> ids_;
};

TEST_F(Evaluate, is_the_mean_over_every_target_once) {
  struct Row {
    std::int64_t rows, sequence;
    int micro_batches;
  };
  for (const auto& [rows, sequence, micro_batches] :
       {Row{3, 24, 1}, Row{1, 24, 1}, Row{2, 7, 3}, Row{8, 20, 2}}) {
    TestModel m = model(rows, sequence, micro_batches);
    const Evaluation found = run(m, sequence, micro_batches);
    const double loss = expected(m, sequence, 100);
    EXPECT_NEAR(found.loss, loss, 1e-6 * loss);
    EXPECT_NEAR(found.perplexity, std::exp(loss), 1e-5 * std::exp(loss));
    EXPECT_EQ(found.tokens, 100);
    EXPECT_EQ(found.bytes, 100);
    ASSERT_TRUE(found.bits_per_byte);
    EXPECT_NEAR(*found.bits_per_byte, loss / std::log(2.0), 1e-5);
    // The control: other windows, or a target fewer, are another number.
    EXPECT_GT(std::abs(found.loss - expected(m, sequence - 1, 100)), 1e-6 * loss);
    EXPECT_GT(std::abs(found.loss - expected(m, sequence, 99)), 1e-6 * loss);
  }
}

TEST_F(Evaluate, a_limit_bounds_the_targets) {
  TestModel m = model(2, 24, 1);
  const Evaluation found = run(m, 24, 1, 50);
  const double loss = expected(m, 24, 50);
  EXPECT_EQ(found.tokens, 50);
  EXPECT_EQ(found.bytes, 50);
  EXPECT_NEAR(found.loss, loss, 1e-6 * loss);
}

TEST_F(Evaluate, without_a_tokenizer_bytes_are_unknown) {
  TestModel m = model(2, 24, 1);
  TokenFile tokens(prefix_);
  Staging staging(m.executor().programs().named("eval").batch, 1);
  const Evaluation found = evaluate(m.executor(), tokens, nullptr, {.sequence = 24}, 0, staging);
  EXPECT_EQ(found.bytes, 0);
  EXPECT_FALSE(found.bits_per_byte);
}

TEST_F(Evaluate, an_id_beyond_the_model_is_an_error) {
  TestModel m = model(2, 24, 1);
  TokenFile tokens(prefix_);
  tokens.limit_ids(100);
  Staging staging(m.executor().programs().named("eval").batch, 1);
  EXPECT_THROW(evaluate(m.executor(), tokens, nullptr, {.sequence = 24}, 0, staging), Error);
}

}  // namespace
}  // namespace sluice
