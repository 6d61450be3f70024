#include "core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace sluice {
namespace {

// The three vectors of Random123's kat_vectors, "philox4x32 10".
TEST(Random, philox_known_answers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Philox{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Philox{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Philox{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  EXPECT_NE(philox({0, 0, 0, 0}, {1, 0}), philox({0, 0, 0, 0}, {0, 0}));
}

// Values from a separate implementation in Python; quantiles from its statistics.NormalDist.
TEST(Random, draws_are_the_documented_ones) {
  EXPECT_EQ(random_bits(7, 9, 0), 2462361331u);
  EXPECT_EQ(random_bits(7, 9, 2), 3292225718u);
  EXPECT_EQ(random_bits(7, 9, (std::uint64_t{1} << 40) + 3), 403563144u);
  EXPECT_NE(random_bits(8, 9, 0), random_bits(7, 9, 0));
  EXPECT_NE(random_bits(7, 10, 0), random_bits(7, 9, 0));
  EXPECT_NEAR(random_normal(7, 9, 0), 0.1848156242934849, 1e-7);
  EXPECT_NEAR(random_normal(7, 9, 2), 0.7274702495178909, 1e-7);
  EXPECT_NEAR(random_normal(7, 9, 302), -2.7239029105539667, 3e-7);  // a lower tail
  EXPECT_NEAR(random_normal(7, 9, 330), 3.325528640556067, 3e-7);    // an upper tail
  EXPECT_NEAR(random_truncated_normal(7, 9, 0), 0.17631663991244884, 1e-7);
  EXPECT_NEAR(random_truncated_normal(7, 9, 2), 0.6884135418642333, 1e-7);
  EXPECT_NE(stream_of("block0.attn.qkv"), stream_of("block1.attn.qkv"));
}

struct Moments {
  double mean = 0, variance = 0, skew = 0, kurtosis = 0, largest = 0;
};

template <class Draw>
Moments moments(int n, Draw draw) {
  Moments m;
  double sum2 = 0, sum3 = 0, sum4 = 0;
  for (int i = 0; i < n; ++i) {
    const double x = draw(i);
    m.mean += x / n, sum2 += x * x / n, sum3 += x * x * x / n, sum4 += x * x * x * x / n;
    m.largest = std::max(m.largest, std::fabs(x));
  }
  m.variance = sum2 - m.mean * m.mean;
  m.skew = sum3;
  m.kurtosis = sum4;
  return m;
}

// Bounds are four standard errors of each moment at n = 400,000.
TEST(Random, moments) {
  const int n = 400000;
  const Moments normal = moments(n, [](int i) { return random_normal(1, 2, i); });
  EXPECT_NEAR(normal.mean, 0, 0.0064);
  EXPECT_NEAR(normal.variance, 1, 0.009);
  EXPECT_NEAR(normal.skew, 0, 0.025);
  EXPECT_NEAR(normal.kurtosis, 3, 0.062);
  EXPECT_GT(normal.largest, 4.0);

  // Var of N(0,1) given |x| <= 2 is 1 - 4 φ(2) / (2 Φ(2) - 1).
  const Moments cut = moments(n, [](int i) { return random_truncated_normal(1, 2, i); });
  EXPECT_NEAR(cut.mean, 0, 0.0056);
  EXPECT_NEAR(cut.variance, 0.7737413, 0.006);
  EXPECT_LE(cut.largest, 2.0);
  EXPECT_GT(cut.largest, 1.999);
  EXPECT_GT(std::fabs(normal.variance - cut.variance), 0.1);

  const Moments uniform = moments(n, [](int i) { return random_uniform(1, 2, i); });
  EXPECT_NEAR(uniform.mean, 0.5, 0.002);
  EXPECT_NEAR(uniform.variance, 1.0 / 12, 0.0007);
  EXPECT_LT(uniform.largest, 1.0);
}

// Neighbouring draws and neighbouring streams do not follow each other.
TEST(Random, no_correlation) {
  const int n = 200000;
  double along = 0, across = 0, itself = 0;
  for (int i = 0; i < n; ++i) {
    const double x = random_normal(3, 4, i);
    along += x * random_normal(3, 4, i + 1) / n;
    across += x * random_normal(3, 5, i) / n;
    itself += x * x / n;
  }
  EXPECT_NEAR(along, 0, 0.009);
  EXPECT_NEAR(across, 0, 0.009);
  EXPECT_GT(itself, 0.9);
}

}  // namespace
}  // namespace sluice
