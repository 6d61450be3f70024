// A run whose batch grows on the way, with the built binary: stopped and resumed on either side of
// the boundary it ends in the same bits, and its steps, samples and rates are those of its tokens.
#include <cmath>

#include "program/validate.h"
#include "tiny_models.h"
#include "tiny_run.h"

namespace sluice {
namespace {

// tests/tiny.sh's config with 4 steps of 2 sequences (the last one past 450 tokens), 3 of 4, 2
// of 6.
constexpr const char* ramp = " --batch.ramp=450:256,1200:384 --run.tokens=2100 --run.save_every=1";
constexpr int steps = 4 + 3 + 2;

TEST(BatchRamp, ResumedOnEitherSideOfABoundaryEndsInTheSameDigest) {
  const TinyRun tiny;
  tiny.train("whole", ramp);
  ASSERT_EQ(tiny.steps("whole"), steps_to(steps));
  for (const int step : {1, 3, 4, 5, 7}) {
    const std::string out = "cut-" + std::to_string(step);
    tiny.train(out, std::string(ramp) + " --fault train.step:kill@" + std::to_string(step + 1),
               137);
    tiny.train(out, ramp);
    EXPECT_EQ(tiny.digest(out), tiny.digest("whole")) << step;
    EXPECT_EQ(tiny.steps(out), steps_to(steps));
  }
  // Another boundary is other bits, and another run.
  const char* later = " --batch.ramp=600:256,1200:384 --run.tokens=2100 --run.save_every=1";
  tiny.train("later", later);
  EXPECT_NE(tiny.digest("later"), tiny.digest("whole"));
  EXPECT_NE(tiny.train("whole", later, 2).err.find("batch.ramp"), std::string::npos);
}

TEST(BatchRamp, RecordsAndChangesOfPlanFollowTheTokens) {
  const TinyRun tiny;
  tiny.train("run", std::string(ramp) + " --run.keep_last=9");
  const std::int64_t tokens[] = {128, 256, 384, 512, 768, 1024, 1280, 1664, 2048};
  std::size_t at = 0;
  for (const nlohmann::json& row : tiny.rows("run")) {
    if (!row.contains("loss")) continue;
    ASSERT_LT(at, std::size(tokens));
    EXPECT_EQ(row["tokens"], tokens[at++]);
  }
  EXPECT_EQ(at, std::size(tokens));
  const auto manifest =
      nlohmann::json::parse(read_text(tiny.path("run/checkpoints/step-00000008/manifest.json")));
  EXPECT_EQ(manifest["run"]["tokens"], 1664);
  EXPECT_EQ(manifest["run"]["cursor"], 1664 / 64);
  for (const char* options : {" --run.threads=3", " --plan.recompute=block", " --run.poison=true",
                              " --run.validate_every=1", " --run.log_hashes=true"}) {
    tiny.train("other", std::string(ramp) + options);
    EXPECT_EQ(tiny.digest("other"), tiny.digest("run")) << options;
    std::filesystem::remove_all(tiny.path("other"));
  }
}

// Hashes are there for steps of every size.
TEST(BatchRamp, HashesCoverEveryStretch) {
  const TinyRun tiny;
  tiny.train("run", std::string(ramp) + " --run.log_hashes=true");
  std::vector<int> gradients(steps + 1);
  for (const nlohmann::json& row : tiny.rows("run", "hashes.jsonl"))
    if (row["phase"] == "gradient") ++gradients[row["step"].get<std::size_t>()];
  for (int step = 1; step <= steps; ++step)
    EXPECT_EQ(gradients[static_cast<std::size_t>(step)], gradients[1]) << step;
  EXPECT_GT(gradients[1], 0);
}

// The same samples in the same order, whatever the sizes: a rate of 0 leaves the loss of the first
// six sequences what it is, so a step of all of them says the mean of three steps of two.
TEST(BatchRamp, LeavesNoSampleOut) {
  const TinyRun tiny;
  const std::string still =
      " --optim.lr=0 --optim.lr_end=0 --run.validate_every=0 --run.save_every=0";
  const auto losses = [&](const std::string& out, const std::string& options) {
    tiny.train(out, still + options);
    std::vector<double> found;
    for (const nlohmann::json& row : tiny.rows(out))
      if (row.contains("loss")) found.push_back(row["loss"]);
    return found;
  };
  const std::vector<double> small = losses("small", " --run.tokens=1152");
  const std::vector<double> grown = losses("grown", " --batch.ramp=256:384 --run.tokens=1024");
  ASSERT_EQ(small.size(), 9u);
  ASSERT_EQ(grown.size(), 4u);
  for (const std::size_t step : {0, 1}) EXPECT_EQ(grown[step], small[step]);
  EXPECT_NEAR(grown[2], (small[2] + small[3] + small[4]) / 3, 1e-6);
  EXPECT_NEAR(grown[3], (small[5] + small[6] + small[7]) / 3, 1e-6);
  EXPECT_GT(std::abs(grown[3] - (small[6] + small[7] + small[8]) / 3), 1e-6);
}

TEST(BatchRamp, ProgramsOfEverySizeFollowEachOther) {
  TrainingOptions options;
  options.shape = {2, 16};
  options.head_chunk = 8;
  options.build.micro_batches = 1;
  options.build.later_micro_batches = {3, 2};
  const ProgramSet set =
      assemble_training(testing::tiny_model("gpt2"), {}, standard_parametrization(), options);
  EXPECT_NO_THROW(validate(set));
  EXPECT_EQ(set.named("steady").micro_batches, 1);
  EXPECT_EQ(set.named("first-1").micro_batches, 3);
  EXPECT_EQ(set.named("steady-2").micro_batches, 2);
  options.build.later_micro_batches.clear();
  const ProgramSet plain =
      assemble_training(testing::tiny_model("gpt2"), {}, standard_parametrization(), options);
  EXPECT_EQ(set.memory.total(), plain.memory.total()) << "one memory map for all";
  EXPECT_EQ(set.programs.size(), plain.programs.size() + 4);
}

}  // namespace
}  // namespace sluice
