// Checkpoints by others: tests/goldens/checkpoints has tiny models in every form that Transformers
// and PyTorch have written, with what Transformers computes from them
// (tools/goldens/checkpoints.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/model_files.h"
#include "checkpoint/weight_files.h"
#include "core/test_folder.h"
#include "inference/evaluate.h"
#include "inference/generate.h"
#include "inference/session.h"
#include "models/family.h"
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

// bf16 weights with float32 masters begin at the file's own numbers, not at rounded ones: a step
// with a learning rate of 0, and the masters are what was read.
TEST_F(Tuning, KeepsWhatBf16RoundsAway) {
  Expected("gpt2-bin").write_tokens(folder_.path("ids.bin"));
  const std::string hf = folder_of("gpt2-bin").string();
  const std::string train = "sluice train tune.toml --out run --optim.lr=0 --optim.lr_end=0 ";
  const Ended half =
      run(train + "--plan.precision=bf16 --plan.state=exact --run.tokens=12 " + from("gpt2-bin"));
  ASSERT_EQ(half.exit, 0) << half.err;
  EXPECT_NEAR(first_loss("run") / Expected("gpt2-bin").loss, 1, 2e-2);
  EXPECT_EQ(run("sluice diff run " + hf).exit, 1) << "bf16 holds every float32";
  const Ended whole =
      run(train + "--change plan.precision,plan.state,run.tokens " + from("gpt2-bin"));
  ASSERT_EQ(whole.exit, 0) << whole.err;
  const Ended equal = run("sluice diff run " + hf);
  EXPECT_EQ(equal.exit, 0) << equal.out << equal.err;
}

TEST_F(Tuning, TakesTheModelFromTheFolderAndNothingElse) {
  Expected("gptj-bin-f16").write_tokens(folder_.path("ids.bin"));
  const Ended ended = run("sluice train tune.toml --out run --model.dropout=0.1 --model.layers=2 " +
                          from("gptj-bin-f16") + " && cat run/config.toml");
  ASSERT_EQ(ended.exit, 0) << ended.err;
  for (const char* line : {"family = \"gptj\"", "layers = 2", "rotary = 2", "dropout = 0.1",
                           "sequence = 12", "vocab = 32"})
    EXPECT_NE(ended.out.find(line), std::string::npos) << line << "\n" << ended.out;
}

class Export : public Tuning {
 protected:
  std::string text(const std::string& name) const { return read_text(folder_.path(name)); }
};

TEST_F(Export, WritesWhatItReadFromEveryForm) {
  std::string command = "set -e\n";
  for (const std::string name : cases)
    command += fmt::format(
        "sluice export {0} {1}; sluice export {0} {1}-cut --shard-size 3000\n"
        "sluice diff {0} {1} >&2; sluice diff {1} {1}-cut >&2\n",
        folder_of(name).string(), name);
  const Ended ended = run(command);
  ASSERT_EQ(ended.exit, 0) << ended.err;
  for (const std::string name : cases) {
    EXPECT_EQ(weight_file_of(folder_.path(name)), "model.safetensors");
    EXPECT_EQ(weight_file_of(folder_.path(name + "-cut")), "model.safetensors.index.json");
    const WeightFiles files = WeightFiles::open(folder_.path(name));
    for (const StoredTensor& tensor : files.tensors())
      EXPECT_TRUE(tensor.name.starts_with("transformer.") || tensor.name.starts_with("lm_head."))
          << tensor.name;
  }
  EXPECT_NE(text("gpt2-bin-f16/config.json").find("\"dtype\": \"float16\""), std::string::npos);
  EXPECT_NE(text("gpt2-bf16/config.json").find("\"dtype\": \"bfloat16\""), std::string::npos);
  EXPECT_EQ(run("sluice diff gpt2-bin gpt2-bare").exit, 1) << "the judge";
  ASSERT_EQ(run("sluice export gpt2-bin rounded --precision bf16").exit, 0);
  EXPECT_EQ(run("sluice diff gpt2-bin rounded").exit, 1);
}

TEST_F(Export, SaysOfARunWhatMadeIt) {
  const Ended ended =
      run("trained && sluice export run mine/ --json && sluice diff run mine >&2 && "
          "sluice eval --checkpoint mine --data corpus-val --json && "
          "sluice eval --checkpoint run --data corpus-val --json");
  ASSERT_EQ(ended.exit, 0) << ended.err;
  const std::string card = text("mine/README.md");
  const auto metrics = run("grep digest run/metrics.jsonl | tail -n 1").out;
  const std::string digest = nlohmann::json::parse(metrics)["digest"];
  for (const std::string& part :
       {std::string("library_name: transformers"), std::string("# mine\n"),
        std::string("| trained on | 1536 tokens in 12 steps |"), "`" + digest + "`",
        std::string("| training FLOPs, rule six_n |"), std::string("nats a token at step 12"),
        std::string("bits per byte"), std::string("## Config"), std::string("width = 48")})
    EXPECT_NE(card.find(part), std::string::npos) << part << "\n" << card;
  for (const char* file : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
    EXPECT_TRUE(fs::exists(folder_.path(std::string("mine/") + file))) << file;
  EXPECT_FALSE(fs::exists(folder_.path("mine.tmp")));
}

// A folder with zeros for weights, which take no room on a disk with holes.
void write_zeros(const fs::path& folder, const ModelConfig& model) {
  fs::create_directory(folder);
  write_text(folder / "config.json", family_of(model).to_config(model).dump());
  nlohmann::json header = nlohmann::json::object();
  std::int64_t end = 0;
  for (const ModelTensor& tensor : model_tensors(model)) {
    const std::int64_t begin = end;
    end += tensor.bytes;
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  const std::string text = header.dump();
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i)
    length[static_cast<std::size_t>(i)] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  write_text(folder / "model.safetensors", length + text);
  fs::resize_file(folder / "model.safetensors", 8 + text.size() + static_cast<std::uintmax_t>(end));
}

TEST(CheckpointMemorySlow, IsThatOfTheModelAndOnePiece) {
  constexpr std::int64_t program = 40 << 20, piece = 64 << 20;
  ModelConfig model;
  model.layers = 8, model.width = 512, model.heads = 8, model.vocab = 60'000, model.context = 16;
  const TestFolder folder;
  write_zeros(folder.path() / "hf", model);
  ASSERT_GT(fs::file_size(folder.path() / "hf/model.safetensors"), 2 * (program + piece))
      << "the judge: a file in memory would be seen";
  const Ended exported = run_command("instead export hf out --precision bf16", folder.path());
  EXPECT_EQ(exported.exit, 0) << exported.err;
  EXPECT_LT(exported.peak_bytes, program + piece);
  for (const std::string options : {"", "--precision bf16"}) {
    const Ended used = run_command(
        "instead generate --checkpoint hf --prompt-ids 1 --json "
        "--max-tokens 1 --threads 1 " +
            options,
        folder.path());
    ASSERT_EQ(used.exit, 0) << used.err;
    const auto planned = nlohmann::json::parse(used.out)["device"].get<std::int64_t>();
    EXPECT_LT(used.peak_bytes, planned + program + piece) << options;
  }
}

}  // namespace
}  // namespace sluice
