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

constexpr std::int64_t in = 331, out = 299;

// Every product has several tiles in each direction and several blocks of its sum.
struct Problem {
  RandomFrame frame{1};
  Linear forward{};
  LinearGradInput input{};
  LinearGradWeight weight{};
  Id packed, back, h, gelu;

  Problem(DType type, bool out_in, std::int64_t time = 203) {
    RandomFrame& f = frame;
    const Shape xs{{B, 3}, {T, time}, {D, in}}, ys{{B, 3}, {T, time}, {F, out}};
    const Id x = f.random(xs, 1, 0, type);
    const Id dy = f.random(ys, 1, 0, type);
    const Id w =
        f.random(out_in ? Shape{{F, out}, {D, in}} : Shape{{D, in}, {F, out}}, 0.1, 0, type);
    const Id bias = f.random({{F, out}});
    const Id y = f.poisoned(ys, type);
    const Id dx = f.poisoned(xs, type);
    const Id dw = f.poisoned(f[w].type.shape);
    const Id dbias = f.poisoned({{F, out}});
    packed = f.poisoned({{Y, packed_count(in, out, type)}}, type);
    back = f.poisoned({{Y, packed_count(out, in, type)}}, type);
    f.run(Pack{.w = w, .packed = packed, .k = in, .n = out, .transposed = out_in});
    f.run(Pack{.w = w, .packed = back, .k = out, .n = in, .transposed = !out_in});
    h = f.random(xs, 2, 0, type);
    gelu = f.poisoned(ys, type);
    forward = {.x = x, .w = w, .bias = bias, .y = y, .out_in = out_in, .scale = 0.7f};
    input = {.dy = dy, .w = w, .dx = dx, .out_in = out_in, .scale = 0.7f};
    weight = {.x = x, .dy = dy, .dw = dw, .dbias = dbias, .out_in = out_in, .scale = 0.7f};
  }
  LinearGelu fused(GeluForm form) const {
    return {forward.x,      forward.w,     forward.bias, forward.y,     gelu,
            forward.out_in, forward.scale, form,         forward.packed};
  }
  LinearGeluGrad fused_grad(GeluForm form) const {
    return {input.dy, input.w, h, input.dx, input.out_in, input.scale, form, input.packed};
  }
};

TEST(CpuLinear, SameBitsStoredOrPackedWithAnyNumberOfThreads) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const bool out_in : {false, true}) {
      Problem p(type, out_in);
      RandomFrame& f = p.frame;
      const Id y = p.forward.y, dx = p.input.dx, dw = p.weight.dw, dbias = p.weight.dbias;
      const std::string y1 = bits_of(p.forward, y, f, 1), dx1 = bits_of(p.input, dx, f, 1);
      const std::string dw1 = bits_of(p.weight, dw, f, 1), dbias1 = bits_of(p.weight, dbias, f, 1);
      p.forward.packed = p.packed;
      p.input.packed = p.back;
      for (const int threads : {1, 2, 3}) {
        EXPECT_EQ(bits_of(p.forward, y, f, threads), y1);
        EXPECT_EQ(bits_of(p.input, dx, f, threads), dx1);
        EXPECT_EQ(bits_of(p.weight, dw, f, threads), dw1);
        EXPECT_EQ(bits_of(p.weight, dbias, f, threads), dbias1);
      }
      f[p.packed].numbers[9999] *= 2;  // the packed weight is the one that is used
      EXPECT_NE(bits_of(p.forward, y, f, 2), y1);
      f[p.weight.dy].numbers[12345] += 1;
      EXPECT_NE(bits_of(p.weight, dbias, f, 2), dbias1);
    }
}

// Fused or one after the other, whatever the threads.
void expect_fused_equals_unfused(CpuBackend& cpu, const Problem& p, GeluForm form) {
  const OpCase forward{"", p.fused(form), p.frame.values()};
  const OpCase backward{"", p.fused_grad(form), p.frame.values()};
  TestFrame fused(forward, {.threads = 3}), pair(forward, {.threads = 3});
  cpu.run(p.fused(form), fused.frame());
  cpu.run(p.forward, pair.frame());
  cpu.run(Gelu{.x = p.forward.y, .y = p.gelu, .form = form}, pair.frame());
  EXPECT_TRUE(same_bits(forward, fused, pair));
  EXPECT_TRUE(fused.guards_hold());
  TestFrame fused_back(backward, {.threads = 3}), pair_back(backward, {.threads = 3});
  const Id dx = p.input.dx;
  cpu.run(p.fused_grad(form), fused_back.frame());
  cpu.run(p.input, pair_back.frame());
  cpu.run(GeluGrad{.x = p.h, .dy = dx, .dx = dx, .form = form}, pair_back.frame());
  EXPECT_TRUE(same_bits(backward, fused_back, pair_back));
  EXPECT_TRUE(fused_back.guards_hold());
  if (cpu.pool().threads() > 1) return;  // and the other form is seen
  const GeluForm other = form == GeluForm::tanh ? GeluForm::exact : GeluForm::tanh;
  cpu.run(p.fused(other), fused.frame());
  EXPECT_FALSE(same_bits(forward, fused, pair));
  cpu.run(p.fused_grad(other), fused_back.frame());
  EXPECT_FALSE(same_bits(backward, fused_back, pair_back));
}

TEST(CpuLinear, FusedGeluHasTheBitsOfBothOps) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const bool packed : {false, true}) {
      Problem p(type, packed, 45);
      if (packed) p.forward.packed = p.packed, p.input.packed = p.back;
      for (const Isa isa : available_isas())
        for (const int threads : {1, 2, 3}) {
          SCOPED_TRACE(fmt::format("{}, {}, {} threads", name_of(type), name_of(isa), threads));
          CpuBackend cpu({.threads = threads, .isa = isa});
          expect_fused_equals_unfused(cpu, p, packed ? GeluForm::exact : GeluForm::tanh);
        }
    }
}

// y is the GELU of h as it is stored. That of h before its rounding has other bits.
TEST(CpuLinear, GeluReadsTheRoundedH) {
  Problem p(DType::bf16, false);
  CpuBackend cpu({.threads = 1, .isa = best_isa()});
  const Id rounded = p.gelu;
  const Id wide = p.frame.poisoned(p.frame[rounded].type.shape);
  const Id wide_gelu = p.frame.poisoned(p.frame[rounded].type.shape);
  const LinearGelu op = p.fused(GeluForm::tanh);
  TestFrame frame(OpCase{"", op, p.frame.values()});
  cpu.run(op, frame.frame());
  const std::string y = frame.bytes(rounded);
  p.forward.y = wide;
  cpu.run(p.forward, frame.frame());
  cpu.run(Gelu{.x = wide, .y = wide_gelu, .form = op.form}, frame.frame());
  cpu.run(Cast{.x = wide_gelu, .y = rounded}, frame.frame());
  EXPECT_NE(frame.bytes(rounded), y);
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
  column_sum(pool, best_isa(), x.data(), rows, columns, ld, true, sum.data());
  for (std::size_t c = 0; c < columns; ++c) ASSERT_EQ(sum[c], expected[c] + 3);
  column_sum(pool, best_isa(), x.data(), rows, columns, ld, false, sum.data());
  for (std::size_t c = 0; c < columns; ++c) ASSERT_EQ(sum[c], expected[c]);
  EXPECT_EQ(sum[columns], 3.0f);
}

}  // namespace
}  // namespace sluice
