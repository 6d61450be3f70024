// What the products promise beyond closeness to their loops (op_cases_test): the same bits from a
// weight as it is stored and from its packed tiles, and with any number of threads.
#include <gtest/gtest.h>

#include "backend/cpu/ops/column_sum.h"
#include "backend/cpu/ops/test_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, F = Axis::hidden, Y = Axis::bytes;

std::string bits_of(const Op& op, Id id, const RandomFrame& f, int threads) {
  CpuBackend cpu({.threads = threads, .isa = best_isa()});
  TestFrame frame(OpCase{"", op, f.values()}, {.threads = threads});
  cpu.run(op, frame.frame());
  EXPECT_TRUE(frame.guards_hold());
  return frame.bytes(id);
}

// Every product has several tiles in each direction and several blocks of its sum.
TEST(CpuLinear, SameBitsStoredOrPackedWithAnyNumberOfThreads) {
  constexpr std::int64_t in = 331, out = 299;
  for (const bool out_in : {false, true}) {
    RandomFrame f(1);
    const Id x = f.random({{B, 3}, {T, 203}, {D, in}});
    const Id dy = f.random({{B, 3}, {T, 203}, {F, out}});
    const Id w = f.random(out_in ? Shape{{F, out}, {D, in}} : Shape{{D, in}, {F, out}}, 0.1);
    const Id bias = f.random({{F, out}});
    const Id y = f.poisoned({{B, 3}, {T, 203}, {F, out}});
    const Id dx = f.poisoned({{B, 3}, {T, 203}, {D, in}});
    const Id dw = f.poisoned(f[w].type.shape);
    const Id dbias = f.poisoned({{F, out}});
    const Id packed = f.poisoned({{Y, packed_count(in, out)}});
    const Id back = f.poisoned({{Y, packed_count(out, in)}});
    f.run(Pack{.w = w, .packed = packed, .k = in, .n = out, .transposed = out_in});
    f.run(Pack{.w = w, .packed = back, .k = out, .n = in, .transposed = !out_in});
    Linear forward{.x = x, .w = w, .bias = bias, .y = y, .out_in = out_in, .scale = 0.7f};
    LinearGradInput input{.dy = dy, .w = w, .dx = dx, .out_in = out_in, .scale = 0.7f};
    const LinearGradWeight weight{
        .x = x, .dy = dy, .dw = dw, .dbias = dbias, .out_in = out_in, .scale = 0.7f};
    const std::string y1 = bits_of(forward, y, f, 1), dx1 = bits_of(input, dx, f, 1);
    const std::string dw1 = bits_of(weight, dw, f, 1), dbias1 = bits_of(weight, dbias, f, 1);
    forward.packed = packed;
    input.packed = back;
    for (const int threads : {1, 2, 3}) {
      EXPECT_EQ(bits_of(forward, y, f, threads), y1);
      EXPECT_EQ(bits_of(input, dx, f, threads), dx1);
      EXPECT_EQ(bits_of(weight, dw, f, threads), dw1);
      EXPECT_EQ(bits_of(weight, dbias, f, threads), dbias1);
    }
    f[packed].numbers[9999] *= 2;  // the packed weight is the one that is used
    EXPECT_NE(bits_of(forward, y, f, 2), y1);
    f[dy].numbers[12345] += 1;
    EXPECT_NE(bits_of(weight, dbias, f, 2), dbias1);
  }
}

TEST(CpuLinear, ColumnSumsOfAStripOfAWiderMatrix) {
  Pool pool(3);
  constexpr std::int64_t rows = 130, columns = 299, ld = 305;
  std::vector<float> x(rows * ld, std::numeric_limits<float>::quiet_NaN());
  std::vector<double> expected(columns, 0.0);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) {
      const float value = static_cast<float>((r * 37 + c * 11) % 101) - 50.0f;
      x[static_cast<std::size_t>(r * ld + c)] = value;
      expected[static_cast<std::size_t>(c)] += value;
    }
  std::vector<float> sum(columns + 1, 3.0f);
  column_sum(pool, x.data(), rows, columns, ld, true, sum.data());
  for (std::size_t c = 0; c < columns; ++c) ASSERT_EQ(sum[c], expected[c] + 3);
  column_sum(pool, x.data(), rows, columns, ld, false, sum.data());
  for (std::size_t c = 0; c < columns; ++c) ASSERT_EQ(sum[c], expected[c]);
  EXPECT_EQ(sum[columns], 3.0f);
}

}  // namespace
}  // namespace sluice
