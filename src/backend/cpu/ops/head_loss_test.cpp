// What HeadLoss promises beyond closeness to its loop (op_cases_test).
#include <gtest/gtest.h>

#include <cmath>

#include "backend/cpu/ops/test_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, V = Axis::vocab, S = Axis::scalar,
               Y = Axis::bytes;
constexpr std::int64_t width = 48, rows = 384, vocab = 301;
constexpr DType types[] = {DType::f32, DType::bf16};

// A head over 2 x 75 tokens; operands as in `op`.
struct Problem {
  RandomFrame frame{1};
  HeadLoss op{};

  explicit Problem(bool gradient, DType type = DType::f32) {
    const Shape xs{{B, 2}, {T, 75}, {D, width}};
    const Shape per_token{{B, 2}, {T, 75}};
    op.x = frame.random(xs, 1, 0, type);
    op.w = frame.random({{V, rows}, {D, width}}, 0.3, 0, type);
    op.bias = frame.random({{V, rows}});
    op.targets = frame.integers(per_token, 0, vocab - 1);
    op.weights = frame.random(per_token, 0.1, 0.6);
    op.stats = frame.poisoned({{S, 2}}, DType::f64);
    const Id packed = frame.poisoned({{Y, packed_count(width, rows, type)}}, type);
    frame.run(Pack{.w = op.w, .packed = packed, .k = width, .n = rows, .transposed = true});
    op.packed = packed;
    op.vocab = vocab;
    op.chunk = 40;
    if (!gradient) return;
    op.dx = frame.poisoned(xs, type);
    op.dw = frame.poisoned({{V, rows}, {D, width}});
    op.dbias = frame.poisoned({{V, rows}});
  }

  TestFrame run(Isa isa, int threads = 3) const {
    CpuBackend cpu({.threads = threads, .isa = isa});
    TestFrame result(OpCase{"", op, frame.values()}, {.threads = threads});
    cpu.run(op, result.frame());
    EXPECT_TRUE(result.guards_hold());
    return result;
  }
};

TEST(CpuHeadLoss, EvaluationAndChunksGiveTheLossOfTraining) {
  for (const Isa isa : available_isas())
    for (const DType type : types) {
      const Problem eval(false, type), train(true, type);
      const TestFrame a = eval.run(isa), b = train.run(isa);
      EXPECT_EQ(a.bytes(eval.op.stats), b.bytes(train.op.stats));
      for (const std::int64_t chunk : {1, 64, 4096}) {
        Problem other(true, type);
        other.op.chunk = chunk;
        const TestFrame c = other.run(isa);
        EXPECT_EQ(b.bytes(train.op.stats), c.bytes(other.op.stats)) << chunk;
        EXPECT_EQ(b.bytes(train.op.dx), c.bytes(other.op.dx)) << chunk;
        EXPECT_LT(relative_error(c.numbers(other.op.dw), b.numbers(train.op.dw)), 1e-6) << chunk;
        EXPECT_LT(relative_error(c.numbers(other.op.dbias), b.numbers(train.op.dbias)), 1e-6);
      }
      Problem changed(false, type);
      changed.frame[changed.op.weights].numbers[149] += 0.01;
      EXPECT_NE(changed.run(isa).bytes(changed.op.stats), a.bytes(eval.op.stats));
    }
}

TEST(CpuHeadLoss, StoredAndPackedWeightsGiveTheSameBits) {
  for (const DType type : types) {
    const Problem packed(true, type);
    Problem stored(true, type);
    stored.op.packed = no_value;
    const TestFrame a = packed.run(best_isa()), b = stored.run(best_isa());
    for (const Id id : {packed.op.stats, packed.op.dx, packed.op.dw, packed.op.dbias})
      EXPECT_EQ(a.bytes(id), b.bytes(id));
    stored.frame[stored.op.w].numbers[3] += 0.5;
    EXPECT_NE(a.bytes(packed.op.dx), stored.run(best_isa()).bytes(stored.op.dx));
  }
}

TEST(CpuHeadLoss, PaddingRowsGetNothing) {
  for (const Isa isa : available_isas())
    for (const DType type : types) {
      const Problem problem(true, type);
      const TestFrame run = problem.run(isa);
      const std::vector<double> dw = run.numbers(problem.op.dw);
      const std::vector<double> dbias = run.numbers(problem.op.dbias);
      for (std::size_t i = vocab * width; i < dw.size(); ++i) ASSERT_EQ(dw[i], 0);
      for (std::size_t i = vocab; i < dbias.size(); ++i) ASSERT_EQ(dbias[i], 0);
      EXPECT_NE(dw[vocab * width - 1], 0);
      EXPECT_NE(dbias[vocab - 1], 0);
    }
}

TEST(CpuHeadLoss, ALossThatIsNoNumberShows) {
  for (const Isa isa : available_isas())
    for (const DType type : types) {
      for (const double bad :
           {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        Problem problem(false, type);
        problem.frame[problem.op.x].numbers[70 * width + 5] = bad;
        EXPECT_FALSE(std::isfinite(problem.run(isa).numbers(problem.op.stats)[0]));
        // A token of weight 0 has no effect, whatever it holds.
        problem.frame[problem.op.weights].numbers[70] = 0;
        EXPECT_TRUE(std::isfinite(problem.run(isa).numbers(problem.op.stats)[0]));
      }
    }
}

// The frozen head: the same dx, and no weight's gradient.
TEST(CpuHeadLoss, AFrozenWeightLeavesTheRest) {
  for (const Isa isa : available_isas())
    for (const DType type : types) {
      const Problem whole(true, type);
      Problem frozen(true, type);
      frozen.op.dw = no_value;
      const TestFrame a = whole.run(isa), b = frozen.run(isa);
      for (const Id id : {whole.op.stats, whole.op.dx, whole.op.dbias})
        EXPECT_EQ(a.bytes(id), b.bytes(id));
      EXPECT_NE(a.bytes(whole.op.dw), b.bytes(whole.op.dw));
    }
}

// dlogits of bf16 are rounded, its logits are not: the loss is that of float32 over the same
// numbers, dx is nearly so.
TEST(CpuHeadLoss, LogitsOfBf16StayFloat32) {
  for (const Isa isa : available_isas()) {
    const Problem half(true, DType::bf16);
    Problem single(true);
    for (const Id id : {half.op.x, half.op.w, half.op.bias, half.op.targets, half.op.weights})
      single.frame[id].numbers = half.frame[id].numbers;
    single.op.packed = no_value;
    const TestFrame a = half.run(isa), b = single.run(isa);
    const double loss = b.numbers(single.op.stats)[0];
    EXPECT_NEAR(a.numbers(half.op.stats)[0] / loss, 1, 1e-6);
    for (const Id id : {half.op.dx, half.op.dw, half.op.dbias}) {
      EXPECT_LT(relative_error(a.numbers(id), b.numbers(id)), 4e-3);
      EXPECT_GT(relative_error(a.numbers(id), b.numbers(id)), 1e-4);
    }
  }
}

// A vocabulary beyond what 256 blocks of the least size hold.
TEST(CpuHeadLoss, ALargeVocabularyIsCloseToTheLoop) {
  for (const DType type : types) {
    RandomFrame f(5);
    constexpr std::int64_t many = 300001;
    HeadLoss op{};
    op.x = f.random({{B, 1}, {T, 2}, {D, 1}}, 3, 0, type);
    op.w = f.random({{V, many}, {D, 1}}, 1, 0, type);
    op.targets = f.numbers({{B, 1}, {T, 2}}, DType::i32, {many - 1, 1024});
    op.weights = f.random({{B, 1}, {T, 2}}, 0.1, 0.6);
    op.stats = f.poisoned({{S, 2}}, DType::f64);
    op.dx = f.poisoned(f[op.x].type.shape, type);
    op.dw = f.poisoned(f[op.w].type.shape);
    op.vocab = many;
    const OpCase one{"", op, f.values()};
    std::vector<RefValue> expected = f.values();
    reference(op, expected);
    for (const Isa isa : available_isas()) {
      CpuBackend cpu({.threads = 2, .isa = isa});
      TestFrame result(one);
      cpu.run(op, result.frame());
      EXPECT_TRUE(result.guards_hold());
      EXPECT_LT(worst_error(one, result, expected), type == DType::bf16 ? 1e-3 : 2e-6);
      f[op.weights].numbers[1] += 0.01;
      TestFrame changed(OpCase{"", op, f.values()});
      f[op.weights].numbers[1] -= 0.01;
      cpu.run(op, changed.frame());
      EXPECT_GT(worst_error(one, changed, expected), 3e-3);
    }
  }
}

TEST(CpuHeadLoss, RefusesATargetOutsideTheVocabulary) {
  for (const double target : {-1.0, static_cast<double>(vocab)}) {
    Problem problem(true);
    problem.frame[problem.op.targets].numbers[77] = target;
    try {
      problem.run(best_isa());
      FAIL() << target;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::input);
      EXPECT_NE(error.text().find("is outside a vocabulary of 301"), std::string::npos);
      EXPECT_NE(error.text().find("token 77"), std::string::npos);
    }
    problem.frame[problem.op.weights].numbers[77] = 0;
    EXPECT_NO_THROW(problem.run(best_isa()));
  }
}

}  // namespace
}  // namespace sluice
