// What a run leaves for a person to look at, and what it keeps: none of it changes a number.
#include <cmath>
#include <set>

#include "tiny_run.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

std::int64_t lines_in(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n');
}

TEST(Look, NothingOfItChangesTheNumbers) {
  const TinyRun tiny;
  tiny.train("plain");
  tiny.train("watched",
             "--run.sample_every=5 --run.sample_prompt=Gate --run.norms_every=5 "
             "--run.tensorboard=true --run.keep_best=true --run.keep_every=6");
  EXPECT_EQ(tiny.digest("watched"), tiny.digest("plain"));
  EXPECT_EQ(tiny.tensors("watched"), tiny.tensors("plain"));
  EXPECT_EQ(read_text(tiny.path("watched/key.txt")), read_text(tiny.path("plain/key.txt")));
  // The control: an option of the numbers does.
  tiny.train("other", "--run.seed=1");
  EXPECT_NE(tiny.digest("other"), tiny.digest("plain"));

  EXPECT_EQ(tiny.rows("watched", "samples.jsonl").size(), 3u);
  std::int64_t norms = 0;
  for (const Json& row : tiny.rows("watched")) {
    if (!row.contains("weight_norms")) continue;
    ++norms;
    ASSERT_EQ(row["weight_norms"].size(), 4u) << "embedding, two blocks, head";
    for (const Json& norm : row["weight_norms"]) EXPECT_GT(norm, 0.0);
    double squares = 0;
    for (const Json& norm : row.at("grad_norms"))
      squares += norm.get<double>() * norm.get<double>();
    for (const Json& step : tiny.rows("watched"))
      if (step["step"] == row["step"] && step.contains("loss")) {
        const double whole = step["grad_norm"];
        EXPECT_NEAR(std::sqrt(squares), whole, 1e-9 * whole);
      }
  }
  EXPECT_EQ(norms, 2);
}

// Steps of the checkpoints that are there.
std::set<std::int64_t> kept(const TinyRun& tiny, const std::string& out) {
  std::set<std::int64_t> steps;
  for (const std::string& name : tiny.checkpoints(out)) steps.insert(std::stoll(name.substr(5)));
  return steps;
}

TEST(Look, CheckpointsStayThatWereAskedFor) {
  const TinyRun tiny("tiny", "--run.keep_last=1 --run.save_every=2 --run.validate_every=0");
  tiny.train("last");
  EXPECT_EQ(kept(tiny, "last"), (std::set<std::int64_t>{12}));
  tiny.train("every", "--run.keep_every=4");
  EXPECT_EQ(kept(tiny, "every"), (std::set<std::int64_t>{4, 8, 12}));
}

// The learning rate grows until the loss does too, so that the best step is in the middle.
TEST(LookSlow, TheBestCheckpointStaysThroughAResume) {
  const TinyRun tiny("tiny",
                     "--run.keep_last=1 --run.save_every=0 --run.validate_every=1 "
                     "--run.validate_tokens=0 --run.keep_best=true --optim.lr=0.3 "
                     "--optim.lr_end=0.3 --optim.lr_schedule=constant --optim.warmup_tokens=768");
  tiny.train("whole");
  std::int64_t best = 0;
  double least = 1e9;
  for (const Json& row : tiny.rows("whole"))
    if (row.contains("val_loss") && row["val_loss"] < least)
      least = row["val_loss"], best = row["step"];
  ASSERT_LT(best, 12) << "the test wants a run that gets worse";
  ASSERT_GT(best, 1);
  EXPECT_EQ(kept(tiny, "whole"), (std::set<std::int64_t>{best, 12}));
  for (const Json& row : tiny.rows("whole"))
    EXPECT_TRUE(!row.contains("best") || row["step"] <= best) << row;

  // Stopped after the best one; what goes on knows of it.
  const std::string stop = "--fault train.step:kill@" + std::to_string(best + 2);
  tiny.train("parts", stop, 137);
  tiny.train("parts");
  EXPECT_EQ(kept(tiny, "parts"), (std::set<std::int64_t>{best, 12}));
  EXPECT_EQ(tiny.digest("parts"), tiny.digest("whole"));
}

TEST(Look, TheProgramAloneSaysTwelveLinesAndThreeThingsToTry) {
  const TinyRun tiny;
  const Ended alone = tiny.run("sluice");
  EXPECT_EQ(lines_in(alone.out), 12) << alone.out;
  const std::size_t begin = alone.out.find("Three things to try:\n");
  ASSERT_NE(begin, std::string::npos);
  const std::string tries = alone.out.substr(begin, alone.out.find("\n\n", begin) - begin);
  EXPECT_EQ(lines_in(tries), 3) << tries;
}

// What bash offers for a command line whose words are these, the last one unfinished.
std::set<std::string> offered(const TinyRun& tiny, const std::string& words) {
  const Ended ended = tiny.run(
      "sluice completion bash > complete.sh; bash -c '. ./complete.sh; COMP_WORDS=(" + words +
      "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _sluice; printf \"%s\\n\" \"${COMPREPLY[@]}\"'");
  EXPECT_EQ(ended.exit, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  std::set<std::string> out;
  std::istringstream text(ended.out);
  for (std::string line; std::getline(text, line);) out.insert(line);
  return out;
}

TEST(Look, BashCompletesCommandsOptionsAndValues) {
  const TinyRun tiny;
  using Words = std::set<std::string>;
  EXPECT_EQ(offered(tiny, "sluice gen"), (Words{"generate"}));
  EXPECT_EQ(offered(tiny, "sluice generate --top"), (Words{"--top-k", "--top-p"}));
  EXPECT_EQ(offered(tiny, "sluice train --run.keep"),
            (Words{"--run.keep_best=", "--run.keep_every=", "--run.keep_last="}));
  EXPECT_EQ(offered(tiny, "sluice train --resume \"\""), (Words{"auto", "never"}));
  EXPECT_EQ(offered(tiny, "sluice train --data.documents = sep"), (Words{"separate"}));
  EXPECT_EQ(offered(tiny, "sluice train --run.keep_best = \"\""), (Words{"true", "false"}));
  EXPECT_TRUE(offered(tiny, "sluice train gpt2-").contains("gpt2-124m"));
  EXPECT_TRUE(offered(tiny, "sluice train tin").contains("tiny.toml"));
  EXPECT_EQ(offered(tiny, "sluice eval --plan.hom"), (Words{"--plan.homes="}));
  EXPECT_EQ(offered(tiny, "sluice eval --run.seed"), (Words{""})) << "it is of training";
}

TEST(Look, OtherShellsAndThePagesNameEveryOption) {
  const TinyRun tiny;
  const std::string zsh = tiny.run("sluice completion zsh").out;
  const std::string fish = tiny.run("sluice completion fish").out;
  EXPECT_TRUE(zsh.starts_with("#compdef sluice\n"));
  tiny.run("mkdir pages; sluice man --out pages");
  const std::string page = read_text(tiny.path("pages/sluice-train.1"));
  EXPECT_EQ(page, tiny.run("sluice man train").out);
  const std::string help = tiny.run("sluice train --help").out;
  for (const char* key : {"model.width", "data.documents", "optim.skip_spikes", "plan.homes",
                          "run.keep_best", "run.tensorboard"}) {
    std::string in_roff = key;
    EXPECT_NE(help.find(in_roff.substr(in_roff.find('.') + 1)), std::string::npos) << key;
    EXPECT_NE(page.find("\\fB\\-\\-" + in_roff + "\\fR="), std::string::npos) << key;
    EXPECT_NE(zsh.find(std::string("--") + key + "="), std::string::npos) << key;
    EXPECT_NE(fish.find(std::string("-l '") + key + "'"), std::string::npos) << key;
  }
  for (const auto& entry : std::filesystem::directory_iterator(tiny.path("pages"))) {
    const std::string roff = read_text(entry.path());
    EXPECT_TRUE(roff.starts_with(".TH SLUICE")) << entry.path();
    EXPECT_NE(roff.find("\n.SH NAME\n"), std::string::npos);
  }
}

}  // namespace
}  // namespace sluice
