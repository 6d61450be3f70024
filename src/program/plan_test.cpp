#include "program/plan.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(Plan, auto_is_a_function_of_the_batch) {
  struct Row {
    std::int64_t sequences, sequence, micro_batch;
  };
  for (const auto& [sequences, sequence, micro_batch] :
       {Row{512, 1024, 2}, Row{512, 2048, 1}, Row{512, 4096, 1}, Row{8, 257, 4}, Row{7, 256, 7},
        Row{6, 409, 3}, Row{11, 256, 1}, Row{1, 1, 1}, Row{4096, 1, 2048}}) {
    const Plan plan = resolve({}, {sequences}, sequence);
    EXPECT_EQ(plan.micro_batch, micro_batch) << sequences << " x " << sequence;
    EXPECT_EQ(plan.micro_batch * plan.micro_batches, sequences);
    EXPECT_EQ(plan.head_chunk, 4096);
    EXPECT_EQ(plan.recompute, Recompute::none);
  }
}

TEST(Plan, what_is_given_stays) {
  const Plan plan = resolve({.micro_batch = 4, .head_chunk = 64, .recompute = "block"}, {8}, 257);
  EXPECT_EQ(plan.micro_batch, 4);
  EXPECT_EQ(plan.micro_batches, 2);
  EXPECT_EQ(plan.head_chunk, 64);
  EXPECT_EQ(plan.recompute, Recompute::block);
  EXPECT_FALSE(plan.spill_stash);
  EXPECT_TRUE(resolve({.stash = "spilled"}, {8}, 257).spill_stash);
}

TEST(Plan, a_ramp_keeps_the_micro_batch) {
  const Plan plan = resolve({}, {6, 9, 24}, 512);  // 4 sequences would be 2048 tokens
  EXPECT_EQ(plan.micro_batch, 3);
  EXPECT_EQ(plan.micro_batches, 2);
  EXPECT_EQ(plan.later_micro_batches, (std::vector<std::int64_t>{3, 8}));
  EXPECT_TRUE(resolve({}, {6}, 512).later_micro_batches.empty());
}

std::string error_of(const PlanConfig& config, std::vector<std::int64_t> sequences) {
  try {
    resolve(config, sequences, 128);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    return e.text();
  }
  return "no error";
}

TEST(Plan, a_micro_batch_divides_the_step) {
  EXPECT_EQ(error_of({.micro_batch = 4}, {12, 18}),
            "sluice: error: a step of 18 sequences does not divide into micro-batches of 4\n"
            "  where: plan.micro_batch\n"
            "  expected: a divisor of 6\n"
            "  found: 4\n"
            "  try: plan.micro_batch = 3\n");
  EXPECT_EQ(error_of({.micro_batch = 5}, {12}),
            "sluice: error: a step of 12 sequences does not divide into micro-batches of 5\n"
            "  where: plan.micro_batch\n"
            "  expected: a divisor of 12\n"
            "  found: 5\n"
            "  try: plan.micro_batch = 4\n");
  EXPECT_NE(error_of({.micro_batch = 1000}, {12}).find("  try: plan.micro_batch = 12\n"),
            std::string::npos);
  EXPECT_NE(error_of({.micro_batch = 9}, {13}).find("  try: plan.micro_batch = 13\n"),
            std::string::npos);
  EXPECT_EQ(error_of({.micro_batch = 6}, {12}), "no error");
}

TEST(Plan, layer_major_has_passes) {
  EXPECT_EQ(resolve({}, {6}, 128).passes, 0);
  EXPECT_EQ(resolve({.schedule = "layer-major"}, {6}, 128).passes, 1);
  EXPECT_EQ(resolve({.schedule = "layer-major", .passes = 3}, {6}, 128).passes, 3);
  EXPECT_EQ(error_of({.passes = 3}, {12}),
            "sluice: error: micro-batch-major makes one pass for every micro-batch\n"
            "  where: plan.passes\n"
            "  expected: \"auto\", or another schedule\n"
            "  found: 3\n"
            "  try: plan.schedule = \"layer-major\"\n"
            "  try: plan.passes = \"auto\"\n");
}

TEST(Plan, numbers_are_not_negative) {
  EXPECT_EQ(error_of({.head_chunk = -1}, {12}),
            "sluice: error: plan.head_chunk cannot be negative\n"
            "  where: plan.head_chunk\n"
            "  expected: an integer from 1 up or \"auto\"\n"
            "  found: -1\n"
            "  try: plan.head_chunk = \"auto\"\n");
  EXPECT_NE(error_of({.micro_batch = -2}, {12}), "no error");
}

TEST(Plan, what_changes_the_order_of_sums_is_numerics) {
  PlanConfig config;
  OptionTable table;
  describe(table, config);
  EXPECT_EQ(table.numerics_text(),
            "plan.attention = \"auto\"\n"
            "plan.gradients = \"auto\"\n"
            "plan.head_chunk = \"auto\"\n"
            "plan.micro_batch = \"auto\"\n"
            "plan.precision = \"auto\"\n"
            "plan.state = \"auto\"\n");
}

}  // namespace
}  // namespace sluice
