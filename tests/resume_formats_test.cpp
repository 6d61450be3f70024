// Same key, same bits, with the built binary in bf16 and every format of state and gradients, with
// dropout, averaged weights and a frozen tensor on; and what happens to a run's checkpoints when
// its formats change.
#include <gtest/gtest.h>

#include "backend/cpu/isa.h"
#include "core/hash.h"
#include "support/undisturbed.h"

namespace sluice {
namespace {

using namespace testing_support;

constexpr const char* freeze_option = " --optim.freeze='*.mlp.c_fc.weight'";
const std::string all_on =
    std::string("--plan.precision=bf16 --model.dropout=0.1 --optim.ema=0.9") + freeze_option;

struct Formats {
  std::string state, gradients;
};

void PrintTo(const Formats& f, std::ostream* out) { *out << f.state << " " << f.gradients; }

std::string options_of(const Formats& formats) {
  return all_on + " --plan.state=" + formats.state + " --plan.gradients=" + formats.gradients;
}

std::vector<Formats> all_formats() {
  std::vector<Formats> out;
  for (const char* state : {"exact", "compact"})
    for (const char* gradients : {"float32", "bf16", "int8"}) out.push_back({state, gradients});
  return out;
}

class ResumeFormats : public testing::TestWithParam<Formats> {};
class ResumeFormatsSlow : public ResumeFormats {};
class TiledFormatsAll : public ResumeFormats {};
const auto name = [](const auto& info) { return info.param.state + "_" + info.param.gradients; };
const auto formats = testing::ValuesIn(all_formats());
INSTANTIATE_TEST_SUITE_P(bf16, ResumeFormats, formats, name);
INSTANTIATE_TEST_SUITE_P(bf16, ResumeFormatsSlow, formats, name);
INSTANTIATE_TEST_SUITE_P(bf16, TiledFormatsAll, formats, name);

// What the frozen tensor, the dropout and the average must not be without.
constexpr std::initializer_list<const char*> other_options = {
    "--model.dropout=0.2", "--optim.ema=0.8", "--optim.freeze='*.attn.c_proj.weight'",
    "--optim.freeze="};

TEST_P(ResumeFormats, AtFivePointsEndsInTheSameBits) {
  expect_resumes_at(TinyRun("tiny", options_of(GetParam())), {1, 4, 6, 9, 11}, 12);
}

TEST_P(ResumeFormatsSlow, WhatIsFreeChangesNoBits) {
  expect_free_options_change_no_bits(TinyRun("tiny", options_of(GetParam())), "--run.tokens=1664",
                                     other_options);
}

// Each fault point of a save once, and three times whenever the clock says.
TEST_P(ResumeFormatsSlow, KillsEndInTheSameBits) {
  const std::string options = options_of(GetParam());
  const auto seed = static_cast<unsigned>(hash64(options) % 100000);
  expect_survives_kills(TinyRun("tiny", options), seed, 6, 3);
}

TEST(TiledFormatsSlow, ResumedAtThreePointsEndsInTheSameBits) {
  expect_resumes_at(TinyRun("tiled", options_of({"compact", "int8"})), {2, 5, 7}, 8);
}
TEST(TiledFormatsSlow, WhatIsFreeChangesNoBits) {
  expect_free_options_change_no_bits(TinyRun("tiled", options_of({"exact", "bf16"})),
                                     "--run.tokens=18504");
}

TEST_P(TiledFormatsAll, ResumedAtFivePointsEndsInTheSameBits) {
  expect_resumes_at(TinyRun("tiled", options_of(GetParam())), {1, 2, 4, 5, 7}, 8);
}
TEST_P(TiledFormatsAll, WhatIsFreeChangesNoBits) {
  expect_free_options_change_no_bits(TinyRun("tiled", options_of(GetParam())), "--run.tokens=18504",
                                     other_options);
}

// The format itself is other bits: no two of the six end alike.
TEST(Formats, EachHasBitsOfItsOwn) {
  const TinyRun tiny;
  std::map<std::string, std::string> ended;
  for (const Formats& formats : all_formats()) {
    const std::string out = formats.state + "-" + formats.gradients;
    tiny.train(out, options_of(formats));
    const auto [other, fresh] = ended.emplace(tiny.digest(out), out);
    EXPECT_TRUE(fresh) << out << " ends as " << other->second;
  }
}

// An instruction set that is forced runs, says which it is, and gives the same bits each time, by
// however many threads. Two sets may differ: they are two keys, and a run does not change hands
// unsaid.
TEST(ForcedIsaSlow, EachThatThisMachineHasRepeatsItsBits) {
  const TinyRun tiny("tiny", options_of({"exact", "bf16"}));
  std::string before;
  for (const Isa isa : available_isas()) {
    const std::string name(name_of(isa)), option = "--run.isa=" + name;
    const Ended ended = tiny.train(name, option);
    EXPECT_NE(ended.err.find("1 threads, " + name + " |"), std::string::npos) << ended.err;
    EXPECT_EQ(ended.err.find("float32 arithmetic on bf16 storage") == std::string::npos,
              multiplies_bf16(isa))
        << ended.err;
    for (const char* threads : {" --run.threads=1", " --run.threads=2", " --run.threads=3"}) {
      tiny.train("again", option + threads);
      EXPECT_EQ(tiny.tensors("again"), tiny.tensors(name)) << name << threads;
      std::filesystem::remove_all(tiny.path("again"));
    }
    tiny.train("again", option + " --run.seed=1");
    EXPECT_NE(tiny.tensors("again"), tiny.tensors(name)) << name;
    std::filesystem::remove_all(tiny.path("again"));
    if (!before.empty()) {
      const std::string change = "run.isa \"" + before + "\" → \"" + name + "\"";
      const Ended refused = tiny.train(before, option, 2);
      EXPECT_NE(refused.err.find(change), std::string::npos) << refused.err;
    }
    before = name;
  }
}

TEST(ForcedIsa, AutoIsTheBestOne) {
  const TinyRun tiny("tiny", all_on);
  tiny.train("auto");
  tiny.train("best", "--run.isa=" + std::string(name_of(best_isa())));
  EXPECT_EQ(read_text(tiny.path("auto/key.txt")), read_text(tiny.path("best/key.txt")));
  EXPECT_EQ(tiny.tensors("auto"), tiny.tensors("best"));
}

struct Changing {
  std::string name, from, to, keys, said;
};

void PrintTo(const Changing& c, std::ostream* out) { *out << c.from << " → " << c.to; }

class ChangedFormats : public testing::TestWithParam<Changing> {};

const Changing changings[] = {
    {"exact_to_compact", "--plan.state=exact", "--plan.state=compact", "plan.state",
     R"(converted on reading: plan.state "exact" → "compact")"},
    {"compact_to_exact", "--plan.state=compact", "--plan.state=exact", "plan.state",
     R"(converted on reading: plan.state "compact" → "exact")"},
    {"float32_to_bf16", "--plan.precision=float32", "", "plan.precision",
     R"(converted on reading: plan.precision "float32" → "bf16")"},
    {"bf16_to_float32", "", "--plan.precision=float32", "plan.precision",
     R"(converted on reading: plan.precision "bf16" → "float32")"},
    {"float32_to_compact", "--plan.precision=float32", "--plan.state=compact",
     "plan.precision,plan.state",
     R"(converted on reading: plan.precision "float32" → "bf16", plan.state "exact" → "compact")"},
    {"unfrozen", "", "--optim.freeze=", "optim.freeze",
     R"(converted on reading: optim.freeze "*.mlp.c_fc.weight" → "")"},
    {"frozen", "--optim.freeze=", "", "optim.freeze", ""},
    {"averaged", "--optim.ema=0", "", "optim.ema", "the average of the weights begins here"},
    {"not_averaged", "", "--optim.ema=0", "optim.ema", ""},
    {"gradients", "--plan.gradients=float32", "--plan.gradients=int8", "plan.gradients", ""},
};
INSTANTIATE_TEST_SUITE_P(Resume, ChangedFormats, testing::ValuesIn(changings),
                         [](const auto& info) { return info.param.name; });

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> out;
  std::istringstream text(list);
  for (std::string one; std::getline(text, one, ',');) out.push_back(one);
  return out;
}

// Without --change nothing happens and both formats are named. With it the checkpoint becomes what
// this run keeps, that is said, and the run goes on from its loss; once it has saved, the next
// resume is an ordinary one.
TEST_P(ChangedFormats, AreRefusedUnlessNamedThenConverted) {
  const Changing& c = GetParam();
  const TinyRun tiny("tiny", all_on);
  tiny.train("run", c.from + " --fault train.step:kill@10", 137);  // saved at 9
  const auto files = contents_of(tiny.path("run"));
  const Ended refused = tiny.train("run", c.to, 2);
  for (const std::string& key : split(c.keys))
    EXPECT_NE(refused.err.find(key + " "), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("→"), std::string::npos) << refused.err;
  EXPECT_NE(refused.err.find("try: --change " + c.keys), std::string::npos) << refused.err;
  EXPECT_EQ(contents_of(tiny.path("run")), files);

  // Killed before it has saved in the new formats: what was accepted stays so.
  const std::string change = c.to + " --change " + c.keys;
  tiny.train("run", change + " --fault train.step:kill@1", 137);
  tiny.run("cp -r run twin");
  const Ended resumed = tiny.train("run", c.to);
  EXPECT_NE(resumed.err.find("at step 9"), std::string::npos) << resumed.err;
  if (c.said.empty())
    EXPECT_EQ(resumed.err.find("converted"), std::string::npos) << resumed.err;
  else
    EXPECT_NE(resumed.err.find("sluice: " + c.said + "\n"), std::string::npos) << resumed.err;
  EXPECT_EQ(tiny.steps("run"), steps_to(12));

  // It went on from there: as the run that changed nothing, or nearly.
  tiny.train("same", c.from);
  const auto loss_of = [&](const std::string& out) {
    double loss = 0;
    for (const nlohmann::json& row : tiny.rows(out))
      if (row.contains("val_loss")) loss = row["val_loss"];
    return loss;
  };
  EXPECT_NEAR(loss_of("run"), loss_of("same"), 0.03);
  // To convert is a function: twice is the same, and what was converted resumes bit for bit.
  tiny.train("twin", c.to + " --run.save_every=1 --fault train.step:kill@3", 137);  // saved at 11
  const Ended again = tiny.train("twin", c.to);
  EXPECT_NE(again.err.find("at step 11"), std::string::npos) << again.err;
  EXPECT_EQ(again.err.find("converted"), std::string::npos) << again.err;
  EXPECT_EQ(tiny.tensors("twin"), tiny.tensors("run"));
  EXPECT_NE(tiny.tensors("run"), tiny.tensors("same"));
}

// exact keeps every bit of a float32 master: into it and back again nothing is lost.
TEST(FormatChange, ExactHoldsAFloat32RunWithoutLoss) {
  const TinyRun tiny("tiny", "--optim.lr=0 --optim.lr_end=0");  // updates that change no weight
  tiny.train("run", "--run.tokens=384");
  const std::string before = tiny.tensors("run").at("model.safetensors");
  tiny.train("run", "--plan.precision=bf16 --run.tokens=768 --change plan.precision,run.tokens");
  EXPECT_NE(tiny.tensors("run").at("model.safetensors"), before);
  tiny.train("run", "--run.tokens=1152 --change plan.precision,run.tokens");
  EXPECT_EQ(tiny.tensors("run").at("model.safetensors"), before);

  const std::string compact = "--plan.precision=bf16 --plan.state=compact";  // the control
  tiny.train("run", compact + " --run.tokens=1536 --change plan.precision,plan.state,run.tokens");
  tiny.train("run", "--run.tokens=1920 --change plan.precision,plan.state,run.tokens");
  EXPECT_NE(tiny.tensors("run").at("model.safetensors"), before);
}

// The file of averages is a whole model, frozen tensors included.
TEST(FormatChange, TheAverageOfAFrozenModelIsRead) {
  const TinyRun tiny("tiny", all_on);
  tiny.train("run");
  const std::string eval = "sluice eval --checkpoint run --data corpus-val --json";
  const Ended average = tiny.run(eval + " --average"), newest = tiny.run(eval);
  ASSERT_EQ(average.exit, 0) << average.err;
  const double of_average = nlohmann::json::parse(average.out)["loss"];
  const double of_newest = nlohmann::json::parse(newest.out)["loss"];
  EXPECT_NE(of_average, of_newest);
  EXPECT_NEAR(of_average, of_newest, 1);
}

}  // namespace
}  // namespace sluice
