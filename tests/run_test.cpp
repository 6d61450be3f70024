// The command contract, with the built binary: what scripts rely on.
#include <cmath>
#include <set>

#include "tiny_run.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

Json json_of(const Ended& ended) {
  EXPECT_EQ(ended.exit, 0) << ended.err;
  return Json::parse(ended.out, nullptr, false);
}

std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

// One run for all that only look at it.
class Run : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    tiny_ = new TinyRun;
    tiny_->train("run");
  }
  static void TearDownTestSuite() { delete tiny_; }
  static const TinyRun& tiny() { return *tiny_; }

 private:
  static inline TinyRun* tiny_ = nullptr;
};

TEST_F(Run, WritesARowPerStepAndValidation) {
  EXPECT_EQ(tiny().steps("run"), steps_to(12));
  std::vector<std::int64_t> validated;
  double first = 0, last = 0;
  for (const Json& row : tiny().rows("run")) {
    const std::int64_t step = row.at("step");
    if (row.contains("loss")) {
      for (const char* key : {"loss", "grad_norm", "lr", "tokens", "tokens_per_second"})
        EXPECT_TRUE(row.at(key).is_number()) << row;
      EXPECT_EQ(row["tokens"], step * 128);
      EXPECT_GT(row["tokens_per_second"], 0);
      if (step == 1) first = row["loss"];
      last = row["loss"];
    }
    if (!row.contains("val_loss")) continue;
    validated.push_back(step);
    EXPECT_TRUE(row["val_loss"].is_number()) << row;
    EXPECT_EQ(row.at("digest").get<std::string>().size(), 16u) << row;
    // Bounded by run.validate_tokens, but for the last, which is whole.
    const std::int64_t tokens = row.at("val_tokens");
    EXPECT_TRUE(step < 12 ? tokens == 200 : tokens > 1000) << row;
  }
  EXPECT_EQ(validated, (std::vector<std::int64_t>{4, 8, 12}));
  EXPECT_NEAR(first, std::log(257), 0.3);
  EXPECT_LT(last, first - 0.5) << "it does not learn";
}

TEST_F(Run, KeepsTheLastCheckpointsWithTheirFiles) {
  EXPECT_EQ(tiny().checkpoints("run"),
            (std::vector<std::string>{"step-00000006", "step-00000009", "step-00000012"}));
  EXPECT_EQ(names_in(tiny().path("run/checkpoints/step-00000012")),
            (std::set<std::string>{"model.safetensors", "config.json", "tokenizer.json",
                                   "optimizer.safetensors", "manifest.json"}));
  for (const char* file : {"config.toml", "metrics.jsonl"})
    EXPECT_TRUE(names_in(tiny().path("run")).contains(file)) << file;
  const Ended verify = tiny().run("sluice verify run");
  EXPECT_EQ(verify.exit, 0) << verify.err;
}

TEST_F(Run, EvaluatesARunAStepAndRawIds) {
  const Json whole = json_of(tiny().run("sluice eval --checkpoint run --data corpus-val --json"));
  for (const char* key : {"loss", "perplexity", "tokens", "bytes", "bits_per_byte"})
    EXPECT_TRUE(whole.at(key).is_number()) << whole;
  EXPECT_NEAR(whole["perplexity"], std::exp(whole["loss"].get<double>()), 1e-6);
  const double bits = whole["loss"].get<double>() * whole["tokens"].get<double>() / std::log(2) /
                      whole["bytes"].get<double>();
  EXPECT_NEAR(whole["bits_per_byte"], bits, 1e-9);

  // What training said of the same weights and text, to the last bit.
  double said = 0;
  for (const Json& row : tiny().rows("run"))
    if (row.contains("val_loss")) said = row["val_loss"];
  EXPECT_NEAR(whole["loss"], said, 1e-6 * said);

  const Json step = json_of(tiny().run(
      "sluice eval --checkpoint run/checkpoints/step-00000012 --data corpus-val --json"));
  EXPECT_EQ(step["loss"], whole["loss"]);
  const Json earlier = json_of(tiny().run(
      "sluice eval --checkpoint run/checkpoints/step-00000006 --data corpus-val --json"));
  EXPECT_NE(earlier["loss"], whole["loss"]);
  const Json shorter =
      json_of(tiny().run("sluice eval --checkpoint run --data corpus-val --sequence 32 --json"));
  EXPECT_EQ(shorter["tokens"], whole["tokens"]);
  EXPECT_NE(shorter["loss"], whole["loss"]);

  const Json raw = json_of(
      tiny().run("cp corpus-val.bin raw.bin; sluice eval --checkpoint run --data raw.bin --json"));
  EXPECT_EQ(raw["loss"], whole["loss"]);
  EXPECT_EQ(raw["tokens"], whole["tokens"]);
  EXPECT_TRUE(raw.at("bits_per_byte").is_null()) << raw;
}

TEST_F(Run, GeneratesTheSameWithTheSameSeed) {
  const std::string command = "sluice generate --checkpoint run --max-tokens 90 --json ";
  const Json one = json_of(tiny().run(command + "--prompt 'Gate 7' --seed 3 --temperature 1"));
  EXPECT_EQ(one.at("finish_reason"), one.at("ids").size() == 90 ? "length" : "stop");
  EXPECT_TRUE(one.at("text").is_string());
  EXPECT_GT(one.at("tokens_per_second"), 0);
  EXPECT_EQ(json_of(tiny().run(command + "--prompt 'Gate 7' --seed 3 --temperature 1"))["ids"],
            one["ids"]);
  EXPECT_EQ(json_of(tiny().run(command +
                               "--prompt-ids 71,97,116,101,32,55 --seed 3 --temperature 1"))["ids"],
            one["ids"]);
  EXPECT_NE(json_of(tiny().run(command + "--prompt 'Gate 7' --seed 4 --temperature 1"))["ids"],
            one["ids"]);
  const Json greedy = json_of(tiny().run(command + "--prompt 'Gate 7' --seed 1 --temperature 0"));
  EXPECT_EQ(json_of(tiny().run(command + "--prompt 'Gate 7' --seed 2 --temperature 0"))["ids"],
            greedy["ids"]);
}

TEST_F(Run, CountsTheParametersOfPublishedModels) {
  for (const auto& [name, count] :
       std::map<std::string, std::int64_t>{{"gigagpt-111m", 111'050'496},
                                           {"gigagpt-175b", 174'604'259'328},
                                           {"gptj-6b", 6'050'882'784},
                                           {"gpt2-124m", 124'439'808}}) {
    const Json plan =
        json_of(tiny().run("sluice plan " + name + " --plan.precision=float32 --json"));
    EXPECT_EQ(plan.at("parameters"), count) << name;
    EXPECT_TRUE(plan.at("fits").is_boolean());
    const Json& memory = plan.at("memory");
    for (const char* part :
         {"weights", "gradients", "optimizer", "derived", "stash", "carry", "frame", "process"})
      EXPECT_TRUE(memory.at(part).is_number_integer()) << part;
    std::int64_t sum = 0;
    for (const auto& [part, bytes] : memory.items())
      if (part != "total") sum += bytes.get<std::int64_t>();
    const std::int64_t padding = memory.at("total").get<std::int64_t>() - sum;
    EXPECT_TRUE(padding >= 0 && padding < 1 << 20) << name << ": " << memory;
    EXPECT_GE(memory["weights"], 4 * count) << name;
  }
}

TEST_F(Run, JsonRowsGoToStdoutToo) {
  const Ended ended = tiny().train("json", "--json --run.tokens=256");
  std::string expected = read_text(tiny().path("json/metrics.jsonl"));
  EXPECT_EQ(ended.out, expected);
}

// Other programs choose by it how they load the weights.
TEST_F(Run, TheCheckpointNamesTheTypeOfItsWeights) {
  for (const auto& [precision, type] : {std::pair{"bf16", "bfloat16"}, {"float32", "float32"}}) {
    const std::string out = std::string("typed-") + precision;
    tiny().train(out, std::string("--run.tokens=256 --plan.precision=") + precision);
    const Json config =
        Json::parse(read_text(tiny().path(out + "/checkpoints/step-00000002/config.json")));
    EXPECT_EQ(config.at("dtype"), type);
    EXPECT_EQ(config.at("torch_dtype"), type);
  }
}

}  // namespace
}  // namespace sluice
