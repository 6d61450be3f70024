// What HeadLoss promises beyond closeness to its loop (op_cases_test).
#include <gtest/gtest.h>

#include <cmath>

#include "backend/cpu/ops/test_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, V = Axis::vocab, S = Axis::scalar,
               Y = Axis::bytes;
constexpr std::int64_t width = 48, rows = 384, vocab = 301;

// A head over 2 x 75 tokens; operands as in `op`.
struct Problem {
  RandomFrame frame{1};
  HeadLoss op{};

  explicit Problem(bool gradient) {
    const Shape xs{{B, 2}, {T, 75}, {D, width}};
    const Shape per_token{{B, 2}, {T, 75}};
    op.x = frame.random(xs);
    op.w = frame.random({{V, rows}, {D, width}}, 0.3);
    op.bias = frame.random({{V, rows}});
    op.targets = frame.integers(per_token, 0, vocab - 1);
    op.weights = frame.random(per_token, 0.1, 0.6);
    op.stats = frame.poisoned({{S, 2}}, DType::f64);
    const Id packed = frame.poisoned({{Y, packed_count(width, rows)}});
    frame.run(Pack{.w = op.w, .packed = packed, .k = width, .n = rows, .transposed = true});
    op.packed = packed;
    op.vocab = vocab;
    op.chunk = 40;
    if (!gradient) return;
    op.dx = frame.poisoned(xs);
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
  for (const Isa isa : available_isas()) {
    const Problem eval(false), train(true);
    const TestFrame a = eval.run(isa), b = train.run(isa);
    EXPECT_EQ(a.bytes(eval.op.stats), b.bytes(train.op.stats));
    for (const std::int64_t chunk : {1, 64, 4096}) {
      Problem other(true);
      other.op.chunk = chunk;
      const TestFrame c = other.run(isa);
      EXPECT_EQ(b.bytes(train.op.stats), c.bytes(other.op.stats)) << chunk;
      EXPECT_EQ(b.bytes(train.op.dx), c.bytes(other.op.dx)) << chunk;
      EXPECT_LT(relative_error(c.numbers(other.op.dw), b.numbers(train.op.dw)), 1e-6) << chunk;
      EXPECT_LT(relative_error(c.numbers(other.op.dbias), b.numbers(train.op.dbias)), 1e-6);
    }
    Problem changed(false);
    changed.frame[changed.op.weights].numbers[149] += 0.01;
    EXPECT_NE(changed.run(isa).bytes(changed.op.stats), a.bytes(eval.op.stats));
  }
}

TEST(CpuHeadLoss, StoredAndPackedWeightsGiveTheSameBits) {
  const Problem packed(true);
  Problem stored(true);
  stored.op.packed = no_value;
  const TestFrame a = packed.run(best_isa()), b = stored.run(best_isa());
  for (const Id id : {packed.op.stats, packed.op.dx, packed.op.dw, packed.op.dbias})
    EXPECT_EQ(a.bytes(id), b.bytes(id));
  stored.frame[stored.op.w].numbers[3] += 0.5;
  EXPECT_NE(a.bytes(packed.op.dx), stored.run(best_isa()).bytes(stored.op.dx));
}

TEST(CpuHeadLoss, PaddingRowsGetNothing) {
  for (const Isa isa : available_isas()) {
    const Problem problem(true);
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
  for (const Isa isa : available_isas()) {
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      Problem problem(false);
      problem.frame[problem.op.x].numbers[70 * width + 5] = bad;
      EXPECT_FALSE(std::isfinite(problem.run(isa).numbers(problem.op.stats)[0]));
      // A token of weight 0 has no effect, whatever it holds.
      problem.frame[problem.op.weights].numbers[70] = 0;
      EXPECT_TRUE(std::isfinite(problem.run(isa).numbers(problem.op.stats)[0]));
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
