// Blobs at home on disk, with the binary: a budget of host memory sends them there, and neither
// that nor what stops the run changes a bit; nothing of the scratch file stays.
#include <fmt/format.h>

#include "support/undisturbed.h"
#include "train/assembly.h"
#include "train/fit.h"

namespace sluice {
namespace {

using namespace testing_support;

const char* const eight_blocks =
    "--model.layers=8 --batch.tokens=384 --run.tokens=3840 --plan.precision=bf16 "
    "--plan.state=exact --optim.ema=0.9 --run.poison=true";
const char* const on_disk = "--plan.homes=disk --plan.slots=2";

nlohmann::json plan_with(const TinyRun& tiny, const std::string& options) {
  const Ended ended =
      tiny.run(std::string("sluice plan tiny.toml --json ") + eight_blocks + " " + options);
  EXPECT_EQ(ended.exit, 0) << ended.err;
  return nlohmann::json::parse(ended.out);
}

std::int64_t bytes_of(const nlohmann::json& json, const char* key) {
  return json.at(key).get<std::int64_t>();
}

TEST(StreamingDiskSlow, BudgetsOfHostMemoryChangeNoBits) {
  const TinyRun tiny;
  tiny.train("whole", eight_blocks);
  const nlohmann::json all_host = plan_with(tiny, "").at("least");
  EXPECT_EQ(bytes_of(all_host, "disk"), 0);
  const std::string device = fmt::format("--plan.device_memory={}", bytes_of(all_host, "device"));
  // The least of the host: everything that streams is on disk but what passes through.
  const nlohmann::json all_disk = plan_with(tiny, device + " --plan.homes=disk,@ends=host");
  const std::int64_t least = bytes_of(all_disk.at("memory"), "host");
  const std::int64_t most = bytes_of(all_host, "host");
  ASSERT_LT(least, most);
  for (const std::int64_t budget : {most - 1, (most + least) / 2, least}) {
    const std::string options = fmt::format("{} --plan.host_memory={}", device, budget);
    const nlohmann::json plan = plan_with(tiny, options);
    EXPECT_LE(bytes_of(plan.at("memory"), "host"), budget);
    EXPECT_GT(bytes_of(plan.at("disk"), "scratch"), 0);
    EXPECT_GT(bytes_of(plan.at("disk"), "written_per_step"), 0);
    EXPECT_EQ(bytes_of(plan, "device"), bytes_of(plan.at("least"), "device"));
    EXPECT_EQ(bytes_of(plan.at("memory"), "host"), bytes_of(plan.at("least"), "host"));
    EXPECT_EQ(bytes_of(plan.at("disk"), "scratch"), bytes_of(plan.at("least"), "disk"));
    tiny.train("run", std::string(eight_blocks) + " " + options);
    EXPECT_EQ(tiny.digest("run"), tiny.digest("whole")) << plan.dump();
    EXPECT_EQ(tiny.tensors("run"), tiny.tensors("whole")) << plan.dump();
    std::filesystem::remove_all(tiny.path("run"));
  }
  const auto refused = [&](const std::string& options, int code, std::int64_t needed) {
    const Ended ended = tiny.train("run", std::string(eight_blocks) + " " + options, code);
    EXPECT_NE(ended.err.find(fmt::format("at least {} bytes", needed)), std::string::npos)
        << ended.err;
    EXPECT_FALSE(std::filesystem::exists(tiny.path("run")));
  };
  refused(fmt::format("{} --plan.host_memory={}", device, least - 1), 4, least);
  refused(fmt::format("--plan.host_memory={} --plan.device_memory={}", least,
                      bytes_of(all_host, "device") - 1),
          4, bytes_of(all_host, "device"));
  const std::int64_t scratch = bytes_of(all_disk.at("disk"), "scratch");
  refused(fmt::format("{} --plan.homes=disk,@ends=host --plan.disk_memory={}", device, scratch - 1),
          6, scratch);
}

// What fits only with its blobs on disk is refused with budgets that would do.
TEST(StreamingDisk, ARefusalNamesBudgetsThatFit) {
  Config config = load_config("gpt2-124m");
  const auto total = [&] {
    const Plan plan = placed(config, plan_of(config), 2);
    return memory_of(assemble_training(config, plan, 2), 2).total;
  };
  const std::int64_t available = std::int64_t{2500} << 20;
  ASSERT_GT(total(), available);
  const std::vector<PlanChange> changes = changes_that_fit(config, 2, available);
  EXPECT_EQ(changes.size(), 3U);
  const auto budgets = std::find_if(changes.begin(), changes.end(), [](const PlanChange& one) {
    return !one.settings.empty() && one.settings.front().key == "plan.device_memory";
  });
  ASSERT_NE(budgets, changes.end());
  EXPECT_FALSE(budgets->changes_key) << budgets->text();
  for (const PlanChange::Setting& setting : budgets->settings) {
    const std::string text = fmt::format("{}={}", setting.key, setting.value);
    apply_overrides(config, {&text, 1});
  }
  EXPECT_LE(total(), available);
  EXPECT_NE(placed(config, plan_of(config), 2).homes.find("disk"), std::string::npos);
  // No option makes a model of 175 billion parameters fit; smaller ones do.
  for (const PlanChange& one : changes_that_fit(load_config("gigagpt-175b"), 2, available)) {
    EXPECT_TRUE(one.settings.empty()) << one.text();
    EXPECT_NE(one.text().find("a smaller model"), std::string::npos);
  }
  EXPECT_TRUE(changes_that_fit(load_config("gigagpt-175b"), 2, 1 << 20).empty());
}

// The resident set of a run that begins, and of one that resumes: loading and saving see blobs
// through staging slots that are planned.
TEST(StreamingDiskSlow, PeaksWhereThePlanSays) {
  const TinyRun tiny;
  const std::string options =
      "--model.layers=12 --model.width=320 --model.heads=5 --plan.precision=bf16 "
      "--plan.state=exact --optim.ema=0.9 --run.validate_every=0 --run.threads=2 "
      "--run.save_every=1 --run.keep_last=1 --plan.homes=disk --plan.slots=2 ";
  const Ended plan = tiny.run("sluice plan tiny.toml --json " + options);
  ASSERT_EQ(plan.exit, 0) << plan.err;
  const nlohmann::json json = nlohmann::json::parse(plan.out);
  const auto total = static_cast<double>(bytes_of(json.at("memory"), "total"));
  ASSERT_GT(static_cast<double>(bytes_of(json.at("disk"), "scratch")), total);
  for (const char* tokens : {"256", "384"}) {
    const Ended ended = tiny.train("run", options + "--change run.tokens --run.tokens=" + tokens);
    std::printf("peak %lld bytes, plan %.0f bytes\n", static_cast<long long>(ended.peak_bytes),
                total);
    EXPECT_NEAR(static_cast<double>(ended.peak_bytes), total, 16 << 20);
  }
}

TEST(StreamingDiskSlow, ThePlanSaysWhatCheckpointsTake) {
  const TinyRun tiny;
  const nlohmann::json disk = plan_with(tiny, on_disk).at("disk");
  tiny.train("run", std::string(eight_blocks) + " " + on_disk);
  const std::int64_t saved = static_cast<std::int64_t>(tiny.checkpoints("run").size());
  std::int64_t found = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(tiny.path("run/checkpoints")))
    if (entry.is_regular_file()) found += static_cast<std::int64_t>(entry.file_size());
  const auto one = static_cast<double>(bytes_of(disk, "checkpoint"));
  EXPECT_NEAR(static_cast<double>(found) / static_cast<double>(saved), one, 0.02 * one);
  EXPECT_EQ(bytes_of(disk, "checkpoints"), saved + 1);
  EXPECT_EQ(bytes_of(disk, "written"),
            10 * bytes_of(disk, "written_per_step") + 4 * bytes_of(disk, "checkpoint"));
}

TEST(StreamingDiskSlow, ResumedAtFivePointsEndsInTheSameDigest) {
  const TinyRun resident, tiny("tiny", on_disk);
  expect_resumes_at(tiny, {1, 4, 6, 9, 11}, 12);
  resident.train("whole");
  EXPECT_EQ(tiny.digest("whole"), resident.digest("whole"));
  EXPECT_EQ(tiny.tensors("whole"), resident.tensors("whole"));
}

// What is there after each kill, hidden files included, is what is there without one.
TEST(StreamingDiskSlow, TwentyKillsEndInTheSameDigestAndLeaveNothing) {
  expect_survives_kills(TinyRun("tiny", std::string(on_disk) + " --run.poison=true"), 20263, 6, 14);
}

// In the middle of a step: the scratch file's own reads and writes.
TEST(StreamingDiskSlow, KilledWhileTheDiskIsBusyItGoesOn) {
  const TinyRun tiny("tiny", on_disk);
  tiny.train("whole");
  for (const char* fault : {"scratch.write:kill@30", "scratch.read:kill@20",
                            "scratch.allocate:kill@1", "scratch.write:kill@3"}) {
    tiny.train("run", std::string("--fault ") + fault, 137);
    for (const auto& entry : std::filesystem::directory_iterator(tiny.path("run")))
      EXPECT_EQ(entry.path().filename().string().find("scratch"), std::string::npos);
    tiny.train("run");
    expect_whole(tiny, "run", "whole");
    std::filesystem::remove_all(tiny.path("run"));
  }
}

// A step that the disk fails in is never half done: the run stops, and goes on from what it saved.
TEST(StreamingDiskSlow, ADiskThatFailsStopsTheRun) {
  const TinyRun tiny("tiny", on_disk);
  tiny.train("whole");
  for (const char* fault : {"scratch.write:enospc@30", "scratch.read:eio@20+"}) {
    const Ended ended = tiny.train("run", std::string("--fault ") + fault, 6);
    EXPECT_NE(ended.err.find("the scratch file"), std::string::npos) << ended.err;
    EXPECT_NE(ended.err.find("goes on from the last checkpoint"), std::string::npos) << ended.err;
    tiny.train("run");
    expect_whole(tiny, "run", "whole");
    std::filesystem::remove_all(tiny.path("run"));
  }
}

// Checkpoints do not know where blobs were at home.
TEST(StreamingDiskSlow, AResumeMayHaveOtherHomes) {
  const TinyRun tiny;
  tiny.train("whole", eight_blocks);
  const std::string often = std::string(eight_blocks) + " --run.save_every=1 ";
  tiny.train("run", often + on_disk + " --fault train.step:kill@4", 137);
  tiny.train("run", often + "--plan.homes=host --fault train.step:kill@4", 137);
  tiny.train("run", often + "--plan.homes=host,optimizer@1-6=disk --fault scratch.direct:einval@1");
  EXPECT_EQ(tiny.digest("run"), tiny.digest("whole"));
  EXPECT_EQ(tiny.tensors("run"), tiny.tensors("whole"));
}

}  // namespace
}  // namespace sluice
