// Plan files from the command line: what `plan --save` writes, `--plan` runs, and a resumed run
// keeps.
#include <gtest/gtest.h>

#include "tiny_run.h"

namespace sluice {
namespace {

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

// The value that a plan file says: `key = value`.
std::string said(const std::string& text, const std::string& key) {
  const std::size_t at = text.find("\n" + key + " = ") + key.size() + 4;
  return text.substr(at, text.find_first_of(" \n", at) - at);
}

TEST(PlanFiles, ARunTakesThePlanAndKeepsIt) {
  const TinyRun tiny;
  const Ended saved = tiny.run(
      "instead plan tiny.toml --plan.homes=host --plan.slots=2 "
      "--plan.recompute=block --plan.micro_batch=2 --save p.toml");
  ASSERT_EQ(saved.exit, 0) << saved.err;
  const std::string plan = read_text(tiny.path("p.toml"));
  EXPECT_EQ(said(plan, "homes"), "\"host\"");
  // Saying the file's plan again is the same file; the plan is printed alike.
  const Ended again = tiny.run("instead plan tiny.toml --plan p.toml --save q.toml --json");
  EXPECT_EQ(read_text(tiny.path("q.toml")), plan);
  const Ended first = tiny.run(
      "instead plan tiny.toml --plan.homes=host --plan.slots=2 "
      "--plan.recompute=block --plan.micro_batch=2 --json");
  auto one = nlohmann::json::parse(first.out), other = nlohmann::json::parse(again.out);
  for (nlohmann::json* json : {&one, &other}) {
    json->erase("available");  // now
    json->erase("least");      // of what is open
  }
  EXPECT_EQ(one, other);

  tiny.train("whole", "--plan.micro_batch=2");
  EXPECT_NE(read_text(tiny.path("whole") / "plan.toml"), plan);
  tiny.train("run", "--plan p.toml --fault train.step:kill@7", 137);
  EXPECT_EQ(read_text(tiny.path("run") / "plan.toml"), plan);
  tiny.train("run", "--plan.micro_batch=2 --fault train.step:kill@4", 137);
  EXPECT_EQ(read_text(tiny.path("run") / "plan.toml"), plan) << "a resumed run planned anew";
  // The command line is above the file, and above what is kept.
  tiny.train("run", "--plan p.toml --plan.slots=3 --fault train.step:kill@1", 137);
  std::string three = plan;
  three.replace(three.find("slots = 2"), 9, "slots = 3");
  EXPECT_EQ(read_text(tiny.path("run") / "plan.toml"), three);
  tiny.train("run", "--plan.micro_batch=2 --plan.homes=optimizer=host");
  const std::string last = read_text(tiny.path("run") / "plan.toml");
  EXPECT_EQ(said(last, "homes"), "\"optimizer=host\"");
  EXPECT_EQ(said(last, "recompute"), "\"none\"") << "what was open is planned anew";
  EXPECT_EQ(tiny.digest("run"), tiny.digest("whole"));
}

TEST(PlanFiles, EvalAndGenerateTakeHomesAndSayOnceThatThereIsNoDirectDisk) {
  const TinyRun tiny;
  tiny.train("run", "--run.tokens=384");
  ASSERT_EQ(tiny.run("instead plan tiny.toml --plan.homes=weights@0-0=disk,optimizer=host "
                     "--plan.slots=2 --save p.toml")
                .exit,
            0);
  const std::string note =
      "the disk of run/checkpoints/step-00000003 knows no O_DIRECT: blobs go "
      "through the page cache";
  for (const std::string command :
       {"eval --data corpus-val", "generate --prompt x --max-tokens 3"}) {
    const std::string use = "instead " + command + " --checkpoint run --json";
    const Ended resident = tiny.run(use);
    const Ended planned = tiny.run(use + " --plan p.toml --fault scratch.direct:einval@1");
    ASSERT_EQ(planned.exit, 0) << planned.err;
    const auto a = nlohmann::json::parse(resident.out), b = nlohmann::json::parse(planned.out);
    EXPECT_GT(b["disk"].get<std::int64_t>(), 0);
    EXPECT_EQ(b["homes"], "weights@0-0=disk,optimizer=host");
    EXPECT_EQ(a["disk"].get<std::int64_t>(), 0);
    const char* result = a.contains("loss") ? "loss" : "ids";
    EXPECT_EQ(a[result], b[result]);
    EXPECT_EQ(count_of(planned.err, note), 1U) << planned.err;
    EXPECT_EQ(count_of(resident.err, "O_DIRECT"), 0U);
    const Ended above = tiny.run(use + " --plan p.toml --plan.homes=device");
    EXPECT_EQ(nlohmann::json::parse(above.out)["disk"].get<std::int64_t>(), 0) << above.err;
  }
}

// A kill between a save and the removal of the oldest checkpoint leaves one too many; the next
// start removes it, though it saves nothing itself.
TEST(PlanFiles, CheckpointsThatAKillLeftAreRemovedAtTheNextStart) {
  const TinyRun tiny;
  int found = 0;
  for (int at = 1; at < 40 && found == 0; ++at) {
    const std::string out = "run" + std::to_string(at);
    tiny.run(tiny.train_command(out,
                                "--run.keep_last=1 --run.tokens=768 --run.validate_every=0 "
                                "--fault save.rename:kill@" +
                                    std::to_string(at)));
    if (tiny.checkpoints(out).size() != 2 ||
        tiny.checkpoints(out)[1].find("step-00000006") == std::string::npos ||
        tiny.checkpoints(out)[1].ends_with(".tmp"))
      continue;
    ++found;
    tiny.train(out, "--run.keep_last=1 --run.tokens=768 --run.validate_every=0");
    EXPECT_EQ(tiny.checkpoints(out), std::vector<std::string>{"step-00000006"});
  }
  EXPECT_EQ(found, 1) << "no kill hit that place";
}

}  // namespace
}  // namespace sluice
