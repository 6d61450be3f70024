#include "train/disk_use.h"

#include <gtest/gtest.h>

#include "backend/disk/disk_space.h"
#include "core/test_folder.h"
#include "train/assembly.h"
#include "train/fit.h"

namespace sluice {
namespace {

Config run_of(std::int64_t steps, std::int64_t every, std::int64_t keep) {
  Config config = parse_config("batch = { tokens = 1024, sequence = 1024 }\n", "a.toml");
  config.run.tokens = 1024 * steps;
  config.run.save_every = every;
  config.run.keep_last = keep;
  return config;
}

TEST(DiskUse, CountsTheSavesThatAreLeft) {
  for (const std::int64_t steps : {1, 5, 12})
    for (const std::int64_t every : {0, 1, 3, 4, 20})
      for (std::int64_t from = 0; from <= steps; ++from) {
        std::int64_t saves = 0;
        for (std::int64_t step = from + 1; step <= steps; ++step)
          saves += step == steps || (every > 0 && step % every == 0) ? 1 : 0;
        EXPECT_EQ(saves_after(run_of(steps, every, 3), from), saves)
            << steps << " " << every << " " << from;
      }
}

// Every validation may be the best so far.
TEST(DiskUse, CountsTheBestOnesAndThoseForGood) {
  for (const std::int64_t every : {0, 2, 3, 4})
    for (const std::int64_t validate : {1, 2, 3, 6}) {
      Config config = run_of(12, every, 3);
      config.run.validate_every = validate;
      config.run.keep_best = true;
      for (std::int64_t from = 0; from <= 12; ++from) {
        std::int64_t saves = 0;
        for (std::int64_t step = from + 1; step <= 12; ++step)
          saves += step == 12 || (every > 0 && step % every == 0) || step % validate == 0 ? 1 : 0;
        EXPECT_EQ(saves_after(config, from), saves) << every << " " << validate << " " << from;
      }
    }
  Config config = run_of(100, 5, 3);
  EXPECT_EQ(kept_checkpoints(config), 3);
  config.run.keep_every = 20;
  EXPECT_EQ(kept_checkpoints(config), 8);
  config.run.keep_best = true;
  EXPECT_EQ(kept_checkpoints(config), 9);
}

TEST(DiskUse, ALongRunWritesMoreThan64BitsCount) {
  constexpr const char* text = R"(
model = { family = "gpt2", layers = 2, width = 32, heads = 2, context = 32, vocab = 64 }
batch = { tokens = 64, sequence = 32 }
plan = { homes = "disk" })";
  Config config = parse_config(text, "a.toml");
  const Plan plan = placed(config, plan_of(config), 1);
  const ProgramSet programs = assemble_training(config, plan, 1);
  config.run.tokens = std::int64_t{64} << 52;
  const DiskUse use = disk_use(config, programs);
  EXPECT_GT(use.written_per_step, 1 << 16);
  EXPECT_GE(use.written,
            static_cast<double>(std::int64_t{1} << 52) * static_cast<double>(use.written_per_step));
}

// Whether a run that goes on is let, with room for so many checkpoints and a half.
bool is_let(const Config& config, std::int64_t room, const RunSoFar& run) {
  DiskUse use;
  use.checkpoint = 2 * (free_disk_bytes(run.folder) / (2 * room + 1));
  try {
    require_disk(config, use, run.folder, run);
    return true;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::disk);
    EXPECT_GE(e.report().tries.size(), 1U);
    return false;
  }
}

TEST(DiskUse, ARunNeedsRoomForWhatItStillSaves) {
  const TestFolder folder;
  const std::string at = folder.path().string();
  // Four are kept while the fourth is written; a run that saves two needs two.
  EXPECT_TRUE(is_let(run_of(12, 3, 3), 4, {at, 0, 0}));
  EXPECT_FALSE(is_let(run_of(12, 3, 3), 3, {at, 0, 0}));
  EXPECT_TRUE(is_let(run_of(12, 6, 3), 2, {at, 0, 0}));
  EXPECT_FALSE(is_let(run_of(12, 6, 3), 1, {at, 0, 0}));
  EXPECT_TRUE(is_let(run_of(2, 500, 3), 1, {at, 0, 0}));
  // One save is left, whatever was removed meanwhile; three are there, and a fourth comes.
  EXPECT_TRUE(is_let(run_of(12, 3, 3), 1, {at, 9, 1}));
  EXPECT_TRUE(is_let(run_of(30, 3, 3), 1, {at, 9, 3}));
  EXPECT_FALSE(is_let(run_of(30, 3, 3), 1, {at, 9, 2}));
}

}  // namespace
}  // namespace sluice
