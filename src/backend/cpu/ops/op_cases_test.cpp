// Every op against its double loop, with every instruction set of this machine and 1, 2 and 3
// threads: close to the loop, the same bits whatever the threads, nothing written outside.
#include <gtest/gtest.h>

#include <map>

#include "backend/cpu/ops/test_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, F = Axis::hidden, P = Axis::parts,
               S = Axis::scalar;

void check_cases(const std::vector<OpCase>& cases) {
  std::vector<std::vector<RefValue>> expected;
  for (const OpCase& one : cases) expected.push_back(expected_of(one));
  for (const Isa isa : available_isas()) {
    std::map<std::string, WorstError> worst;
    std::vector<TestFrame> alone;  // by one thread
    for (const int threads : {1, 2, 3}) {
      CpuBackend cpu({.threads = threads, .isa = isa});
      for (int i = 0; i < threads; ++i) {
        std::memset(cpu.scratch(i).data(), 0xff, cpu.scratch(i).size());
      }
      for (std::size_t i = 0; i < cases.size(); ++i) {
        const OpCase& one = cases[i];
        SCOPED_TRACE(fmt::format("{}, {}, {} threads", one.label, name_of(isa), threads));
        TestFrame result(one, {.threads = threads}, true);
        ASSERT_NO_THROW(cpu.run(one.op, result.frame()));
        EXPECT_TRUE(result.guards_hold());
        if (threads > 1) {  // the same bits have the same errors
          EXPECT_TRUE(same_bits(one, result, alone[i]));
          continue;
        }
        for (const Id id : written_by(one.op)) {
          const DType type = one.frame[static_cast<std::size_t>(id)].type.dtype;
          const double error = error_of(id, result, expected[i]);
          EXPECT_LE(error, tolerance_of(one, type)) << "value " << id;
          worst[fmt::format("{} {}", name_of(one.op), name_of(type))].add(error, one.label);
        }
        alone.push_back(std::move(result));
      }
    }
    for (const auto& [op, one] : worst) {
      fmt::print("{:9} {:28} {:.1e}  {}\n", name_of(isa), op, one.error, one.where);
    }
  }
}

// The ops on activations over six tiles and 33 chunks of tokens: more than the shared cases have.
std::vector<OpCase> activations_of_many_tiles(DType type) {
  RandomFrame f(2);
  const Shape shape{{B, 2}, {T, 1031}, {D, 83}};
  const Shape row{{D, 83}};
  const Id a = f.random(shape, 1, 2, type);
  const Id b = f.random(shape, 1, 0, type);
  const Id out = f.poisoned(shape, type);
  const Id sum = f.poisoned(shape, type);
  const Id gain = f.random(row, 0.3, 1);
  const Id bias = f.random(row);
  const Id mean = f.poisoned({{B, 2}, {T, 1031}});
  const Id rstd = f.poisoned({{B, 2}, {T, 1031}});
  const Id dgain = f.random(row);
  const Id dbias = f.random(row);
  const Id control = f.numbers({{S, Control::slots}}, DType::f64, {1e-3, 5, 1});
  const LayerNorm norm{.x = a, .gain = gain, .bias = bias, .y = out, .mean = mean, .rstd = rstd};
  std::vector<OpCase> cases;
  const auto add = [&](const Op& op, bool first = true) {
    cases.push_back(
        {fmt::format("{}: many tiles, {}", name_of(op), name_of(type)), op, f.values(), first});
  };
  add(Add{.a = a, .b = b, .y = out, .scale_b = 0.3f});
  add(Scale{.x = a, .y = out, .factor = 0.3f});
  add(Gelu{.x = b, .y = out});
  add(GeluGrad{.x = b, .dy = a, .dx = out, .form = GeluForm::exact});
  add(Dropout{.x = a, .y = out, .control = control, .key = {.rate = 0.2f, .seed = 1, .stream = 2}});
  add(Dropout{.x = a, .y = out, .key = {}});
  add(norm);
  add(ResidualNorm{.a = a,
                   .b = b,
                   .sum = sum,
                   .gain = gain,
                   .bias = bias,
                   .y = out,
                   .mean = mean,
                   .rstd = rstd,
                   .scale_b = 0.3f});
  f.run(norm);
  add(LayerNormGradInput{.x = a, .gain = gain, .mean = mean, .rstd = rstd, .dy = b, .dx = sum});
  const LayerNormGradWeight grad{
      .x = a, .mean = mean, .rstd = rstd, .dy = b, .dgain = dgain, .dbias = dbias};
  add(grad);
  add(grad, false);
  return cases;
}

// Updates, norms and casts over as many tiles.
std::vector<OpCase> cases_of_many_tiles() {
  RandomFrame f(1);
  const Shape shape{{B, 2}, {T, 1031}, {D, 83}};
  const Id a = f.random(shape, 1, 2);
  const Id b = f.random(shape);
  const Id half = f.poisoned(shape, DType::bf16);
  const Id wide = f.poisoned(shape);
  const Id positive = f.random(shape, 0.01, 0.1);
  const Id norms = f.random({{S, 3}}, 1, 0, DType::f64);
  const Id pending = f.numbers({{S, Pending::slots}}, DType::f64, {2e-3, 9, 0.01, 1});
  const Id fused = f.random({{D, 500}, {P, 3}, {F, 101}});
  const Id fused_v = f.random({{D, 500}, {P, 3}, {F, 101}}, 0.01, 0.1);
  std::vector<OpCase> cases;
  const auto add = [&](const Op& op) {
    cases.push_back({fmt::format("{}: many tiles", name_of(op)), op, f.values()});
  };
  add(AddInto{.x = a, .y = b});
  add(Cast{.x = a, .y = half});
  add(SquaredNorm{.x = a, .norms = norms, .index = 1});
  add(AdamW{.w = a, .g = b, .m = b, .v = positive, .pending = pending, .part = {}});
  AdamW parts{.w = fused, .g = fused, .m = fused, .v = fused_v, .pending = pending, .part = {}};
  parts.part[1] = {.lr = 0.5f, .decay = 0.2f, .eps = 1e-4f};
  parts.part[2] = {.lr = 2, .decay = 0.1f, .eps = 1e-5f};
  parts.parts = 3;
  parts.parts_inner = 101;
  parts.g = f.random({{D, 500}, {P, 3}, {F, 101}});
  parts.m = f.random({{D, 500}, {P, 3}, {F, 101}});
  add(parts);
  f.run(Cast{.x = a, .y = half});
  add(Cast{.x = half, .y = wide});
  return cases;
}

TEST(OpCases, EveryOpIsCloseToItsLoop) { check_cases(op_cases()); }

TEST(OpCases, ManyTilesAreCloseAndEqual) {
  check_cases(activations_of_many_tiles(DType::f32));
  check_cases(activations_of_many_tiles(DType::bf16));
  check_cases(cases_of_many_tiles());
}

// What the checks above must not let pass.
TEST(OpCases, NegativeControls) {
  const std::vector<OpCase> cases = activations_of_many_tiles(DType::f32);
  const OpCase& one = cases.front();
  const std::vector<RefValue> expected = expected_of(one);
  CpuBackend cpu({.threads = 1, .isa = best_isa()});
  TestFrame good(one);
  TestFrame bad(one);
  TestFrame untouched(one);
  cpu.run(one.op, good.frame());
  cpu.run(one.op, bad.frame());
  EXPECT_TRUE(same_bits(one, good, bad));
  const Tensor y = bad.frame()[std::get<Add>(one.op).y];
  // One token's row swapped with the next, one bit, one number forgotten, one written too far.
  float* row = y.data<float>() + 83 * 700;
  std::swap_ranges(row, row + 83, row + 83);
  EXPECT_GT(worst_error(one, bad, expected), kernel_tolerance);
  std::swap_ranges(row, row + 83, row + 83);
  EXPECT_LE(worst_error(one, bad, expected), kernel_tolerance);
  auto* bits = static_cast<std::uint32_t*>(y.raw()) + y.count() - 1;
  *bits ^= 1;
  EXPECT_FALSE(same_bits(one, good, bad));
  y.data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_GT(worst_error(one, bad, expected), kernel_tolerance);
  EXPECT_GT(worst_error(one, untouched, expected), kernel_tolerance);
  EXPECT_TRUE(bad.guards_hold());
  *(y.data<float>() + y.count()) = 0;
  EXPECT_FALSE(bad.guards_hold());
}

}  // namespace
}  // namespace sluice
