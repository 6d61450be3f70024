// kill -9 in the middle of streamed steps: whatever copies were on their way, the run resumes and
// ends in the bits of one that was not disturbed, with nothing left behind.
#include <fmt/format.h>
#include <signal.h>

#include <chrono>
#include <random>
#include <set>
#include <thread>

#include "support/undisturbed.h"

namespace sluice {
namespace {

using namespace testing_support;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr int steps = 12;

// Six blocks in parts, everything at home on the host, through two slots, as little kept as can be.
// Poison delays every copy, so that steps are long beside whatever else a run does.
const char* const streams =
    "--model.layers=6 --plan.precision=bf16 --run.poison=true --run.validate_every=0";

std::string with_least_budget(const TinyRun& tiny) {
  const Ended plan = tiny.run(std::string("sluice plan tiny.toml --json ") + streams);
  EXPECT_EQ(plan.exit, 0) << plan.err;
  const auto least = nlohmann::json::parse(plan.out).at("least").at("device").get<std::int64_t>();
  std::string out = fmt::format("{} --plan.device_memory={}", streams, least);
  const Ended small = tiny.run("sluice plan tiny.toml --json " + out);
  EXPECT_EQ(nlohmann::json::parse(small.out).at("blobs"), "parts");
  return out;
}

std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

std::size_t rows_of(const TinyRun& tiny, const std::string& out) {
  const std::string text = read_text(tiny.path(out) / "metrics.jsonl");
  std::size_t rows = 0;
  for (std::size_t at = text.find("\"loss\""); at != text.npos; at = text.find("\"loss\"", at + 1))
    ++rows;
  return rows;
}

struct Killed {
  bool killed = false;   // false: the run was quicker
  std::size_t rows = 0;  // steps that were told when it died
};

// Kills the run some time after `rows` steps were told.
Killed kill_in_a_step(const TinyRun& tiny, const std::string& out, const std::string& options,
                      std::size_t rows, double seconds) {
  Process process(tiny.train_command(out, options), tiny.path());
  while (rows_of(tiny, out) < rows && process.running())
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  std::this_thread::sleep_for(Seconds(seconds));
  process.signal(SIGKILL);
  return {process.wait().exit == 137, rows_of(tiny, out)};
}

// Twenty points: a step, and a share of its time.
TEST(StreamingSlow, TwentyKillsInsideStepsEndInTheSameDigest) {
  constexpr unsigned seed = 20265;
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::printf("kills with seed %u\n", seed);
  const TinyRun tiny;
  tiny.train("resident", streams);
  const std::string options = with_least_budget(tiny);
  const Clock::time_point begin = Clock::now();
  tiny.train("whole", options);
  const double step_seconds = Seconds(Clock::now() - begin).count() / steps;
  EXPECT_EQ(tiny.tensors("whole"), tiny.tensors("resident"));
  const std::set<std::string> before = names_in(tiny.path());

  std::mt19937 random(seed);
  int kills = 0, tries = 0;
  std::set<std::size_t> steps_hit;
  for (; kills < 20 && tries < 60; ++tries) {
    const std::size_t rows = random() % (steps - 1);
    const double seconds = step_seconds * static_cast<double>(random() % 1000) / 1000;
    const Killed result = kill_in_a_step(tiny, "run", options, rows, seconds);
    if (result.killed) {
      ++kills;
      steps_hit.insert(result.rows);
      tiny.train("run", options);
      expect_whole(tiny, "run", "whole");
    }
    std::filesystem::remove_all(tiny.path("run"));
    EXPECT_EQ(names_in(tiny.path()), before) << "something was left behind";
    if (testing::Test::HasFailure()) break;
  }
  std::printf("%d kills in %d tries, in %zu different steps\n", kills, tries, steps_hit.size());
  EXPECT_EQ(kills, 20);
  EXPECT_GE(steps_hit.size(), 6u);

  // Runs that differ are seen to.
  tiny.train("run", options + " --run.seed=1");
  EXPECT_NE(tiny.tensors("run"), tiny.tensors("whole"));
}

}  // namespace
}  // namespace sluice
