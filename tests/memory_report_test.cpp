// The planner's bytes on whole models, and what it says of plans that do not fit.
#include "planner/memory_report.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "tiny_models.h"

namespace sluice {
namespace {

using testing::tiny_programs;
using testing::TinyPlan;

TEST(MemoryReport, regions_add_up) {
  const ProgramSet set =
      tiny_programs({.family = "gpt2", .sample_rows = 2, .homes = "optimizer=host"});
  const std::int64_t process = process_bytes(process_shape(set, 2, 4 << 20));
  const MemoryBytes bytes = memory_bytes(set, process);
  EXPECT_EQ(bytes.total, set.memory.total() + set.memory.host_bytes() + process);
  const nlohmann::json json = to_json(bytes);
  std::int64_t sum = 0;
  for (const auto& [key, value] : json.items())
    if (key != "total") {
      EXPECT_GT(value.get<std::int64_t>(), 0) << key;
      sum += value.get<std::int64_t>();
    }
  EXPECT_EQ(json.size(), 13u);
  EXPECT_GE(bytes.total, sum);
  EXPECT_LT(bytes.total - sum, 10 * blob_alignment);  // padding between regions
  // Two moments a weight, but for what fills up pages.
  const MemoryBytes resident = memory_bytes(tiny_programs({}), process);
  EXPECT_EQ(resident.host, 0);
  EXPECT_NEAR(static_cast<double>(resident.optimizer) / static_cast<double>(resident.weights), 2,
              0.2);
  EXPECT_NE(to_text(bytes).find("weights "), std::string::npos);
}

TEST(MemoryReport, the_process_follows_its_formula) {
  const ProcessShape shape{
      .threads = 3, .worker_scratch = 1000, .micro_batches = 5, .batch_bytes = 5000, .actions = 10};
  EXPECT_EQ(process_bytes(shape), program_bytes + reader_bytes + 10 * action_bytes +
                                      3 * (1000 + stack_bytes) + 2 * 5 * 8192);
}

TEST(MemoryReport, bytes_for_a_person) {
  EXPECT_EQ(human_bytes(std::int64_t{1023}), "1023 bytes");
  EXPECT_EQ(human_bytes(std::int64_t{1536}), "1.5 KiB");
  EXPECT_EQ(human_bytes(std::int64_t{5} << 30), "5.0 GiB");
}

std::int64_t arena_of(Recompute level, bool samples) {
  return tiny_programs({.recompute = level, .sample_rows = samples ? 2 : 0}).memory.total();
}

TEST(MemoryReport, what_does_not_fit_is_refused_with_changes_that_were_planned) {
  int planned = 0;
  const auto total_of = [&](const PlanChange& change) {
    ++planned;
    Recompute level = Recompute::none;
    bool samples = true;
    for (const auto& [key, value] : change.settings) {
      if (key == "plan.micro_batch" || key == "batch.sequence") throw Error("not in this test");
      if (key == "run.sample_every") samples = false;
      if (key == "plan.recompute")
        level = value == "\"block\"" ? Recompute::block : Recompute::selective;
    }
    return arena_of(level, samples);
  };
  const auto candidates =
      candidate_changes({.recompute = "none", .micro_batch = 2, .sequence = 128, .samples = true});
  const std::int64_t available = arena_of(Recompute::block, true);
  MemoryBytes bytes;
  bytes.total = arena_of(Recompute::none, true);
  ASSERT_GT(bytes.total, available);
  std::string text;
  try {
    require_fits(bytes, available,
                 [&] { return changes_that_fit(candidates, available, total_of); });
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::memory);
    text = e.text();
  }
  EXPECT_NE(text.find("  try: plan.recompute = \"block\"\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("selective"), std::string::npos) << text;
  EXPECT_GE(planned, 3);
  EXPECT_NO_THROW(require_fits(bytes, bytes.total, [] { return std::vector<PlanChange>{}; }));
}

TEST(MemoryReport, at_most_three_changes_and_those_of_the_key_say_so) {
  const auto candidates =
      candidate_changes({.recompute = "block", .micro_batch = 4, .sequence = 128});
  ASSERT_FALSE(candidates.empty());
  for (const PlanChange& change : candidates)
    EXPECT_NE(change.text().find("another numerics key"), std::string::npos) << change.text();
  EXPECT_EQ(candidates.front().text(), "plan.micro_batch = 2 (another numerics key: another run)");
  const auto fit = changes_that_fit(candidates, 10, [](const PlanChange&) { return 10; });
  EXPECT_EQ(fit.size(), std::min<std::size_t>(3, candidates.size()));
}

// 96 layers of width 12,288 and 1,472 micro-batches: lists only, no memory of the model.
TEST(MemoryReport, a_model_of_175b_is_planned_in_seconds) {
  ModelConfig model;
  model.layers = 96;
  model.width = 12288;
  model.heads = 96;
  model.context = 2048;
  TrainingOptions options;
  options.shape = {1, 2048};
  options.build.micro_batches = 1472;
  const auto begin = std::chrono::steady_clock::now();
  const ProgramSet set = assemble_training(model, {}, standard_parametrization(), options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const MemoryBytes bytes = memory_bytes(set, process_bytes(process_shape(set, 1, 0)));
  RecordProperty("seconds", fmt::format("{:.2f}", seconds.count()));
  EXPECT_LT(seconds.count(), 10);
  EXPECT_GT(bytes.total, std::int64_t{175} * 16 * 1'000'000'000);
  EXPECT_EQ(set.named("steady").actions.size(), 1472u * (1 + 98 * 3 - 1) + 98 + 98 + 1);
}

}  // namespace
}  // namespace sluice
