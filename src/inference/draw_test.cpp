#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "inference/generate.h"

namespace sluice {
namespace {

const std::vector<float> logits = {0.5F, 2.0F, -1.0F, 2.0F, 1.0F};

std::vector<std::int64_t> counts(const SamplingOptions& options, std::int64_t draws) {
  std::vector<std::int64_t> out(logits.size());
  for (std::int64_t i = 0; i < draws; ++i)
    ++out[static_cast<std::size_t>(draw_token(logits, options, 0, i))];
  return out;
}

// Sum over ids of (seen - expected)² / expected.
double chi_squared(const std::vector<std::int64_t>& seen, double temperature) {
  double total = 0, draws = 0, sum = 0;
  for (const float x : logits) total += std::exp(x / temperature);
  for (const std::int64_t n : seen) draws += static_cast<double>(n);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double expected = draws * std::exp(logits[i] / temperature) / total;
    const double off = static_cast<double>(seen[i]) - expected;
    sum += off * off / expected;
  }
  return sum;
}

TEST(Draw, greedy_takes_the_first_of_the_best) {
  for (int index = 0; index < 10; ++index)
    EXPECT_EQ(draw_token(logits, {.temperature = 0, .seed = 7}, 0, index), 1);
}

TEST(Draw, frequencies_are_the_softmax) {
  constexpr double bound = 18.5;  // 4 degrees of freedom, p = 0.001
  EXPECT_LT(chi_squared(counts({.seed = 1}, 20000), 1), bound);
  EXPECT_LT(chi_squared(counts({.temperature = 0.7, .seed = 1}, 20000), 0.7), bound);
  // The control: another temperature's draws must fail.
  EXPECT_GT(chi_squared(counts({.temperature = 0.9, .seed = 1}, 20000), 1), bound);
}

TEST(Draw, top_k_keeps_the_best_ids) {
  const std::vector<std::int64_t> seen = counts({.top_k = 2, .seed = 3}, 2000);
  EXPECT_EQ(seen[1] + seen[3], 2000);
  EXPECT_GT(seen[1], 800);
  EXPECT_GT(seen[3], 800);
  EXPECT_EQ(counts({.top_k = 1, .seed = 3}, 50)[1], 50);
  EXPECT_GT(counts({.top_k = 3, .seed = 3}, 2000)[4], 0);  // the control
}

TEST(Draw, top_p_keeps_the_smallest_set_that_holds_the_share) {
  // Shares in falling order: 0.379 (id 1), 0.379 (3), 0.139 (4), 0.084 (0), 0.019 (2).
  const std::vector<std::int64_t> seen = counts({.top_p = 0.7, .seed = 5}, 2000);
  EXPECT_EQ(seen[1] + seen[3], 2000);
  const std::vector<std::int64_t> more = counts({.top_p = 0.85, .seed = 5}, 2000);
  EXPECT_GT(more[4], 0);
  EXPECT_EQ(more[0] + more[2], 0);
  EXPECT_EQ(counts({.top_p = 1e-9, .seed = 5}, 50)[1], 50);
}

TEST(Draw, is_a_function_of_seed_row_and_index) {
  std::set<std::vector<std::int32_t>> streams;
  for (const std::uint64_t seed : {0, 1})
    for (const std::uint64_t row : {0, 1}) {
      std::vector<std::int32_t> a, b;
      for (std::int64_t i = 0; i < 40; ++i) a.push_back(draw_token(logits, {.seed = seed}, row, i));
      for (std::int64_t i = 40; i-- > 0;)
        b.insert(b.begin(), draw_token(logits, {.seed = seed}, row, i));
      EXPECT_EQ(a, b);
      streams.insert(a);
    }
  EXPECT_EQ(streams.size(), 4u);
}

}  // namespace
}  // namespace sluice
