// Checkpoints by others: tests/goldens/checkpoints has tiny models in every form that Transformers
// and PyTorch have written, with what Transformers computes from them
// (tools/goldens/checkpoints.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/model_files.h"
#include "core/test_folder.h"
#include "inference/evaluate.h"
#include "inference/generate.h"
#include "inference/session.h"
#include "process.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr const char* cases[] = {"gpt2-safetensors", "gpt2-bare",    "gpt2-sharded-f16",
                                 "gpt2-bf16",        "gpt2-bin",     "gpt2-bin-f16",
                                 "gpt2-legacy",      "gpt2-untied",  "cerebras-bin",
                                 "gptj-safetensors", "gptj-bin-f16", "gptj-legacy-bf16"};

fs::path folder_of(const std::string& name) {
  return fs::path(SLUICE_SOURCE_DIR) / "tests/goldens/checkpoints" / name;
}

struct Expected {
  explicit Expected(const std::string& name) {
    const auto json = nlohmann::json::parse(read_text(folder_of(name) / "expected.json"));
    ids = json["ids"].get<std::vector<std::int32_t>>();
    logits = json["logits"].get<std::vector<double>>();
    loss = json["loss"];
  }
  // The ids as raw tokens: one sample of one sequence.
  void write_tokens(const fs::path& path) const {
    std::ofstream file(path, std::ios::binary);
    for (const std::int32_t id : ids) {
      const auto narrow = static_cast<std::uint16_t>(id);
      file.write(reinterpret_cast<const char*>(&narrow), sizeof narrow);
    }
  }
  std::vector<std::int32_t> ids;  // inputs and the last target
  std::vector<double> logits;     // of the last input
  double loss = 0;                // mean over the targets
};

double distance(const std::vector<float>& ours, const std::vector<double>& theirs) {
  double off = 0, norm = 0;
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    off += (ours[i] - theirs[i]) * (ours[i] - theirs[i]);
    norm += theirs[i] * theirs[i];
  }
  return std::sqrt(off / norm);
}

constexpr double close_enough = 2e-6;  // float32 beside float64

class CheckpointForms : public testing::TestWithParam<const char*> {};

TEST_P(CheckpointForms, HaveTheLogitsAndTheLossOfTransformers) {
  const std::string name = GetParam();
  const Expected expected(name);
  const ModelFolder folder = resolve_checkpoint(folder_of(name));
  Session session(folder, {.threads = 1, .rows = 1, .sequence = 0, .precision = DType::f32});
  const std::vector<std::int32_t> inputs(expected.ids.begin(), expected.ids.end() - 1);
  const auto logits =
      Generator(session.executor(), session.model(), 1).all_logits({inputs}, false).front().back();
  ASSERT_EQ(logits.size(), expected.logits.size());
  EXPECT_LT(distance(logits, expected.logits), close_enough);

  const TestFolder scratch;
  expected.write_tokens(scratch.path("ids.bin"));
  const TokenFile tokens(scratch.path("ids.bin"));
  Staging staging(session.executor().programs().named("eval").batch, 1);
  RowOptions rows;
  rows.sequence = session.sequence();
  const Evaluation found = evaluate(session.executor(), tokens, nullptr, rows, 0, staging);
  EXPECT_NEAR(found.loss / expected.loss, 1, close_enough);

  // The judge: another folder's numbers are not close.
  const Expected other(name == std::string(cases[0]) ? cases[1] : cases[0]);
  EXPECT_GT(distance(logits, other.logits), 0.1);
  EXPECT_GT(std::abs(found.loss / other.loss - 1), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Each, CheckpointForms, testing::ValuesIn(cases), [](const auto& one) {
  std::string name = one.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// A config that says nothing of the model; the sequence is the model's context.
constexpr const char* tuning = R"(data = { train = "ids.bin" }
batch = { tokens = 12 }
plan = { precision = "float32" }
run = { tokens = 24, threads = 1, save_every = 0 }
)";

class Tuning : public testing::Test {
 protected:
  Tuning() { write_text(folder_.path("tune.toml"), tuning); }
  Ended run(const std::string& command) const { return run_command(command, folder_.path()); }
  static std::string from(const std::string& name) { return "--from " + folder_of(name).string(); }
  // Loss of the first step; NaN: there was none.
  double first_loss(const std::string& out) const {
    std::ifstream rows(folder_.path(out + "/metrics.jsonl"));
    for (std::string line; std::getline(rows, line);)
      if (const auto row = nlohmann::json::parse(line);
          row.value("step", 0) == 1 && row.contains("loss"))
        return row["loss"];
    return NAN;
  }
  TestFolder folder_;
};

TEST_F(Tuning, BeginsWithTheLossOfTransformersFromEveryForm) {
  std::string command = "set -e\n";
  for (const std::string name : cases) {
    fs::create_directory(folder_.path(name));
    Expected(name).write_tokens(folder_.path(name + "/ids.bin"));
    command +=
        fmt::format("(cd {0}; sluice train ../tune.toml --out ../run-{0} {1})\n", name, from(name));
  }
  const Ended ended = run(command);
  ASSERT_EQ(ended.exit, 0) << ended.err;
  double before = 0;
  for (const std::string name : cases) {
    const double loss = first_loss("run-" + name);
    EXPECT_NEAR(loss / Expected(name).loss, 1, close_enough) << name;
    EXPECT_GT(std::abs(loss - before), 1e-3) << "two folders with one loss: " << name;
    before = loss;
  }
}

TEST_F(Tuning, ResumesAndKnowsWhereItBegan) {
  Expected("gpt2-bin").write_tokens(folder_.path("ids.bin"));
  const std::string train = "sluice train tune.toml --run.save_every=1 --out ";
  ASSERT_EQ(run(train + "whole " + from("gpt2-bin")).exit, 0);
  // Without --from: the run's own config has the model, its checkpoint the weights.
  const Ended again = run("sluice train whole/config.toml --out whole");
  EXPECT_EQ(again.exit, 0) << again.err;
  EXPECT_NE(again.err.find("all steps are done already"), std::string::npos) << again.err;
  // Other weights are another run.
  const Ended other = run(train + "whole " + from("gpt2-bare"));
  EXPECT_EQ(other.exit, 2) << other.err;
  EXPECT_NE(other.err.find("from \""), std::string::npos) << other.err;
  // Its checkpoint is one to begin with, too.
  const Ended next = run(train + "next --from whole");
  EXPECT_EQ(next.exit, 0) << next.err;
  EXPECT_TRUE(std::isfinite(first_loss("next")));
}

}  // namespace
}  // namespace sluice
