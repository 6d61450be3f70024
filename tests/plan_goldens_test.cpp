// What the planner answers for published models on described machines, word for word: files that a
// person reads, each command in a line that begins with "$ ". tools/goldens/make_plans writes them.
#include <gtest/gtest.h>

#include "tiny_run.h"

namespace sluice {
namespace {

struct Answer {
  std::string command, text;
};

std::vector<Answer> answers_in(const std::string& text) {
  std::vector<Answer> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at) + 1;
    const std::string line = text.substr(at, end - at);
    if (line.starts_with("$ sluice "))
      out.push_back({line.substr(9, line.size() - 10), {}});
    else
      out.back().text += line;
    at = end;
  }
  return out;
}

// Weights and optimizer state in 12 or 4 bytes a parameter, and gradients at rest in float32.
void check_bytes(const Answer& answer) {
  const double state = answer.command.find("=compact") != std::string::npos ? 4 : 12;
  constexpr double gradients = 4;
  const std::size_t at = answer.text.find("at rest: ");
  ASSERT_NE(at, std::string::npos) << answer.text;
  EXPECT_NEAR(std::stod(answer.text.substr(at + 9)) / (state + gradients), 1, 0.02)
      << answer.command;
}

TEST(PlanGoldensSlow, AnswersAreThoseOnFile) {
  const TinyRun tiny;
  int answers = 0, refusals = 0;
  for (const char* model : {"gigagpt-13b", "gigagpt-70b", "gigagpt-175b", "gptj-6b"}) {
    const std::string file =
        std::string(SLUICE_SOURCE_DIR) + "/tests/goldens/plans/" + model + ".txt";
    for (const Answer& answer : answers_in(read_text(file))) {
      const Ended ended = tiny.run("instead " + answer.command);
      EXPECT_EQ(ended.out + ended.err, answer.text) << file << ": " << answer.command;
      EXPECT_TRUE(ended.exit == 0 || ended.exit == 4) << ended.exit;
      if (ended.exit == 0) check_bytes(answer);
      ++answers;
      refusals += ended.exit == 0 ? 0 : 1;
    }
  }
  EXPECT_EQ(answers, 4 * 3 * 2 * 2);
  EXPECT_EQ(refusals, 28);
}

}  // namespace
}  // namespace sluice
