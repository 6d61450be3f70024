// Memory budgets with the binary: the plan chooses what streams, a run in the least budget ends in
// the same bits, and one byte less is refused before anything is taken.
#include <fmt/format.h>

#include <set>

#include "tiny_run.h"

namespace sluice {
namespace {

const char* const six_blocks =
    "--model.layers=6 --batch.tokens=384 --run.tokens=3840 --plan.precision=bf16 "
    "--plan.state=exact --run.poison=true";

nlohmann::json plan_with(const TinyRun& tiny, const std::string& options) {
  const Ended ended =
      tiny.run(std::string("sluice plan tiny.toml --json ") + six_blocks + " " + options);
  EXPECT_EQ(ended.exit, 0) << ended.err;
  return nlohmann::json::parse(ended.out);
}

TEST(StreamingRunSlow, BudgetsChangeNoBits) {
  const TinyRun tiny;
  tiny.train("whole", six_blocks);
  const nlohmann::json resident = plan_with(tiny, "");
  const auto most = resident.at("device").get<std::int64_t>();
  const auto least = resident.at("least").at("device").get<std::int64_t>();
  ASSERT_LT(least, most);
  std::set<std::string> homes, blobs;
  for (const std::int64_t budget : {most, (most + least) / 2, (most + 5 * least) / 6, least}) {
    const std::string option = fmt::format("--plan.device_memory={}", budget);
    const nlohmann::json plan = plan_with(tiny, option);
    EXPECT_LE(plan.at("device").get<std::int64_t>(), budget);
    homes.insert(plan.at("homes"));
    blobs.insert(plan.at("blobs"));
    tiny.train("run", std::string(six_blocks) + " " + option);
    EXPECT_EQ(tiny.digest("run"), tiny.digest("whole")) << plan.dump();
    EXPECT_EQ(tiny.tensors("run"), tiny.tensors("whole")) << plan.dump();
    std::filesystem::remove_all(tiny.path("run"));
  }
  EXPECT_GE(homes.size(), 3u) << "the budgets do not differ in what streams";
  EXPECT_EQ(blobs, (std::set<std::string>{"layer", "parts"})) << "nor in how";
  // Whole blocks need more, and run in the least that they need.
  const std::string layers = " --plan.blobs=layer";
  const auto of_layers = plan_with(tiny, layers).at("least").at("device").get<std::int64_t>();
  EXPECT_LT(least, of_layers);
  tiny.train("run", fmt::format("{}{} --plan.device_memory={}", six_blocks, layers, of_layers));
  EXPECT_EQ(tiny.tensors("run"), tiny.tensors("whole"));
  std::filesystem::remove_all(tiny.path("run"));

  const nlohmann::json smallest = plan_with(tiny, fmt::format("--plan.device_memory={}", least));
  EXPECT_EQ(smallest.at("device").get<std::int64_t>(), least);
  EXPECT_EQ(smallest.at("memory").at("host"), resident.at("least").at("host"));
  const Ended refused =
      tiny.train("run", fmt::format("{} --plan.device_memory={}", six_blocks, least - 1), 4);
  EXPECT_NE(refused.err.find(fmt::format("at least {} bytes", least)), std::string::npos)
      << refused.err;
  EXPECT_FALSE(std::filesystem::exists(tiny.path("run")));
}

// What backward needs of forward may wait on the host: less of the device, the same bits.
TEST(StreamingRunSlow, ASpilledStashTakesLess) {
  const TinyRun tiny;
  const std::string layer_major = "--plan.schedule=layer-major --plan.recompute=block ";
  const nlohmann::json kept = plan_with(tiny, layer_major + "--plan.stash=kept");
  const nlohmann::json spilled = plan_with(tiny, layer_major + "--plan.stash=spilled");
  EXPECT_EQ(kept.at("stash"), "kept");
  EXPECT_EQ(spilled.at("stash"), "spilled");
  EXPECT_LT(spilled.at("device"), kept.at("device"));
  EXPECT_GT(spilled.at("memory").at("host"), kept.at("memory").at("host"));
  EXPECT_LT(spilled.at("least").at("device"), kept.at("least").at("device"));
  EXPECT_EQ(plan_with(tiny, "--plan.recompute=block").at("least").at("device"),
            spilled.at("least").at("device"));
  EXPECT_EQ(kept.at("copies").at("stash").at("in"), 0);
  EXPECT_GT(spilled.at("copies").at("stash").at("in"), 0);
  tiny.train("kept", six_blocks + (" " + layer_major));
  tiny.train("spilled", six_blocks + (" --plan.stash=spilled " + layer_major));
  EXPECT_EQ(tiny.digest("spilled"), tiny.digest("kept"));
  EXPECT_EQ(tiny.tensors("spilled"), tiny.tensors("kept"));
}

// A run goes on under another budget, and under none.
TEST(StreamingRunSlow, AResumeMayHaveAnotherBudget) {
  const TinyRun tiny;
  tiny.train("whole", six_blocks);
  const auto least = plan_with(tiny, "").at("least").at("device").get<std::int64_t>();
  const std::string small = fmt::format("{} --plan.device_memory={}", six_blocks, least);
  tiny.train("run", small + " --run.save_every=1 --fault train.step:kill@4", 137);
  tiny.train("run", std::string(six_blocks) + " --run.save_every=1 --fault train.step:kill@4", 137);
  tiny.train("run", small + " --plan.schedule=micro-batch-major");
  EXPECT_EQ(tiny.digest("run"), tiny.digest("whole"));
  EXPECT_EQ(tiny.tensors("run"), tiny.tensors("whole"));
  tiny.train("other", small + " --run.seed=1");
  EXPECT_NE(tiny.digest("other"), tiny.digest("whole"));
}

}  // namespace
}  // namespace sluice
