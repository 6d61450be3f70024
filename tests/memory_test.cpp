// The plan tells the truth: the largest resident set of a real run beside what `sluice plan` says.
#include "tiny_run.h"

namespace sluice {
namespace {

TEST(MemorySlow, Gpt2AtSequence256PeaksWhereThePlanSays) {
  const TinyRun tiny;
  const std::string options =
      " --data.train=corpus --data.validation= --batch.sequence=256 --batch.tokens=512"
      " --plan.micro_batch=1 --run.tokens=1024 --run.threads=2 --run.sample_every=0"
      " --run.validate_every=0";
  const Ended plan = tiny.run("sluice plan gpt2-124m --json" + options);
  ASSERT_EQ(plan.exit, 0) << plan.err;
  const auto memory = nlohmann::json::parse(plan.out).at("memory");
  // The last save is told that the disk is full: 1.5 GB that the test need not write.
  const Ended ended = run_command(
      "instead train gpt2-124m --out run --fault save.open:enospc@1+" + options, tiny.path(), 300);
  ASSERT_EQ(ended.exit, 0) << ended.err;
  const double planned = memory.at("total").get<double>();
  const double ratio = static_cast<double>(ended.peak_bytes) / planned;
  std::printf("peak %lld bytes, plan %.0f bytes, ratio %.4f; plan: %s\n",
              static_cast<long long>(ended.peak_bytes), planned, ratio, memory.dump().c_str());
  EXPECT_GE(ratio, 0.95);
  EXPECT_LE(ratio, 1.05);
}

// Small runs are held to bytes: a percentage of them would be less than a library's pages.
TEST(MemorySlow, TheDemosModelPeaksWithin16MiBOfThePlan) {
  const TinyRun tiny;
  const std::string options =
      " --data.train=corpus --data.validation=corpus-val --run.tokens=20480 --run.validate_every=5"
      " --run.save_every=5 --run.sample_every=5 --run.sample_tokens=40 --run.threads=2";
  const std::string config = SLUICE_SOURCE_DIR "/configs/demo.toml";
  const Ended plan = tiny.run("sluice plan " + config + " --json" + options);
  ASSERT_EQ(plan.exit, 0) << plan.err;
  const auto planned = nlohmann::json::parse(plan.out).at("memory").at("total").get<double>();
  const Ended ended = tiny.run("instead train " + config + " --out run" + options);
  ASSERT_EQ(ended.exit, 0) << ended.err;
  std::printf("peak %lld bytes, plan %.0f bytes\n", static_cast<long long>(ended.peak_bytes),
              planned);
  EXPECT_NEAR(static_cast<double>(ended.peak_bytes), planned, 16 << 20);
}

}  // namespace
}  // namespace sluice
