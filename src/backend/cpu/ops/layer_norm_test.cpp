// What the closeness of op_cases_test.cpp does not show: the fused form's bits, the order of sums,
// accumulation over micro-batches, rows far from zero.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/cpu/ops/test_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model;

struct Norms {
  RandomFrame f{1};
  Id a, b, sum, gain, bias, y, mean, rstd;
  explicit Norms(std::int64_t width, double centre = 2, DType type = DType::f32) {
    const Shape shape{{B, 3}, {T, 77}, {D, width}};
    a = f.random(shape, 1, centre, type);
    b = f.random(shape, 1, 0, type);
    sum = f.poisoned(shape, type);
    gain = f.random({{D, width}}, 0.3, 1);
    bias = f.random({{D, width}});
    y = f.poisoned(shape, type);
    mean = f.poisoned({{B, 3}, {T, 77}});
    rstd = f.poisoned({{B, 3}, {T, 77}});
  }
  LayerNorm norm_of(Id x) const {
    return {.x = x, .gain = gain, .bias = bias, .y = y, .mean = mean, .rstd = rstd};
  }
};

void expect_fused_is_two_ops(DType type) {
  for (const std::int64_t width : {1, 15, 80, 333, 768}) {
    const Norms n(width, 2, type);
    const ResidualNorm fused{.a = n.a,
                             .b = n.b,
                             .sum = n.sum,
                             .gain = n.gain,
                             .bias = n.bias,
                             .y = n.y,
                             .mean = n.mean,
                             .rstd = n.rstd,
                             .scale_b = 0.3f};
    const OpCase one{"residual_norm", fused, n.f.values()};
    for (const Isa isa : available_isas()) {
      CpuBackend cpu({.threads = 2, .isa = isa});
      const auto in_two = [&](float scale) {
        TestFrame result(one);
        cpu.run(Add{.a = n.a, .b = n.b, .y = n.sum, .scale_b = scale}, result.frame());
        cpu.run(n.norm_of(n.sum), result.frame());
        return result;
      };
      TestFrame result(one);
      cpu.run(fused, result.frame());
      EXPECT_TRUE(same_bits(one, result, in_two(0.3f))) << width << " " << name_of(isa);
      const float other = type == DType::bf16 ? 0.301f : std::nextafter(0.3f, 1.0f);
      EXPECT_FALSE(same_bits(one, result, in_two(other)));
    }
  }
}

TEST(ResidualNorm, SameBitsAsAddThenLayerNorm) {
  expect_fused_is_two_ops(DType::f32);
  expect_fused_is_two_ops(DType::bf16);
}

// The norm of the sum before it was rounded is another one.
TEST(ResidualNorm, NormalisesTheRoundedSum) {
  Norms n(333, 2, DType::bf16);
  RandomFrame expected = n.f;
  expected.run(Add{.a = n.a, .b = n.b, .y = n.sum, .scale_b = 0.3f});
  expected.run(n.norm_of(n.sum));
  RandomFrame unrounded = n.f;
  unrounded[n.sum].type.dtype = DType::f32;
  unrounded.run(Add{.a = n.a, .b = n.b, .y = n.sum, .scale_b = 0.3f});
  unrounded.run(n.norm_of(n.sum));
  const ResidualNorm fused{.a = n.a,
                           .b = n.b,
                           .sum = n.sum,
                           .gain = n.gain,
                           .bias = n.bias,
                           .y = n.y,
                           .mean = n.mean,
                           .rstd = n.rstd,
                           .scale_b = 0.3f};
  const OpCase one{"residual_norm", fused, n.f.values()};
  for (const Isa isa : available_isas()) {
    CpuBackend cpu({.threads = 1, .isa = isa});
    TestFrame result(one);
    cpu.run(fused, result.frame());
    EXPECT_LT(error_of(n.y, result, expected.values()), 1e-4) << name_of(isa);
    EXPECT_GT(error_of(n.y, result, unrounded.values()), 5e-4) << name_of(isa);
  }
}

// Sums are taken in one order, so a row's mean has the same bits with every instruction set.
TEST(LayerNorm, OneOrderOfSumsForEveryInstructionSet) {
  for (const std::int64_t width : {15, 80, 333, 768}) {
    const Norms n(width);
    const OpCase one{"layer_norm", n.norm_of(n.a), n.f.values()};
    std::string first;
    for (const Isa isa : available_isas()) {
      CpuBackend cpu({.threads = 1, .isa = isa});
      TestFrame result(one);
      cpu.run(one.op, result.frame());
      if (first.empty()) first = result.bytes(n.mean);
      EXPECT_EQ(first, result.bytes(n.mean)) << width << " " << name_of(isa);
      EXPECT_NE(first, result.bytes(n.rstd));
    }
  }
}

// With E[x²] - E[x]² nothing would be left of the variance here.
TEST(LayerNorm, RowsFarFromZero) {
  const Norms n(333, 3000);
  const OpCase one{"layer_norm", n.norm_of(n.a), n.f.values()};
  std::vector<RefValue> expected = one.frame;
  reference(one.op, expected);
  for (const Isa isa : available_isas()) {
    CpuBackend cpu({.threads = 1, .isa = isa});
    TestFrame result(one);
    cpu.run(one.op, result.frame());
    EXPECT_LT(worst_error(one, result, expected), 3e-4) << name_of(isa);
  }
}

// The first micro-batch overwrites, a second one adds exactly its own sum.
TEST(LayerNormGradWeight, AccumulatesOverMicroBatches) {
  Norms n(80);
  n.f.run(n.norm_of(n.a));
  const Id dgain = n.f.poisoned({{D, 80}});
  const Id dbias = n.f.poisoned({{D, 80}});
  const LayerNormGradWeight op{
      .x = n.a, .mean = n.mean, .rstd = n.rstd, .dy = n.b, .dgain = dgain, .dbias = dbias};
  const OpCase one{"grad", op, n.f.values()};
  for (const Isa isa : available_isas()) {
    CpuBackend cpu({.threads = 2, .isa = isa});
    TestFrame result(one);
    Frame frame = result.frame();
    cpu.run(op, frame);
    const std::vector<double> once = result.numbers(dgain);
    frame.first = false;
    cpu.run(op, frame);
    const std::vector<double> twice = result.numbers(dgain);
    for (std::size_t i = 0; i < once.size(); ++i) EXPECT_EQ(twice[i], 2 * once[i]);
    EXPECT_NE(once, twice);
  }
}

}  // namespace
}  // namespace sluice
