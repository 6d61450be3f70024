// Same key, same bits, with the built binary: whatever stops a run, and however it is resumed, it
// ends with the digest of an undisturbed one.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <set>
#include <thread>

#include "tiny_run.h"

namespace sluice {
namespace {

using Seconds = std::chrono::duration<double>;

// After a run's end nothing is left of what disturbed it: the files of an undisturbed run, and what
// resuming put aside.
std::set<std::string> files_of(const TinyRun& tiny, const std::string& out) {
  std::set<std::string> names;
  for (const auto& [name, hash] : contents_of(tiny.path(out)))
    if (!name.ends_with(".old")) names.insert(name);
  return names;
}

void expect_whole(const TinyRun& tiny, const std::string& out, const std::string& undisturbed) {
  EXPECT_EQ(tiny.digest(out), tiny.digest(undisturbed)) << out;
  EXPECT_EQ(tiny.steps(out), tiny.steps(undisturbed)) << out;
  EXPECT_EQ(files_of(tiny, out), files_of(tiny, undisturbed)) << out;
}

void expect_resumes_at(const TinyRun& tiny, std::initializer_list<int> points, int steps) {
  tiny.train("whole");
  for (const int step : points) {
    const std::string out = "cut-" + std::to_string(step);
    tiny.train(out, "--run.save_every=1 --fault train.step:kill@" + std::to_string(step + 1), 137);
    const Ended resumed = tiny.train(out);
    EXPECT_NE(resumed.err.find("at step " + std::to_string(step)), std::string::npos)
        << resumed.err;
    EXPECT_EQ(tiny.digest(out), tiny.digest("whole"));
    EXPECT_EQ(tiny.steps(out), steps_to(steps));
  }
}

TEST(Resume, AtFivePointsEndsInTheSameDigest) {
  expect_resumes_at(TinyRun(), {1, 4, 6, 9, 11}, 12);
}
TEST(TiledSlow, ResumedAtFivePointsEndsInTheSameDigest) {
  expect_resumes_at(TinyRun("tiled"), {1, 2, 4, 5, 7}, 8);
}

void expect_free_options_change_no_bits(const TinyRun& tiny, const std::string& longer) {
  tiny.train("whole");
  const std::string digest = tiny.digest("whole");
  for (const char* options :
       {"--run.save_every=5", "--run.save_every=0 --run.validate_every=0", "--run.threads=2",
        "--run.threads=3", "--plan.recompute=block", "--plan.recompute=selective",
        "--run.poison=true", "--run.log_hashes=true", "--run.keep_last=1",
        "--run.sample_every=2 --run.sample_prompt=Gate"}) {
    tiny.train("other", options);
    EXPECT_EQ(tiny.digest("other"), digest) << options;
    std::filesystem::remove_all(tiny.path("other"));
  }
  ASSERT_EQ(tiny.run("mkdir far; for f in corpus*; do mv $f far/moved${f#corpus}; done").exit, 0);
  tiny.train("deep/in/folders",
             "--data.train=far/moved --data.validation=far/moved-val --run.name=another");
  EXPECT_EQ(tiny.digest("deep/in/folders"), digest);

  // And what is not free does.
  for (const char* options : {"--run.seed=1", "--optim.lr=2.9e-3", longer.c_str()}) {
    tiny.train("other", std::string("--data.train=far/moved --data.validation= ") + options);
    EXPECT_NE(tiny.digest("other"), digest) << options;
    std::filesystem::remove_all(tiny.path("other"));
  }
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
  Process process("instead train tiny.toml --out " + out + " " + options, tiny.path());
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

struct Kill {
  std::string point;
  int visits;  // in one run of four saves: every count up to it is reached
};

// Twelve inside a save, eight whenever the clock says.
TEST(TiledSlow, TwentyKillsEndInTheSameDigest) {
  constexpr unsigned seed = 20260;
  std::mt19937 random(seed);
  const TinyRun tiny("tiled");
  const auto begin = std::chrono::steady_clock::now();
  tiny.train("whole");
  const double whole = Seconds(std::chrono::steady_clock::now() - begin).count();

  const Kill points[] = {{"save.mkdir", 4},  {"save.open", 20},  {"save.write", 20},
                         {"save.fsync", 24}, {"save.close", 20}, {"save.rename", 5}};
  for (int kill = 0; kill < 12; ++kill) {
    const Kill& point = points[kill % 6];
    const int count = 1 + static_cast<int>(random() % static_cast<unsigned>(point.visits));
    const std::string out = "kill-" + std::to_string(kill);
    const std::string fault = point.point + ":kill@" + std::to_string(count);
    SCOPED_TRACE(out + " seed " + std::to_string(seed) + " " + fault);
    std::printf("kill %d: seed %u, %s\n", kill, seed, fault.c_str());
    tiny.train(out, "--fault " + fault, 137);
    tiny.train(out);
    expect_whole(tiny, out, "whole");
    std::filesystem::remove_all(tiny.path(out));
  }
  for (int kill = 12, tries = 0; kill < 20 && tries < 100; ++tries) {
    const double after = whole * static_cast<double>(random() % 1000) / 1000;
    const std::string out = "kill-" + std::to_string(kill);
    SCOPED_TRACE(out + " seed " + std::to_string(seed) + " after " + std::to_string(after) + " s");
    Process process("instead train tiny.toml --out " + out, tiny.path());
    std::this_thread::sleep_for(Seconds(after));
    process.signal(SIGKILL);
    const bool killed = process.wait().exit == 137;
    tiny.train(out);
    expect_whole(tiny, out, "whole");
    std::filesystem::remove_all(tiny.path(out));
    if (!killed) continue;  // it was quicker than the clock: another one
    std::printf("kill %d: seed %u, after %.3f s\n", kill, seed, after);
    ++kill;
  }
}

}  // namespace
}  // namespace sluice
