// What the planner answers for published models on described machines, word for word: files that a
// person reads, each command in a line that begins with "$ ". tools/goldens/make_plans writes them.
#include <gtest/gtest.h>

#include "models/published.h"
#include "planner/simulate.h"
#include "tiny_run.h"
#include "train/assembly.h"
#include "train/fit.h"
#include "train/machine_fit.h"

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

// Weights and optimizer state in 12 or 4 bytes a parameter; gradients at rest in 2 where they leave
// the device, and in 4 where they stay, as those of embedding and head do.
void check_bytes(const Answer& answer) {
  const double state = answer.command.find("=compact") != std::string::npos ? 4 : 12;
  const std::size_t name = answer.command.find("plan ") + 5;
  ModelConfig model =
      load_config(answer.command.substr(name, answer.command.find(' ', name) - name)).model;
  const auto blocks = static_cast<int>(model.layers);
  const auto all = static_cast<double>(parameters_of(model));
  --model.layers;
  const double block = all - static_cast<double>(parameters_of(model));
  const std::size_t homes = answer.text.find("homes: ") + 7;
  const int away =
      parse_homes(answer.text.substr(homes, answer.text.find(';', homes) - homes), blocks)
          .streaming(Kind::gradients);
  const double gradients = 4 - 2 * away * block / all;
  const std::size_t at = answer.text.find("at rest: ");
  ASSERT_NE(at, std::string::npos) << answer.text;
  // Embedding and vectors have state of other formats, whatever gradients rest in.
  EXPECT_NEAR(std::stod(answer.text.substr(at + 9)), state + gradients, 0.02 * (state + 4))
      << answer.command;
}

// Three changes that would fit: more disk or host memory, a smaller model, fewer blocks are there
// for every one of these models.
void check_tries(const Answer& answer) {
  int tries = 0;
  for (std::size_t at = answer.text.find("\n  try: "); at != std::string::npos;
       at = answer.text.find("\n  try: ", at + 1))
    ++tries;
  EXPECT_EQ(tries, 3) << answer.command << "\n" << answer.text;
}

// The first placement that fits is not the fastest: its step is predicted to be longer.
TEST(Planner, TakesTheFastestThatFits) {
  const Machine machine = load_machine("h200x4-one");
  Config config = load_config("gigagpt-13b");
  config.batch.tokens = 512 * 2048;
  config = on_machine(config, machine);
  const Plan plan = plan_of(config, machine);
  EXPECT_EQ(plan.numerics.precision, DType::bf16);
  const Plan first = placed(config, plan, 1), best = fastest(config, plan, machine, 1);
  const ProgramSet set = assemble_training(config, best, 1);
  EXPECT_LE(set.memory.total(), machine.device_budget());
  EXPECT_LE(set.memory.host_bytes(), machine.host_budget());
  EXPECT_GT(set.memory.host_bytes(), 0);
  EXPECT_EQ(best.micro_batch, first.micro_batch);
  EXPECT_EQ(best.head_chunk, first.head_chunk);
  EXPECT_LT(simulate(set, machine).seconds,
            0.95 * simulate(assemble_training(config, first, 1), machine).seconds);
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
      EXPECT_TRUE(ended.exit == 0 || ended.exit == 4 || ended.exit == 6) << ended.exit;
      if (ended.exit == 0) check_bytes(answer);
      if (ended.exit != 0) check_tries(answer);
      ++answers;
      refusals += ended.exit == 0 ? 0 : 1;
    }
  }
  EXPECT_EQ(answers, 4 * 3 * 2 * 2);
  EXPECT_EQ(refusals, 21);
}

}  // namespace
}  // namespace sluice
