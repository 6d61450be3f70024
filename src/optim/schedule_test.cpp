#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "optim/optim.h"

namespace sluice {
namespace {

OptimConfig with(const std::function<void(OptimConfig&)>& change) {
  OptimConfig config;
  config.lr = 1;
  config.lr_end = 0.1;
  change(config);
  return config;
}

std::string error_of(const std::function<void(OptimConfig&)>& change,
                     const RunLength& run = {100, 1000}) {
  const OptimConfig config = with(change);
  try {
    check(config);
    check(config, run);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    return e.text();
  }
  return "no error";
}

TEST(Schedule, warms_up_from_zero_and_decays_to_the_end) {
  const OptimConfig linear = with([](auto& c) { c.lr_schedule = "linear", c.warmup_tokens = 400; });
  const RunLength run(100, 12);
  EXPECT_EQ(learning_rate(linear, run, 0), 0);
  EXPECT_EQ(learning_rate(linear, run, 1), 0.25);
  EXPECT_EQ(learning_rate(linear, run, 4), 1);
  EXPECT_DOUBLE_EQ(learning_rate(linear, run, 8), 0.55);
  EXPECT_EQ(learning_rate(linear, run, 12), 0.1);
  EXPECT_EQ(learning_rate(linear, run, 100), 0.1);
  const OptimConfig cosine = with([](auto& c) { c.warmup_tokens = 400; });
  EXPECT_DOUBLE_EQ(learning_rate(cosine, run, 8), 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(cosine, run, 6),
                   0.1 + 0.9 * 0.5 * (1 + std::cos(std::numbers::pi / 4)));
  const OptimConfig constant = with([](auto& c) { c.lr_schedule = "constant"; });
  EXPECT_EQ(learning_rate(constant, run, 0), 1);
  EXPECT_EQ(learning_rate(constant, run, 11), 1);
}

TEST(Schedule, is_a_function_of_tokens) {
  const OptimConfig config = with([](auto& c) { c.warmup_tokens = 1250; });
  const RunLength small(100, 120), large(300, 40);
  const RunLength ramp(100, std::vector<RunLength::Boundary>{{3000, 300}}, 12'000);
  for (std::int64_t step = 0; step < 40; ++step) {
    const double rate = learning_rate(config, large, step);
    EXPECT_EQ(rate, learning_rate(config, small, 3 * step)) << step;
    if (step < 10) continue;
    EXPECT_EQ(rate, learning_rate(config, ramp, 30 + step - 10)) << step;
  }
  EXPECT_NE(learning_rate(config, large, 20), learning_rate(config, ramp, 20));
}

TEST(Schedule, lengths_in_steps_are_their_tokens) {
  const auto tokens = [](auto& c) { c.warmup_tokens = 400, c.decay_tokens = 600; };
  const auto steps = [](auto& c) { c.warmup_steps = 4, c.decay_steps = 6; };
  const RunLength run(100, 20);
  for (const char* schedule : {"cosine", "linear", "wsd"}) {
    OptimConfig one = with(tokens), other = with(steps), off = with(steps);
    off.decay_steps = 7;
    one.lr_schedule = other.lr_schedule = off.lr_schedule = schedule;
    double difference = 0;
    for (std::int64_t step = 0; step < 25; ++step) {
      EXPECT_EQ(learning_rate(one, run, step), learning_rate(other, run, step)) << step;
      difference += std::abs(learning_rate(one, run, step) - learning_rate(off, run, step));
    }
    EXPECT_GT(difference, 0.1) << schedule;
  }
  // A decay that ends before the run does stays where it ended.
  EXPECT_EQ(learning_rate(with(steps), run, 10), 0.1);
  EXPECT_GT(learning_rate(with(steps), run, 9), 0.1);
}

TEST(Schedule, wsd_stays_and_then_decays_in_the_last_tokens) {
  const RunLength run(100, 20);
  for (const auto& [shape, half] :
       {std::pair{"linear", 0.5}, {"sqrt", 1 - std::sqrt(0.5)}, {"cosine", 0.5}}) {
    const OptimConfig config = with([&](auto& c) {
      c.lr_schedule = "wsd", c.warmup_steps = 2, c.decay_tokens = 400, c.decay_shape = shape;
    });
    EXPECT_EQ(learning_rate(config, run, 1), 0.5);
    for (std::int64_t step = 2; step <= 16; ++step) EXPECT_EQ(learning_rate(config, run, step), 1);
    EXPECT_DOUBLE_EQ(learning_rate(config, run, 18), 0.1 + 0.9 * half) << shape;
    EXPECT_LT(learning_rate(config, run, 17), 1);
    EXPECT_EQ(learning_rate(config, run, 20), 0.1);
  }
}

// mesh-transformer-jax's gpt3_schedule: lr(s) = peak clip(s, 0, W) / W
//   - (peak - end) (1 - cos(pi clip(s - W, 0, A) / A)) / 2
TEST(Schedule, follows_gpt_j) {
  const double peak = 1.2e-4, end = 1.2e-5, warmup = 3000, anneal = 300'000;
  const OptimConfig config = with([&](auto& c) {
    c.lr = peak, c.lr_end = end, c.warmup_steps = 3000, c.decay_steps = 300'000;
  });
  const RunLength run(1'048'576, 350'000);
  for (std::int64_t step = 0; step < 350'000; step += 517) {
    const auto s = static_cast<double>(step);
    const double expected =
        peak * std::clamp(s, 0.0, warmup) / warmup -
        (peak - end) *
            (1 - std::cos(std::numbers::pi * std::clamp(s - warmup, 0.0, anneal) / anneal)) / 2;
    EXPECT_NEAR(learning_rate(config, run, step), expected, 1e-12 * peak) << step;
  }
  EXPECT_EQ(learning_rate(config, run, 303'000), end);
  EXPECT_EQ(learning_rate(config, run, 349'999), end);
  EXPECT_GT(learning_rate(config, run, 302'000), end);
}

TEST(Schedule, refuses_what_no_run_can_follow) {
  EXPECT_EQ(error_of([](auto& c) { c.warmup_tokens = 100, c.warmup_steps = 3; }),
            "sluice: error: the warm-up has two lengths\n"
            "  where: optim.warmup_steps\n"
            "  expected: optim.warmup_tokens or optim.warmup_steps\n"
            "  found: 100 tokens and 3 steps\n"
            "  try: optim.warmup_tokens = 0\n"
            "  try: optim.warmup_steps = 0\n");
  EXPECT_NE(error_of([](auto& c) {
              c.decay_tokens = 100, c.decay_steps = 3;
            }).find("the decay has two lengths"),
            std::string::npos);
  EXPECT_EQ(error_of([](auto& c) { c.lr_schedule = "wsd"; }),
            "sluice: error: wsd does not know when its decay begins\n"
            "  where: optim.lr_schedule\n"
            "  expected: with wsd, the length of the decay\n"
            "  found: wsd, and neither optim.decay_tokens nor optim.decay_steps\n"
            "  try: optim.decay_tokens = a fifth of run.tokens\n");
  EXPECT_EQ(error_of([](auto& c) {
              c.lr_schedule = "wsd", c.warmup_steps = 600, c.decay_tokens = 50'000;
            }),
            "sluice: error: the warm-up and the decay are longer than the run\n"
            "  where: optim.decay_tokens\n"
            "  expected: at most 100000 tokens together\n"
            "  found: 60000 tokens and 50000 tokens\n");
  EXPECT_NE(error_of([](auto& c) { c.lr_schedule = "wsd", c.decay_steps = 1001; }), "no error");
  EXPECT_NE(error_of([](auto& c) { c.warmup_steps = -1; }), "no error");
  EXPECT_NE(error_of([](auto& c) { c.decay_tokens = -1; }), "no error");
  EXPECT_NE(error_of([](auto& c) { c.decay_steps = std::int64_t{1} << 51; }), "no error");
  EXPECT_EQ(error_of([](auto& c) {
              c.lr_schedule = "wsd", c.warmup_steps = 500, c.decay_tokens = 50'000;
            }),
            "no error");
  EXPECT_EQ(error_of([](auto& c) { c.decay_steps = 5000; }), "no error") << "may outlast the run";
}

}  // namespace
}  // namespace sluice
