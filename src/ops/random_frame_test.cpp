// The shared list of cases itself: every op is there, passes its shape rule, and its loop covers
// the poison of every output.
#include "ops/random_frame.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

namespace sluice {
namespace {

TEST(OpCases, CoverEveryOpAndPassTheShapeRules) {
  std::set<std::size_t> kinds;
  std::set<std::string> labels;
  for (const OpCase& one : op_cases()) {
    SCOPED_TRACE(one.label);
    kinds.insert(one.op.index());
    EXPECT_TRUE(labels.insert(one.label).second) << "label used twice";
    const auto types = types_of(one.frame);
    EXPECT_NO_THROW(check(one.op, types));
    EXPECT_GT(cost(one.op, types).read_bytes, 0);
    EXPECT_EQ(workspace_bytes(one.op, types, {}) % 256, 0);
  }
  EXPECT_EQ(kinds.size(), std::variant_size_v<Op>);
}

TEST(OpCases, LoopsOverwriteEveryPoisonedNumber) {
  for (OpCase& one : op_cases()) {
    SCOPED_TRACE(one.label);
    const auto before = one.frame;
    reference(one.op, one.frame, one.first);
    std::set<Id> may_change;
    for (Id id : written_by(one.op)) may_change.insert(id);
    for (std::size_t id = 0; id < one.frame.size(); ++id) {
      const auto& numbers = one.frame[id].numbers;
      if (!may_change.contains(static_cast<Id>(id))) {
        for (std::size_t i = 0; i < numbers.size(); ++i)
          ASSERT_TRUE(numbers[i] == before[id].numbers[i] || std::isnan(before[id].numbers[i]));
        continue;
      }
      ASSERT_EQ(static_cast<std::int64_t>(numbers.size()), one.frame[id].type.shape.count());
      for (double x : numbers) ASSERT_TRUE(std::isfinite(x)) << "value " << id;
    }
  }
}

// A second micro-batch adds to what was there; the first one does not look at it.
TEST(OpCases, AccumulatorsAddUnlessFirst) {
  RandomFrame f(1);
  const Id x = f.random({{Axis::batch, 1}, {Axis::time, 3}, {Axis::model, 2}});
  const Id dy = f.random({{Axis::batch, 1}, {Axis::time, 3}, {Axis::hidden, 4}});
  const Id dw = f.poisoned({{Axis::model, 2}, {Axis::hidden, 4}});
  const Op op = LinearGradWeight{.x = x, .dy = dy, .dw = dw, .dbias = no_value};
  std::vector<RefValue> frame = f.values();
  reference(op, frame, true);
  const auto once = frame[static_cast<std::size_t>(dw)].numbers;
  reference(op, frame, false);
  const auto twice = frame[static_cast<std::size_t>(dw)].numbers;
  for (std::size_t i = 0; i < once.size(); ++i) EXPECT_DOUBLE_EQ(twice[i], 2 * once[i]);
  reference(op, frame, true);
  EXPECT_EQ(frame[static_cast<std::size_t>(dw)].numbers, once);
}

TEST(RelativeError, IsZeroForEqualAndInfiniteForPoison) {
  const std::vector<double> a{3, 4}, off{3, 4.5}, zero{0, 0};
  const std::vector<double> poison{3, std::numeric_limits<double>::quiet_NaN()};
  EXPECT_EQ(relative_error(a, a), 0);
  EXPECT_DOUBLE_EQ(relative_error(off, a), 0.1);
  EXPECT_DOUBLE_EQ(relative_error(a, zero), 5);
  EXPECT_TRUE(std::isinf(relative_error(poison, a)));
  EXPECT_TRUE(std::isinf(relative_error(a, std::vector<double>{3})));
}

}  // namespace
}  // namespace sluice
