// The functions of vec.h against the C library in double, and what closeness in the mean would not
// show: the tails of GELU, results in place of operands. Closeness of the ops: op_cases_test.cpp.
#include "backend/cpu/ops/elementwise_kernel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "backend/cpu/ops/tiles.h"

namespace sluice {
namespace {

const ElementwiseKernels& kernels(Isa isa) {
  return kernels_of(isa, portable_elementwise, avx2_elementwise, avx512_elementwise);
}

// Every 4,001st finite float32, both signs, and the edges.
std::vector<float> floats() {
  std::vector<float> result = {88.72283f, 88.7229f, -87.33654f, -87.33f,  0.0f, -0.0f,
                               0.625f,    -0.625f,  0.9277f,    -0.9277f, 4.0f, -4.0f};
  for (std::uint32_t bits = 0; bits < 0x7f800000u; bits += 4001) {
    result.push_back(std::bit_cast<float>(bits));
    result.push_back(-result.back());
  }
  return result;
}

// Distance in units of the last place of the exact value; 0 when the float is the nearest one.
double ulps(float got, double exact) {
  if (got == static_cast<float>(exact)) return 0;
  int exponent = 0;
  std::frexp(exact, &exponent);
  return std::abs(got - exact) / std::ldexp(1.0, std::max(exponent - 24, -149));
}

using Map = void (*)(const float*, float*, std::int64_t);

double worst_ulps(Map map, double (*exact)(double), double smallest) {
  const std::vector<float> x = floats();
  std::vector<float> y(x.size(), std::numeric_limits<float>::quiet_NaN());
  map(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = exact(x[i]);
    if (std::abs(want) < smallest && y[i] == 0) continue;
    const double error = ulps(y[i], want);
    EXPECT_FALSE(std::isnan(error)) << x[i];
    worst = std::max(worst, error);
  }
  return worst;
}

TEST(Vec, FunctionsAreWithinTwoUlps) {
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(name_of(isa));
    const ElementwiseKernels& k = kernels(isa);
    EXPECT_LT(worst_ulps(k.exp, std::exp, std::numeric_limits<float>::min()), 2);
    EXPECT_LT(worst_ulps(k.tanh, std::tanh, 0), 2);
    EXPECT_LT(worst_ulps(k.erf, std::erf, 0), 2);
    // The measure sees a wrong function and a slightly wrong one.
    EXPECT_GT(worst_ulps(k.tanh, std::erf, 0), 1e5);
    EXPECT_GT(worst_ulps(
                  k.erf, [](double x) { return std::erf(x) * (1 + 1e-6); }, 0),
              2);
  }
}

TEST(Vec, EndsOfTheRange) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(name_of(isa));
    const float x[] = {-inf, inf, nan, -1000.0f, 1000.0f};
    float y[5];
    kernels(isa).exp(x, y, 5);
    EXPECT_EQ(y[0], 0.0f);
    EXPECT_EQ(y[1], inf);
    EXPECT_TRUE(std::isnan(y[2]));
    EXPECT_EQ(y[3], 0.0f);
    EXPECT_EQ(y[4], inf);
    for (const Map map : {kernels(isa).tanh, kernels(isa).erf}) {
      map(x, y, 5);
      EXPECT_EQ(y[0], -1.0f);
      EXPECT_EQ(y[1], 1.0f);
      EXPECT_TRUE(std::isnan(y[2]));
      EXPECT_EQ(y[3], -1.0f);
      EXPECT_EQ(y[4], 1.0f);
    }
  }
}

// Each length touches its own numbers alone, and a number's result does not depend on its lane.
TEST(Vec, EveryRestOfLanes) {
  std::vector<float> x(64);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.1f * static_cast<float>(i) - 3;
  for (const Isa isa : available_isas()) {
    std::vector<float> whole(64);
    kernels(isa).f32.gelu_tanh(x.data(), whole.data(), 64);
    for (std::int64_t n = 0; n <= 33; ++n) {
      std::vector<float> y(64, 7.0f);
      kernels(isa).f32.gelu_tanh(x.data() + 3, y.data() + 1, n);
      EXPECT_EQ(y[0], 7.0f);
      for (std::int64_t i = 0; i < n; ++i) {
        EXPECT_EQ(y[static_cast<std::size_t>(i + 1)], whole[static_cast<std::size_t>(i + 3)]);
      }
      for (auto i = static_cast<std::size_t>(n + 1); i < 64; ++i) EXPECT_EQ(y[i], 7.0f);
    }
  }
}

// Far out GELU is x or 0 and its slope 1 or 0, without a NaN on the way.
TEST(Gelu, Tails) {
  const float x[] = {-1e4f, -50.0f, -12.0f, 12.0f, 50.0f, 1e4f};
  const float dy[] = {3, 3, 3, 3, 3, 3};
  for (const Isa isa : available_isas()) {
    const StreamKernels<float>& k = kernels(isa).f32;
    for (const bool exact : {false, true}) {
      float y[6], dx[6];
      (exact ? k.gelu_exact : k.gelu_tanh)(x, y, 6);
      (exact ? k.gelu_exact_grad : k.gelu_tanh_grad)(x, dy, dx, 6);
      for (int i = 0; i < 6; ++i) {
        EXPECT_EQ(y[i], i < 3 ? 0.0f : x[i]) << x[i];
        EXPECT_NEAR(dx[i], i < 3 ? 0.0f : 3.0f, 1e-12) << x[i];
      }
    }
  }
}

// How many of x do not cast to the bits of bf16's constructor, and back.
int wrong_casts(Isa isa, const std::vector<float>& x, bool cut_off = false) {
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<bf16> y(x.size());
  std::vector<float> back(x.size());
  const Tensor values[] = {Tensor(const_cast<float*>(x.data()), DType::f32, {{Axis::model, n}}),
                           Tensor(y.data(), DType::bf16, {{Axis::model, n}}),
                           Tensor(back.data(), DType::f32, {{Axis::model, n}})};
  CpuBackend cpu({.threads = 2, .isa = isa});
  cpu.run(Cast{.x = 0, .y = 1}, Frame{values, {}});
  cpu.run(Cast{.x = 1, .y = 2}, Frame{values, {}});
  int wrong = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(x[i]);
    wrong += y[i].bits != (cut_off ? bits >> 16 : bf16(x[i]).bits);
    wrong += std::bit_cast<std::uint32_t>(back[i]) != std::uint32_t{y[i].bits} << 16;
  }
  return wrong;
}

// Ties, infinities, denormals and NaN, over tiles, rests and threads.
TEST(Cast, SameBitsAsTheConstructor) {
  std::vector<float> x;
  for (std::uint64_t bits = 0; bits < 1ull << 32; bits += 32749) {
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits & 0xffff0000u) | 0x8000u));
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits) | 0x7f800000u));
  }
  for (const Isa isa : available_isas()) {
    EXPECT_EQ(wrong_casts(isa, x), 0) << name_of(isa);
    EXPECT_GT(wrong_casts(isa, x, true), 0) << name_of(isa);
    for (std::size_t n = 1; n < 40; ++n) {
      EXPECT_EQ(wrong_casts(isa, std::vector<float>(x.begin() + 5000, x.begin() + 5000 + n)), 0);
    }
  }
}

// Each length of bf16 touches its own numbers alone.
TEST(Vec, EveryRestOfBf16Lanes) {
  for (const Isa isa : available_isas()) {
    for (std::int64_t n = 0; n <= 33; ++n) {
      std::vector<bf16> x(64), y(64, bf16(7.0f));
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = bf16(static_cast<float>(i));
      kernels(isa).b16.scale(x.data() + 3, 2, y.data() + 1, n);
      for (std::int64_t i = 0; i < 64; ++i) {
        const float expected = 1 <= i && i <= n ? 2 * static_cast<float>(i + 2) : 7.0f;
        EXPECT_EQ(static_cast<float>(y[static_cast<std::size_t>(i)]), expected) << name_of(isa);
      }
    }
  }
}

TEST(Elementwise, ResultInPlaceOfAnOperand) {
  std::vector<float> a(1000), b(1000), apart(1000);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(i) * 0.37f;
    b[i] = 100 - static_cast<float>(i);
  }
  for (const Isa isa : available_isas()) {
    std::vector<float> in_place = a;
    kernels(isa).f32.add(a.data(), b.data(), 0.3f, apart.data(), 1000);
    kernels(isa).f32.add(in_place.data(), b.data(), 0.3f, in_place.data(), 1000);
    EXPECT_EQ(in_place, apart);
    EXPECT_NE(in_place, a);
  }
}

}  // namespace
}  // namespace sluice
