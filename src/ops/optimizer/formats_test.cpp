// Formats of state: exact where they promise it, within measured bounds where not, and right on
// average where they round at random.
#include "ops/optimizer/formats.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/random.h"

namespace sluice {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

float from_bits(std::uint32_t u) { return std::bit_cast<float>(u); }
std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }
float nearest_even(float x) { return static_cast<float>(bf16(x)); }

std::vector<float> normals(std::int64_t count, std::uint64_t stream = 1) {
  std::vector<float> x;
  for (std::int64_t i = 0; i < count; ++i)
    x.push_back(random_normal(1, stream, static_cast<std::uint64_t>(i)));
  return x;
}
std::vector<std::uint32_t> draws(std::size_t count, std::uint64_t stream = 2) {
  std::vector<std::uint32_t> bits;
  for (std::uint64_t i = 0; i < count; ++i) bits.push_back(random_bits(1, stream, i));
  return bits;
}

double relative_l2(std::span<const float> a, std::span<const float> b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference / norm);
}

TEST(Master, IsExactForEveryUpperHalf) {
  for (std::uint32_t hi = 0; hi < 0x10000; ++hi) {
    for (const std::uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu, hi * 40503u}) {
      const float x = from_bits((hi << 16) + (low & 0xffffu));
      const Master one = split_master(x);
      if (std::isnan(x)) {
        ASSERT_EQ(bits_of(join_master(one.weight, one.low)), 0x7fc00000u);
        ASSERT_TRUE(std::isnan(static_cast<float>(one.weight)));
      } else {
        ASSERT_EQ(bits_of(join_master(one.weight, one.low)), bits_of(x));
      }
    }
  }
}

TEST(Master, WeightIsRoundedHalfUp) {
  const auto weight = [](float x) { return static_cast<float>(split_master(x).weight); };
  EXPECT_EQ(weight(1 + 0x1p-8f), 1 + 0x1p-7f);  // a tie
  EXPECT_EQ(weight(-1 - 0x1p-8f), -1 - 0x1p-7f);
  EXPECT_EQ(nearest_even(1 + 0x1p-8f), 1.0f) << "to even is another rounding";
  EXPECT_EQ(weight(1 + 0x1p-8f - 0x1p-23f), 1.0f);
  EXPECT_EQ(weight(infinity), infinity);
  EXPECT_EQ(weight(-std::numeric_limits<float>::max()), -infinity) << "but the pair is exact";
  EXPECT_EQ(weight(from_bits(1)), 0.0f);
  for (const float x : normals(1000)) {
    if ((bits_of(x) & 0xffffu) == 0x8000u) continue;
    EXPECT_EQ(weight(x), nearest_even(x));
  }
}

// Over all 65536 draws the mean is the number itself, exactly.
TEST(RoundAtRandom, IsUnbiased) {
  for (const float x : {1.0f, -1.00390625f, 3.14159274f, 1e-30f, -2.71828e20f}) {
    double sum = 0;
    for (std::uint32_t i = 0; i < 0x10000; ++i)
      sum += static_cast<float>(round_at_random(x, i << 16 | 0x1234u));
    EXPECT_EQ(sum / 65536, static_cast<double>(x));
  }
  EXPECT_NE(static_cast<double>(nearest_even(3.14159274f)), static_cast<double>(3.14159274f));
  EXPECT_EQ(static_cast<float>(round_at_random(infinity, ~0u)), infinity);
  EXPECT_EQ(static_cast<float>(round_at_random(-infinity, ~0u)), -infinity);
  EXPECT_TRUE(std::isnan(static_cast<float>(round_at_random(from_bits(0xffffffffu), ~0u))));
}

TEST(E4m3, KnownCodes) {
  EXPECT_EQ(decode_e4m3(0x7e), 448);
  EXPECT_EQ(decode_e4m3(0x38), 1);
  EXPECT_EQ(decode_e4m3(0x08), 0x1p-6f);
  EXPECT_EQ(decode_e4m3(0x81), -0x1p-9f);
  EXPECT_TRUE(std::isnan(decode_e4m3(0x7f)));
  EXPECT_EQ(encode_e4m3(infinity), 0x7e);
  EXPECT_EQ(encode_e4m3(-1e30f), 0xfe);
  EXPECT_EQ(encode_e4m3(not_a_number), 0x7f);
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7f) == 0x7f) continue;
    EXPECT_EQ(encode_e4m3(decode_e4m3(static_cast<std::uint8_t>(code))), code);
  }
}

// Against a search over all codes; ties go to the even code.
TEST(E4m3, RoundsToTheNearest) {
  const auto search = [](float x) {
    int best = 0;
    for (int code = 0; code < 0x7f; ++code) {
      const double now = std::abs(decode_e4m3(static_cast<std::uint8_t>(code)) - double{x});
      const double then = std::abs(decode_e4m3(static_cast<std::uint8_t>(best)) - double{x});
      if (now < then || (now == then && code % 2 == 0)) best = code;
    }
    return best;
  };
  for (int code = 0; code < 0x7e; ++code) {
    const float low = decode_e4m3(static_cast<std::uint8_t>(code));
    const float high = decode_e4m3(static_cast<std::uint8_t>(code + 1));
    const float tie = (low + high) / 2;
    for (const float x :
         {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 500.0f), low + 0.3f * (high - low)}) {
      ASSERT_EQ(encode_e4m3(x), search(x)) << x;
      ASSERT_EQ(encode_e4m3(-x), search(x) | 0x80) << x;
    }
  }
}

TEST(StateM, ErrorOfNormalNumbers) {
  const Shape shape{{Axis::model, 100}, {Axis::hidden, 300}};
  const std::vector<float> m = normals(shape.count());
  std::vector<std::uint8_t> codes(m.size());
  std::vector<float> scales(static_cast<std::size_t>(state_blocks(shape))), back(m.size());
  encode_m(shape, m, codes, scales);
  decode_m(shape, codes, scales, back);
  fmt::print("m: relative error {:.4f}\n", relative_l2(back, m));
  EXPECT_LT(relative_l2(back, m), 0.028);  // steps of 1/16 to 1/8, uniform: 1/16 / sqrt(3) * 0.72
  for (std::size_t i = 0; i < m.size(); ++i) {
    if (std::abs(m[i]) < 1e-3f) continue;
    ASSERT_NEAR(back[i] / m[i], 1, 0.0626);
  }
}

TEST(StateM, ExtremeBlocks) {
  std::vector<float> m{1e30f, infinity, -infinity, not_a_number, 0, 3};
  std::vector<std::uint8_t> codes(m.size());
  std::vector<float> back(m.size());
  decode_m(codes, encode_m(m, codes), back);
  EXPECT_NEAR(back[1] / std::numeric_limits<float>::max(), 1, 1e-6);
  EXPECT_EQ(back[2], -back[1]);
  EXPECT_TRUE(std::isnan(back[3]));
  EXPECT_EQ(back[4], 0);
  for (const float tiny : {0.0f, 1e-31f, from_bits(1)}) {
    m.assign(6, tiny);
    EXPECT_EQ(encode_m(m, codes), 0);
    decode_m(codes, 0, back);
    for (const float x : back) EXPECT_EQ(x, 0);
  }
}

std::vector<float> squares(std::int64_t count, double spread) {
  std::vector<float> v;
  const std::vector<float> a = normals(count, 3), b = normals(count, 4);
  for (std::size_t i = 0; i < a.size(); ++i)
    v.push_back(static_cast<float>(a[i] * a[i] * std::exp(2 * spread * b[i])));
  return v;
}

TEST(StateV, IsNeverReadTooSmall) {
  for (const double spread : {0.0, 1.0, 5.0}) {
    std::vector<float> v = squares(128, spread);
    v[7] = 0;
    v[9] = std::numeric_limits<float>::min();
    v[11] = v[12] = 1e-20f;
    for (const float size : {1.0f, 1e-30f, 1e25f}) {
      std::vector<float> x = v, read(v.size()), kept(v.size());
      for (float& one : x) one *= size;
      bool below = false;
      for (std::uint64_t k = 0; k < 300; ++k) {
        std::vector<std::uint8_t> codes(v.size());
        const float scale = encode_v(x, draws(v.size(), k), codes);
        read_v(codes, scale, read);
        decode_v(codes, scale, kept);
        for (std::size_t i = 0; i < x.size(); ++i) {
          if (x[i] < std::numeric_limits<float>::min()) continue;
          ASSERT_GE(read[i], x[i]) << i;
          below = below || kept[i] < x[i];
        }
      }
      EXPECT_TRUE(below) << "what is kept is not rounded up";
    }
  }
}

TEST(StateV, ErrorOfWhatIsReadAndKept) {
  const Shape shape{{Axis::model, 100}, {Axis::hidden, 300}};
  const std::vector<float> v = squares(shape.count(), 0.5);
  std::vector<std::uint8_t> codes(v.size());
  std::vector<float> scales(static_cast<std::size_t>(state_blocks(shape)));
  std::vector<float> kept(v.size()), roots(v.size()), read(v.size());
  encode_v(shape, v, codes, scales);
  decode_v(shape, codes, scales, kept);
  for (std::size_t i = 0; i < v.size(); ++i) {
    roots[i] = std::sqrt(v[i]);
    kept[i] = std::sqrt(kept[i]);
    read[i] = kept[i];
  }
  for_blocks(shape, [&](std::int64_t block, std::int64_t first, std::int64_t count) {
    const auto at = static_cast<std::size_t>(first), n = static_cast<std::size_t>(count);
    read_v(std::span(codes).subspan(at, n), scales[static_cast<std::size_t>(block)],
           std::span(read).subspan(at, n));
  });
  for (float& x : read) x = std::sqrt(x);
  fmt::print("sqrt(v): relative error kept {:.4f}, read {:.4f}\n", relative_l2(kept, roots),
             relative_l2(read, roots));
  EXPECT_LT(relative_l2(kept, roots), 0.005);
  EXPECT_LT(relative_l2(read, roots), 0.02);
}

// The mean over all 65536 draws of a code is the number before rounding.
TEST(StateV, CodesAreUnbiased) {
  for (const float root : {0.5f, 0.1234f, 0.001f, 1e-5f}) {
    const std::vector<float> v{1, root * root};
    std::vector<std::uint8_t> codes(2);
    double sum = 0;
    for (std::uint32_t i = 0; i < 0x10000; ++i) {
      encode_v(v, std::vector<std::uint32_t>{0, i | 0xabcd0000u}, codes);
      sum += codes[1];
    }
    EXPECT_NEAR(sum / 65536, 255 * std::sqrt(root), 1e-4);
  }
}

// The running mean of v over 3000 steps of random gradients is that of float32; rounded up each
// time (the control) it is far too large, as formats.h says.
TEST(StateV, RunningMeansDoNotDrift) {
  for (const bool up : {false, true}) {
    constexpr float beta2 = 0.95f;
    std::vector<float> exact(128, 0.0f), kept(128, 0.0f);
    std::vector<std::uint8_t> codes(128);
    double ratio = 0;
    for (std::uint64_t step = 0; step < 3000; ++step) {
      const std::vector<float> g = normals(128, step + 100);
      for (std::size_t i = 0; i < 128; ++i) {
        const float size = i % 4 == 0 ? 1 : 0.05f;
        const float square = size * g[i] * size * g[i];
        exact[i] = beta2 * exact[i] + (1 - beta2) * square;
        kept[i] = beta2 * kept[i] + (1 - beta2) * square;
        if (step >= 2000) ratio += std::sqrt(kept[i] / exact[i]) / (128 * 1000);
      }
      const auto bits = up ? std::vector<std::uint32_t>(128, 0) : draws(128, step + 5000);
      decode_v(codes, encode_v(kept, bits, codes), kept);
    }
    fmt::print("sqrt(v) after 3000 steps{}: {:.4f} of float32's\n", up ? ", rounded up" : "",
               ratio);
    if (up) {
      EXPECT_GT(ratio, 1.2);
    } else {
      EXPECT_NEAR(ratio, 1, 0.02);
    }
  }
}

TEST(Int8, IsUnbiasedAndWithinOneStep) {
  const std::vector<float> x = normals(128);
  std::vector<std::int8_t> codes(x.size());
  std::vector<float> back(x.size());
  std::vector<double> sum(x.size(), 0.0);
  float scale = 0;
  constexpr int runs = 4000;
  for (std::uint64_t k = 0; k < runs; ++k) {
    scale = encode_int8(x, draws(x.size(), k), codes);
    decode_int8(codes, scale, back);
    for (std::size_t i = 0; i < x.size(); ++i) {
      ASSERT_LT(std::abs(back[i] - x[i]), scale * 1.0001f);
      sum[i] += back[i];
    }
  }
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::abs(sum[i] / runs - x[i]) / (scale / 2 / std::sqrt(runs)));
  fmt::print("int8: worst mean error {:.2f} sigma, relative error {:.4f}\n", worst,
             relative_l2(back, x));
  EXPECT_LT(worst, 4.5);  // the largest of 128, each at most a coin's sigma
  EXPECT_LT(relative_l2(back, x), 0.011);
  // The control: to nearest, the mean is as far off as one rounding.
  encode_int8(x, std::vector<std::uint32_t>(x.size(), draw_middle), codes);
  decode_int8(codes, scale, back);
  double biased = 0;
  for (std::size_t i = 0; i < x.size(); ++i)
    biased = std::max(biased, std::abs(double{back[i]} - x[i]) / (scale / 2 / std::sqrt(runs)));
  EXPECT_GT(biased, 20);
}

TEST(Int8, ExtremeBlocks) {
  std::vector<std::int8_t> codes(3);
  std::vector<float> back(3);
  for (const float bad : {infinity, -infinity, not_a_number}) {
    decode_int8(codes, encode_int8(std::vector<float>{1, bad, 2}, draws(3), codes), back);
    for (const float x : back) EXPECT_TRUE(std::isnan(x));
  }
  EXPECT_EQ(encode_int8(std::vector<float>{1e-31f, 0, -1e-31f}, draws(3), codes), 0);
  EXPECT_EQ(codes, (std::vector<std::int8_t>{0, 0, 0}));
  encode_int8(std::vector<float>{3, -3, 0}, draws(3), codes);
  EXPECT_EQ(codes, (std::vector<std::int8_t>{127, -127, 0}));
}

// Rows of 300: blocks of 128, 128 and 44. One number decides over its own block alone.
TEST(Blocks, LieWithinRows) {
  const Shape shape{{Axis::model, 3}, {Axis::heads, 5}, {Axis::head, 60}};
  EXPECT_EQ(row_blocks(shape), 3);
  EXPECT_EQ(state_blocks(shape), 9);
  std::vector<float> m = normals(900);
  std::vector<std::uint8_t> codes(900);
  std::vector<float> scales(9), before(9);
  encode_m(shape, m, codes, before);
  m[300 + 128] = 1000;
  encode_m(shape, m, codes, scales);
  for (std::size_t i = 0; i < 9; ++i) EXPECT_EQ(scales[i] == before[i], i != 4) << i;
  EXPECT_EQ(scales[4], 1000.0f / 448);
}

}  // namespace
}  // namespace sluice
