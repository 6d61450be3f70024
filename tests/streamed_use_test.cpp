// Models in use under a budget, with the binary: evaluation, generation, and what training shows of
// itself, give the same numbers wherever the weights live.
#include <fmt/format.h>

#include "tiny_run.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

const char* const six_blocks = "--model.layers=6 --run.tokens=768 ";

Json json_of(const Ended& ended) {
  EXPECT_EQ(ended.exit, 0) << ended.err;
  return Json::parse(ended.out);
}

Json without(Json object, std::initializer_list<const char*> keys) {
  for (const char* key : keys) object.erase(key);
  return object;
}

const std::initializer_list<const char*> where_and_when = {"device", "host",  "disk",
                                                           "homes",  "blobs", "tokens_per_second"};

class StreamedUse : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    tiny_ = std::make_unique<TinyRun>();
    tiny_->train("run", six_blocks);
  }
  static void TearDownTestSuite() { tiny_.reset(); }

  static Json run(const std::string& command) {
    return json_of(tiny_->run(command + " --checkpoint run --json"));
  }
  static std::int64_t least_of(const std::string& command) {
    const Ended refused = tiny_->run(command + " --checkpoint run --plan.device_memory=1");
    EXPECT_EQ(refused.exit, 4);
    const std::string said = "at least ";
    const std::size_t at = refused.err.find(said);
    EXPECT_NE(at, std::string::npos) << refused.err;
    return at == std::string::npos ? 0 : std::stoll(refused.err.substr(at + said.size()));
  }

  static std::unique_ptr<TinyRun> tiny_;
};
std::unique_ptr<TinyRun> StreamedUse::tiny_;

TEST_F(StreamedUse, BudgetsChangeNoNumbers) {
  for (const std::string& command :
       {std::string("sluice eval --data corpus-val"),
        std::string("sluice generate --prompt 'Gate 7' --max-tokens 90 --seed 3")}) {
    const Json resident = run(command);
    EXPECT_EQ(resident.at("homes"), "device");
    EXPECT_EQ(resident.at("host"), 0);
    const auto most = resident.at("device").get<std::int64_t>(), least = least_of(command);
    ASSERT_LT(least, most);
    for (const std::int64_t budget : {most, most - 1, (most + least) / 2, least}) {
      const Json found = run(fmt::format("{} --plan.device_memory={}", command, budget));
      EXPECT_LE(found.at("device").get<std::int64_t>(), budget);
      EXPECT_EQ(found.at("homes") == "device", budget == most);
      EXPECT_EQ(without(found, where_and_when), without(resident, where_and_when));
    }
    const Ended told = tiny_->run(command + " --checkpoint run --plan.homes=weights@1-2=host");
    EXPECT_NE(told.err.find("sluice: homes weights@1-2=host, 2 slots: "), std::string::npos)
        << told.err;
    EXPECT_EQ(told.out, tiny_->run(command + " --checkpoint run").out);
    const std::string everything = " --plan.homes=host,@ends=host --plan.slots=2";
    EXPECT_GT(run(command + everything).at("device"), least);
    const Json all = run(command + everything + " --plan.blobs=parts");
    EXPECT_EQ(all.at("device"), least);
    EXPECT_EQ(all.at("homes"), "host,@ends=host");
    const auto host = all.at("host").get<std::int64_t>();
    const Json some_on_disk = run(
        fmt::format("{} --plan.device_memory={} --plan.host_memory={}", command, least, host - 1));
    EXPECT_EQ(some_on_disk.at("homes"), "weights@0-2=disk,weights@3-5=host,weights@ends=host")
        << "slots to stage";
    for (const Json& found :
         {some_on_disk, run(command + " --plan.homes=disk,@ends=host --plan.slots=2"),
          run(command + " --plan.homes=disk --plan.slots=2")}) {
      EXPECT_LT(found.at("host").get<std::int64_t>(), host);
      EXPECT_GT(found.at("disk").get<std::int64_t>(), 0);
      EXPECT_EQ(without(found, where_and_when), without(resident, where_and_when));
    }
    const Ended refused =
        tiny_->run(fmt::format("{} --checkpoint run --plan.device_memory={}", command, least - 1));
    EXPECT_EQ(refused.exit, 4);
    EXPECT_NE(refused.err.find(fmt::format("at least {} bytes", least)), std::string::npos)
        << refused.err;
  }
  // What is compared can differ.
  EXPECT_NE(run("sluice eval --data corpus-val --tokens 100")["loss"],
            run("sluice eval --data corpus-val")["loss"]);
}

class StreamedUseSlow : public StreamedUse {};

// Validation and samples of a run in its least budget, whose plan counts what they take.
TEST_F(StreamedUseSlow, TrainingShowsTheSameOfItself) {
  const std::string options =
      std::string(six_blocks) + "--run.sample_every=3 --run.sample_prompt=Gate --run.poison=true ";
  const Json plan = json_of(tiny_->run("sluice plan tiny.toml --json " + options));
  const auto least = plan.at("least").at("device").get<std::int64_t>();
  const Json silent =
      json_of(tiny_->run("sluice plan tiny.toml --json " + options + "--run.sample_every=0"));
  EXPECT_GT(least, silent.at("least").at("device").get<std::int64_t>()) << "caches are counted";
  tiny_->train("whole", options);
  tiny_->train("small", fmt::format("{} --plan.device_memory={}", options, least));
  EXPECT_EQ(tiny_->rows("small", "samples.jsonl"), tiny_->rows("whole", "samples.jsonl"));
  EXPECT_EQ(tiny_->rows("small", "samples.jsonl").size(), 2u);
  const auto validated = [](const std::string& out) {
    std::vector<Json> found;
    for (const Json& row : tiny_->rows(out))
      if (row.contains("val_loss")) found.push_back(row);
    return found;
  };
  EXPECT_EQ(validated("small"), validated("whole"));
  EXPECT_EQ(validated("small").size(), 2u);
  tiny_->train("other", options + "--run.seed=1");
  EXPECT_NE(tiny_->rows("other", "samples.jsonl"), tiny_->rows("whole", "samples.jsonl"));
}

}  // namespace
}  // namespace sluice
