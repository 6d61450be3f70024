// The end of a step, worked out by hand.
#include "ops/optimizer/optimizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "ops/random_frame.h"

namespace sluice {
namespace {

constexpr Axis D = Axis::model, P = Axis::parts, S = Axis::scalar;

struct Update {
  RandomFrame f{1};
  AdamW op{};
  Update(const Shape& shape, std::vector<double> w, std::vector<double> g) {
    const std::vector<double> zeros(w.size(), 0.0);
    op.w = f.numbers(shape, DType::f32, std::move(w));
    op.g = f.numbers(shape, DType::f32, std::move(g));
    op.m = f.numbers(shape, DType::f32, zeros);
    op.v = f.numbers(shape, DType::f32, zeros);
    op.pending = f.numbers({{S, Pending::slots}}, DType::f64, {0.1, 1, 0.5, 1});
    op.part[0] = {.lr = 1, .decay = 0.1f, .eps = 0};
  }
  std::vector<double> run(std::vector<RefValue>& frame) const {
    reference(op, frame);
    return frame[static_cast<std::size_t>(op.w)].numbers;
  }
};

// β = 0.9, 0.95. Step 1, g = 1: m/(1-β1) = v/(1-β2) = 1, w = 1 - 0.1 (1 + 0.1) = 0.89.
// Step 2, g = -1: m = -0.01, v = 0.0975, so -0.01/0.19 and 1; w = 0.89 - 0.1 (-1/19 + 0.089).
TEST(AdamW, TwoStepsByHand) {
  const Update u({{D, 1}}, {1}, {2});
  std::vector<RefValue> frame = u.f.values();
  EXPECT_NEAR(u.run(frame)[0], 0.89, 1e-7);
  frame[static_cast<std::size_t>(u.op.g)].numbers = {-2};
  frame[static_cast<std::size_t>(u.op.pending)].numbers[Pending::step] = 2;
  EXPECT_NEAR(u.run(frame)[0], 0.89 - 0.1 * (-1.0 / 19 + 0.089), 1e-7);
  EXPECT_NEAR(frame[static_cast<std::size_t>(u.op.m)].numbers[0], -0.01, 1e-7);
  EXPECT_NEAR(frame[static_cast<std::size_t>(u.op.v)].numbers[0], 0.0975, 1e-7);
}

TEST(AdamW, NothingChangesUnlessApplied) {
  const Update u({{D, 2}}, {1, 2}, {2, std::numeric_limits<double>::quiet_NaN()});
  std::vector<RefValue> frame = u.f.values();
  frame[static_cast<std::size_t>(u.op.pending)].numbers[Pending::apply] = 0;
  EXPECT_EQ(u.run(frame), (std::vector<double>{1, 2}));
  EXPECT_EQ(frame[static_cast<std::size_t>(u.op.m)].numbers, (std::vector<double>{0, 0}));
  EXPECT_EQ(frame[static_cast<std::size_t>(u.op.v)].numbers, (std::vector<double>{0, 0}));
}

// [D2 P3 S2]: each part has its own multipliers, in every row.
TEST(AdamW, PartsHaveTheirOwnRows) {
  Update u({{D, 2}, {P, 3}, {S, 2}}, std::vector<double>(12, 1), std::vector<double>(12, 2));
  u.op.parts = 3;
  u.op.parts_inner = 2;
  u.op.part[1] = {.lr = 0.5f, .decay = 0, .eps = 0};
  u.op.part[2] = {.lr = 0, .decay = 0.1f, .eps = 0};
  std::vector<RefValue> frame = u.f.values();
  const auto w = u.run(frame);
  for (std::size_t e = 0; e < 12; ++e)
    EXPECT_NEAR(w[e], (std::array{0.89, 0.95, 1.0})[e / 2 % 3], 1e-7) << e;
}

TEST(AdamW, EpsKeepsSmallGradientsSmall) {
  Update u({{D, 1}}, {0}, {2});
  u.op.part[0] = {.lr = 1, .decay = 0, .eps = 3};
  std::vector<RefValue> frame = u.f.values();
  EXPECT_NEAR(u.run(frame)[0], -0.1 / (1 + 3), 1e-7);
}

struct Finish {
  RandomFrame f{2};
  FinishStep op{};
  std::vector<double> pending, results;
  // Tensors of squared norms 9 and 16: norm 5.
  Finish(double loss_sum, double weight, double step, float clip, double norm = 9) {
    op.stats = f.numbers({{S, 2}}, DType::f64, {loss_sum, weight});
    op.norms = f.numbers({{S, 2}}, DType::f64, {norm, 16});
    op.control = f.numbers({{S, Control::slots}}, DType::f64, {0.25, step, 0});
    op.pending = f.poisoned({{S, Pending::slots}}, DType::f64);
    op.results = f.numbers({{S, 2 * Results::slots}}, DType::f64,
                           std::vector<double>(2 * Results::slots, -9));
    op.clip = clip;
    std::vector<RefValue> frame = f.values();
    reference(op, frame);
    pending = frame[static_cast<std::size_t>(op.pending)].numbers;
    results = frame[static_cast<std::size_t>(op.results)].numbers;
  }
};

TEST(FinishStep, FoldsWeightAndClipIntoOneScalar) {
  const Finish loose(12, 4, 6, 2);  // the mean gradient's norm is 5 / 4
  EXPECT_EQ(loose.pending, (std::vector<double>{0.25, 6, 1.0 / 4, 1}));
  EXPECT_EQ(loose.results,
            (std::vector<double>{3, 1.25, 4, 1, 6, -1, 0, -9, -9, -9, -9, -9, -9, -9}));
  const Finish tight(12, 4, 7, 0.5);
  EXPECT_EQ(tight.pending, (std::vector<double>{0.25, 7, 0.5 / 1.25 / 4, 1}));
  EXPECT_EQ(tight.results,
            (std::vector<double>{-9, -9, -9, -9, -9, -9, -9, 3, 1.25, 4, 1, 7, -1, 0}));
  const Finish none(12, 4, 6, 0);
  EXPECT_EQ(none.pending[Pending::scale], 1.0 / 4);
  const Finish still(12, 4, 6, 0.5, -16);  // a norm of zero is not divided by
  EXPECT_EQ(still.pending[Pending::scale], 1.0 / 4);
}

TEST(FinishStep, NonFiniteIsNotApplied) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Finish& bad : {Finish(nan, 4, 6, 1), Finish(12, 4, 6, 1, inf),
                            Finish(12, 4, 6, 1, nan), Finish(inf, 4, 6, 0), Finish(0, 0, 6, 1)}) {
    EXPECT_EQ(bad.pending[Pending::apply], 0);
    EXPECT_EQ(bad.results[Results::finite], 0);
    EXPECT_EQ(bad.results[Results::step], 6);
  }
  EXPECT_EQ(Finish(12, 4, 6, 1).pending[Pending::apply], 1);
  EXPECT_EQ(Finish(12, 4, 6, 1, nan).results[Results::bad], 0) << "the tensor is named";
  EXPECT_EQ(Finish(nan, 4, 6, 1).results[Results::bad], -1) << "only the loss is at fault";
}

struct Judged {
  std::vector<double> pending, results, spikes;
};

// A step of loss 3 and norm 1.25 after `seen` steps of such losses and norms.
Judged judged(double seen, std::vector<double> losses, std::vector<double> norms, float deviations,
              double loss_sum = 12) {
  Finish step(12, 4, 6, 0);
  std::vector<double> table(Spikes::slots);
  table[Spikes::count] = seen;
  for (int i = 0; i < Spikes::window; ++i) {
    table[static_cast<std::size_t>(Spikes::losses + i)] = losses[i % losses.size()];
    table[static_cast<std::size_t>(Spikes::norms + i)] = norms[i % norms.size()];
  }
  step.op.spikes = step.f.numbers({{S, Spikes::slots}}, DType::f64, std::move(table));
  step.op.deviations = deviations;
  std::vector<RefValue> frame = step.f.values();
  frame[static_cast<std::size_t>(step.op.stats)].numbers[0] = loss_sum;
  reference(step.op, frame);
  const auto of = [&](Id id) { return frame[static_cast<std::size_t>(id)].numbers; };
  return {of(step.op.pending), of(step.op.results), of(step.op.spikes)};
}

TEST(FinishStep, ASpikeIsNotApplied) {
  const auto skipped = [](const Judged& judged) {
    EXPECT_EQ(judged.pending[Pending::apply], judged.results[Results::skipped] == 0 ? 1 : 0);
    EXPECT_EQ(judged.results[Results::finite], 1);
    return static_cast<int>(judged.results[Results::skipped]);
  };
  // Mean 2, and over pairs of 1.5 and 2.5 a deviation of 0.5 √(n / (n - 1)): 3 lies 2 above.
  const std::vector<double> low{1.5, 2.5}, like{1, 1.5};
  EXPECT_EQ(skipped(judged(128, low, like, 1.99f)), Spikes::by_loss);
  EXPECT_EQ(skipped(judged(128, low, like, 2.01f)), 0);
  EXPECT_EQ(skipped(judged(16, low, like, 1.9f)), Spikes::by_loss);
  EXPECT_EQ(skipped(judged(16, low, like, 1.97f)), 0) << "16 numbers, n - 1";
  EXPECT_EQ(skipped(judged(15, low, like, 0.1f)), 0) << "too few to judge by";
  EXPECT_EQ(skipped(judged(1e6, low, like, 1.99f)), Spikes::by_loss);
  EXPECT_EQ(skipped(judged(128, {3, 4}, {0.1, 0.2}, 4)), Spikes::by_norm);
  EXPECT_EQ(skipped(judged(128, low, {0.1, 0.2}, 1)), Spikes::by_loss + Spikes::by_norm);
  EXPECT_EQ(skipped(judged(128, {30, 31}, {5, 6}, 1)), 0) << "a fall is no spike";
}

TEST(FinishStep, EveryFiniteStepIsNoted) {
  const Judged noted = judged(130, {9}, {8}, 1);
  EXPECT_EQ(noted.spikes[Spikes::count], 131);
  EXPECT_EQ(noted.spikes[Spikes::losses + 2], 3);
  EXPECT_EQ(noted.spikes[Spikes::norms + 2], 1.25);
  EXPECT_EQ(std::count(noted.spikes.begin(), noted.spikes.end(), 9), Spikes::window - 1);
  const Judged spike = judged(130, {1, 2}, {1, 2}, 0.1f);
  EXPECT_EQ(spike.spikes[Spikes::losses + 2], 3) << "a skipped one too";
  const Judged broken = judged(130, {9}, {8}, 1, std::numeric_limits<double>::infinity());
  EXPECT_EQ(broken.spikes[Spikes::count], 130);
  EXPECT_EQ(std::count(broken.spikes.begin(), broken.spikes.end(), 9), Spikes::window);
  EXPECT_EQ(broken.results[Results::skipped], 0);
  EXPECT_EQ(broken.pending[Pending::apply], 0);
}

TEST(SquaredNorm, WritesItsOwnEntryOnly) {
  RandomFrame f(3);
  const Id x = f.numbers({{D, 3}}, DType::f32, {1, -2, 3});
  const Id norms = f.numbers({{S, 3}}, DType::f64, {5, 6, 7});
  f.run(SquaredNorm{.x = x, .norms = norms, .index = 1});
  EXPECT_EQ(f[norms].numbers, (std::vector<double>{5, 14, 7}));
}

}  // namespace
}  // namespace sluice
