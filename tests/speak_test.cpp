// What `sluice generate` and `sluice eval` say, beyond one prompt and one set.
#include <cmath>
#include <set>

#include "tiny_run.h"

namespace sluice {
namespace {

using Json = nlohmann::json;

class Speak : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    tiny_ = new TinyRun;
    tiny_->train("run");
  }
  static void TearDownTestSuite() { delete tiny_; }
  static Ended run(const std::string& command) {
    Ended ended = tiny_->run(command);
    EXPECT_EQ(ended.exit, 0) << command << "\n" << ended.err;
    return ended;
  }
  static Json generate(const std::string& options) {
    return Json::parse(
        run("sluice generate --checkpoint run --max-tokens 20 --json " + options).out);
  }
  static std::vector<Json> ids_of(const Json& made) {
    std::vector<Json> ids;
    for (const Json& one : made.at("samples")) ids.push_back(one.at("ids"));
    return ids;
  }

 private:
  static inline TinyRun* tiny_ = nullptr;
};

TEST_F(Speak, SamplesAreTheSameInAnyCompany) {
  const Json one = generate("--prompt Gate --seed 5");
  const std::vector<Json> five = ids_of(generate("--prompt Gate --seed 5 --samples 5"));
  ASSERT_EQ(five.size(), 5u);
  EXPECT_EQ(five[0], one["ids"]);
  EXPECT_EQ(std::set<Json>(five.begin(), five.end()).size(), 5u) << "each has draws of its own";
  EXPECT_EQ(ids_of(generate("--prompt Gate --seed 5 --samples 5 --at-once 2")), five);
  EXPECT_NE(ids_of(generate("--prompt Gate --seed 6 --samples 5")), five);
}

TEST_F(Speak, PromptsOfAFileAreEachContinued) {
  run("head -20 text.txt > some.txt");
  const Json made = generate("--prompts some.txt --temperature 0 --samples 2 --at-once 64");
  ASSERT_EQ(made.at("samples").size(), 40u);
  const Json seventh = generate("--prompt \"$(sed -n 7p text.txt)\" --temperature 0");
  EXPECT_EQ(made["samples"][12]["prompt"], 6);
  EXPECT_EQ(made["samples"][13]["sample"], 1);
  EXPECT_EQ(made["samples"][13]["ids"], seventh["ids"]);
  run("printf 'Gate 7\\nwas' > two.txt; printf 'one\\r\\n\\n' > lines.txt");
  EXPECT_EQ(generate("--prompt-file two.txt --temperature 0")["ids"],
            generate("--prompt 'Gate 7\nwas' --temperature 0")["ids"]);
  const Json lines = generate("--prompts lines.txt");
  ASSERT_EQ(lines.at("samples").size(), 2u);
  EXPECT_EQ(lines["samples"][0]["prompt_tokens"], 3) << "without its line's end";
}

TEST_F(Speak, SeveralTextsHaveHeads) {
  const Ended shown =
      run("sluice generate --checkpoint run --prompt Gate --samples 2 --max-tokens 5");
  EXPECT_TRUE(shown.out.starts_with("--- sample 1 of 2 ---\n")) << shown.out;
  EXPECT_NE(shown.out.find("\n--- sample 2 of 2 ---\n"), std::string::npos) << shown.out;
  const Ended one = run("sluice generate --checkpoint run --prompt Gate --max-tokens 5");
  EXPECT_EQ(one.out.find("---"), std::string::npos);
}

TEST_F(Speak, PenaltiesKeepItFromRepeating) {
  const auto kinds = [](const Json& ids) { return std::set<Json>(ids.begin(), ids.end()).size(); };
  const Json plain = generate("--prompt Gate --temperature 0");
  const Json apart = generate("--prompt Gate --temperature 0 --presence-penalty 100");
  EXPECT_LT(kinds(plain["ids"]), 20u);
  EXPECT_EQ(kinds(apart["ids"]), 20u) << "no id twice";
  EXPECT_NE(generate("--prompt Gate --temperature 0 --repetition-penalty 3")["ids"], plain["ids"]);
  EXPECT_NE(generate("--prompt Gate --temperature 0 --frequency-penalty 5")["ids"], plain["ids"]);
}

TEST_F(Speak, ATalkGoesOnFromTheTextSoFar) {
  const std::string talk =
      "sluice generate --checkpoint run --max-tokens 20 --temperature 0 --interactive";
  const Ended ended = run("printf 'Gate\\n/new\\nGate\\n 1\\n/quit\\nGate\\n' | " + talk);
  const std::string first = generate("--prompt Gate --temperature 0")["text"];
  ASSERT_EQ(ended.out.substr(0, first.size() + 1), first + "\n");
  EXPECT_EQ(ended.out.substr(first.size() + 1, first.size() + 1), first + "\n") << "all forgotten";
  const Json third = generate("--prompt 'Gate" + first + "\n 1' --temperature 0");
  EXPECT_EQ(ended.out, first + "\n" + first + "\n" + third["text"].get<std::string>() + "\n");
}

TEST_F(Speak, SetsAreToldApart) {
  const auto eval = [](const std::string& options) {
    return Json::parse(run("sluice eval --checkpoint run --json " + options).out);
  };
  const Json both = eval("--data held=corpus-val --data corpus --tokens 500 --accuracy");
  const Json held = eval("--data corpus-val --tokens 500"),
             seen = eval("--data corpus --tokens 500");
  EXPECT_EQ(both.at("sets").at("held").at("loss"), held.at("loss"));
  EXPECT_EQ(both.at("sets").at("corpus").at("loss"), seen.at("loss"));
  EXPECT_NE(held["loss"], seen["loss"]);
  EXPECT_FALSE(held.contains("accuracy"));
  const double accuracy = both["sets"]["held"].at("accuracy");
  EXPECT_GT(accuracy, 0.05);
  EXPECT_LT(accuracy, 1.0);
  const Ended text =
      run("sluice eval --checkpoint run --data held=corpus-val --data corpus --tokens 50");
  EXPECT_TRUE(text.out.starts_with("held:   loss ")) << text.out;
  EXPECT_NE(text.out.find("\ncorpus: loss "), std::string::npos) << text.out;
}

// A path with '=' in it is no name.
TEST_F(Speak, ANameEndsBeforeAnyFolder) {
  run("mkdir -p a=b && cp corpus-val.* a=b/");
  const Ended text = run(
      "sluice eval --checkpoint run --data x=a=b/corpus-val --data ./a=b/corpus-val --tokens 50");
  EXPECT_TRUE(text.out.starts_with("x:                ")) << text.out;
}

TEST_F(Speak, AReportIsMadeOfRuns) {
  EXPECT_EQ(run("sluice report run").out, "run/report.html\n");
  const Json made = Json::parse(run("sluice report run run --out two.html --json").out);
  EXPECT_EQ(made.at("file"), "two.html");
  EXPECT_EQ(made.at("runs").size(), 2u);
  EXPECT_EQ(made["runs"][0].at("steps"), 12);
  EXPECT_TRUE(run("cat run/report.html").out.starts_with("<!doctype html>"));
}

}  // namespace
}  // namespace sluice
