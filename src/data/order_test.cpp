#include "data/order.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <vector>

namespace sluice {
namespace {

TEST(Order, is_a_permutation) {
  for (std::int64_t n = 1; n <= 2000; n += n < 300 ? 1 : 17) {
    std::vector<bool> seen(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t at = shuffled(i, n, 7, 3);
      ASSERT_TRUE(at >= 0 && at < n) << n;
      ASSERT_FALSE(seen[static_cast<std::size_t>(at)]) << n;
      seen[static_cast<std::size_t>(at)] = true;
    }
  }
}

TEST(Order, large_ones_by_sampling) {
  for (const std::int64_t n : {std::int64_t{1} << 33, (std::int64_t{1} << 40) + 12345,
                               std::int64_t{1} << 62, std::int64_t{1000000007}}) {
    std::set<std::int64_t> seen;
    double mean = 0;
    const int samples = 20000;
    for (int k = 0; k < samples; ++k) {
      const std::int64_t at = shuffled(n / samples * k, n, 1, 0);
      ASSERT_TRUE(at >= 0 && at < n);
      ASSERT_TRUE(seen.insert(at).second);
      mean += static_cast<double>(at) / static_cast<double>(n) / samples;
    }
    EXPECT_NEAR(mean, 0.5, 0.01);
  }
}

// A shuffle has one fixed point and n/2 ascents on average; seeds and epochs pick different ones.
TEST(Order, seeds_and_epochs_differ_and_look_random) {
  const std::int64_t n = 10007;
  const auto agreements = [&](std::uint64_t seed, std::uint64_t epoch) {
    int same = 0;
    for (std::int64_t i = 0; i < n; ++i)
      same += shuffled(i, n, seed, epoch) == shuffled(i, n, 1, 0);
    return same;
  };
  EXPECT_EQ(agreements(1, 0), n);
  EXPECT_LT(agreements(2, 0), 10);
  EXPECT_LT(agreements(1, 1), 10);
  EXPECT_LT(agreements(1, std::uint64_t{1} << 32), 10);
  EXPECT_LT(agreements(1 + (std::uint64_t{1} << 32), 0), 10);
  int fixed = 0, ascents = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    fixed += shuffled(i, n, 1, 0) == i;
    ascents += i > 0 && shuffled(i, n, 1, 0) > shuffled(i - 1, n, 1, 0);
  }
  EXPECT_LT(fixed, 10);
  EXPECT_NEAR(ascents, n / 2, 150);
}

// The order is part of what a resumed run must find again: these values never change.
TEST(Order, golden) {
  const std::vector<std::int64_t> expected = {1, 5, 7, 6, 4, 8, 2, 9, 3, 0};
  std::vector<std::int64_t> found;
  for (std::int64_t i = 0; i < 10; ++i) found.push_back(shuffled(i, 10, 42, 1));
  EXPECT_EQ(found, expected);
}

TEST(Order, seeking_costs_the_same_everywhere) {
  const std::int64_t n = std::int64_t{1} << 40;
  const auto start = std::chrono::steady_clock::now();
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < 10000; ++i) sum ^= shuffled(n - 1 - i, n, 5, 999999);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_NE(sum, 0);
  EXPECT_LT(seconds.count(), 1.0);
}

}  // namespace
}  // namespace sluice
