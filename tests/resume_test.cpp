// Same key, same bits, with the built binary: whatever stops a run, and however it is resumed, it
// ends with the digest of an undisturbed one.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "support/undisturbed.h"

namespace sluice {
namespace {

using namespace testing_support;

TEST(Resume, AtFivePointsEndsInTheSameDigest) {
  expect_resumes_at(TinyRun(), {1, 4, 6, 9, 11}, 12);
}
TEST(TiledSlow, ResumedAtFivePointsEndsInTheSameDigest) {
  expect_resumes_at(TinyRun("tiled"), {1, 2, 4, 5, 7}, 8);
}

TEST(Resume, WhatIsFreeChangesNoBits) {
  expect_free_options_change_no_bits(TinyRun(), "--run.tokens=1664");
}
TEST(TiledSlow, WhatIsFreeChangesNoBits) {
  expect_free_options_change_no_bits(TinyRun("tiled"), "--run.tokens=18504");
}

TEST(Resume, AChangedNumericsOptionIsRefusedUnlessNamed) {
  const TinyRun tiny;
  tiny.train("run", "--run.tokens=768");
  const std::string before = tiny.digest("run");
  const auto files = contents_of(tiny.path("run"));
  const Ended refused = tiny.train("run", "--optim.lr=1e-3", 2);
  EXPECT_NE(refused.err.find("optim.lr"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("run.tokens"), std::string::npos) << refused.err;
  tiny.train("run", "--optim.lr=1e-3 --change optim.lr", 2);  // both, or neither
  EXPECT_EQ(contents_of(tiny.path("run")), files);

  tiny.train("run", "--optim.lr=1e-3 --change optim.lr,run.tokens");
  EXPECT_EQ(tiny.steps("run"), steps_to(12));
  EXPECT_NE(tiny.digest("run"), before);
  const auto manifest =
      nlohmann::json::parse(read_text(tiny.path("run/checkpoints/step-00000012/manifest.json")));
  const std::string text = manifest.dump();
  EXPECT_NE(text.find(R"("key":"optim.lr")"), std::string::npos) << text;
  EXPECT_NE(text.find(R"("was":"0.003")"), std::string::npos) << text;
  EXPECT_NE(text.find(R"("now":"0.001")"), std::string::npos) << text;
  tiny.train("run", "--optim.lr=1e-3");  // from here on that is the run's key
}

// A run that another device began: here it is one of this CPU whose key is said to be of another.
TEST(Resume, OnAnotherDeviceNeedsNoChangeAndSaysSo) {
  const TinyRun tiny;
  tiny.train("whole");
  tiny.train("run", "--fault train.step:kill@8", 137);
  const std::string key = read_text(tiny.path("run/key.txt"));
  ASSERT_EQ(tiny.run("sed -i -e 's/^backend = .*/backend = \"cuda\"/' "
                     "-e 's/^run.isa = .*/run.isa = \"NVIDIA H200\"/' run/key.txt")
                .exit,
            0);
  ASSERT_NE(read_text(tiny.path("run/key.txt")), key);
  const Ended refused = tiny.train("run", "--optim.lr=1e-3", 2);  // the rest is refused as ever
  EXPECT_NE(refused.err.find("found: optim.lr 0.003 → 0.001\n  try"), std::string::npos)
      << refused.err;
  const Ended resumed = tiny.train("run");
  EXPECT_NE(resumed.err.find("goes on on another device: \"cpu\""), std::string::npos)
      << resumed.err;
  EXPECT_NE(resumed.err.find("until now \"cuda\" \"NVIDIA H200\""), std::string::npos);
  EXPECT_EQ(read_text(tiny.path("run/key.txt")), key);
  EXPECT_EQ(tiny.digest("run"), tiny.digest("whole"));  // the weights at the switch were equal
  const Ended again = tiny.train("run");
  EXPECT_EQ(again.err.find("another device"), std::string::npos) << again.err;
}

TEST(Resume, RowsPastTheResumedStepMoveAside) {
  const TinyRun tiny;
  tiny.train("run", "--fault train.step:kill@12", 137);  // rows up to 10 or 11, saved at 9
  tiny.train("run");
  EXPECT_EQ(tiny.steps("run"), steps_to(12));
  const std::vector<std::int64_t> old = tiny.steps("run", "metrics.jsonl.old");
  ASSERT_FALSE(old.empty());
  EXPECT_EQ(old.front(), 10);
}

TEST(Resume, FallsBackToTheNewestCheckpointThatVerifies) {
  const TinyRun tiny;
  tiny.train("whole");
  tiny.train("run", "--fault train.step:kill@12", 137);
  ASSERT_EQ(tiny.run("flip run/checkpoints/step-00000009/optimizer.safetensors").exit, 0);
  const Ended resumed = tiny.train("run");
  EXPECT_NE(resumed.err.find("skipped"), std::string::npos) << resumed.err;
  EXPECT_NE(resumed.err.find("at step 6"), std::string::npos) << resumed.err;
  EXPECT_EQ(tiny.digest("run"), tiny.digest("whole"));
}

TEST(Resume, AFullDiskCostsOneSaveOnly) {
  const TinyRun tiny;
  tiny.train("whole");
  const Ended ended = tiny.train("run", "--fault save.fsync:enospc@1");
  EXPECT_NE(ended.err.find("training goes on"), std::string::npos) << ended.err;
  expect_whole(tiny, "run", "whole");
}

// Starts a run and sends it `number` once its log has `rows` rows.
int signalled(const TinyRun& tiny, const std::string& out, const std::string& options, int number,
              std::size_t rows) {
  Process process(tiny.train_command(out, options), tiny.path());
  const auto lines = [&] {
    const std::string text = read_text(tiny.path(out) / "metrics.jsonl");
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  };
  while (lines() < rows && process.running())
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  process.signal(number);
  return process.wait().exit;
}

TEST(RunSlow, SignalsSaveAndAskToBeRunAgain) {
  const TinyRun tiny;
  const std::string longer = "--run.tokens=32000 --run.validate_every=0 --run.save_every=0";
  tiny.train("whole", longer);
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) {
    const std::string out = "signal-" + std::to_string(number);
    EXPECT_EQ(signalled(tiny, out, longer, number, 3), 75) << out;
    ASSERT_EQ(tiny.checkpoints(out).size(), 1u) << out;
    EXPECT_LT(tiny.steps(out).size(), 250u) << out;
    tiny.train(out, longer);
    EXPECT_EQ(tiny.digest(out), tiny.digest("whole")) << out;
    EXPECT_EQ(tiny.steps(out), steps_to(250)) << out;
  }
}

// Twelve inside a save, eight whenever the clock says.
TEST(TiledSlow, TwentyKillsEndInTheSameDigest) {
  expect_survives_kills(TinyRun("tiled"), 20260, 12, 8);
}

}  // namespace
}  // namespace sluice
