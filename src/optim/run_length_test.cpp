#include "optim/run_length.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

using Boundaries = std::vector<RunLength::Boundary>;

TEST(RunLength, of_one_size_is_a_product) {
  const RunLength run(100, Boundaries{}, 1250);
  EXPECT_EQ(run.steps, 12);
  EXPECT_EQ(run.tokens(), 1200);
  EXPECT_EQ(run.tokens_after(0), 0);
  EXPECT_EQ(run.tokens_after(7), 700);
  EXPECT_EQ(run.tokens_after(20), 2000) << "steps past the end are of the last size";
  EXPECT_EQ(run.tokens_of(1), 100);
  EXPECT_EQ(run.steps_for(0), 0);
  EXPECT_EQ(run.steps_for(1), 1);
  EXPECT_EQ(run.steps_for(100), 1);
  EXPECT_EQ(run.steps_for(101), 2);
  EXPECT_EQ(steps_text(run), "12 steps of 100 tokens");
  EXPECT_EQ(RunLength(100, Boundaries{}, 0).steps, 0);
}

TEST(RunLength, a_ramp_changes_the_size_at_the_first_step_past_its_boundary) {
  const RunLength run(100, Boundaries{{250, 300}, {900, 200}}, 2000);
  // 100 100 100 | 300 300 | 200 200 200 200 200, and 100 that make no step
  EXPECT_EQ(run.steps, 10);
  EXPECT_EQ(run.tokens(), 1900);
  const std::int64_t after[] = {0, 100, 200, 300, 600, 900, 1100, 1300};
  for (std::int64_t step = 0; step < 8; ++step) EXPECT_EQ(run.tokens_after(step), after[step]);
  EXPECT_EQ(run.tokens_of(3), 100);
  EXPECT_EQ(run.tokens_of(4), 300);
  EXPECT_EQ(run.tokens_of(6), 200);
  EXPECT_EQ(run.stretch_after(2), 0u);
  EXPECT_EQ(run.stretch_after(3), 1u);
  EXPECT_EQ(run.stretch_after(5), 2u);
  EXPECT_EQ(run.stretch_after(50), 2u);
  EXPECT_EQ(steps_text(run),
            "10 steps of 100 tokens, of 300 from step 4 on, of 200 from step 6 on");
}

TEST(RunLength, tokens_and_steps_agree) {
  const RunLength run(7, Boundaries{{20, 11}, {22, 5}, {100, 64}}, 1000);
  std::int64_t tokens = 0;
  for (std::int64_t step = 1; step <= run.steps; ++step) {
    EXPECT_EQ(run.tokens_after(step - 1), tokens);
    for (std::int64_t t = tokens + 1; t <= tokens + run.tokens_of(step); ++t)
      ASSERT_EQ(run.steps_for(t), step) << t;
    tokens += run.tokens_of(step);
  }
  EXPECT_EQ(run.tokens(), tokens);
  EXPECT_LE(tokens, 1000);
  EXPECT_GT(tokens + 64, 1000);
}

TEST(RunLength, a_run_may_end_before_its_ramp) {
  const RunLength run(100, Boundaries{{1000, 200}}, 550);
  EXPECT_EQ(run.steps, 5);
  EXPECT_EQ(run.tokens(), 500);
  EXPECT_EQ(steps_text(run), "5 steps of 100 tokens");
  // The step that would cross the boundary does not fit any more.
  EXPECT_EQ(RunLength(100, Boundaries{{150, 200}}, 190).steps, 1);
}

}  // namespace
}  // namespace sluice
