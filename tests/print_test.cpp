// What `sluice plan --show` prints. The golden file is written anew by
//   SLUICE_WRITE_GOLDENS in the environment of this program, as `make goldens` does.
#include "program/print.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tiny_models.h"

namespace sluice {
namespace {

using testing::tiny_programs;
using testing::TinyPlan;

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Print, the_steady_program_is_the_golden_file) {
  const std::string path = SLUICE_SOURCE_DIR "/tests/goldens/plan/gpt2-2-layers.program.txt";
  const ProgramSet set = tiny_programs({.micro_batches = 2});
  const std::string text = print_program(set, set.named("steady"));
  if (std::getenv("SLUICE_WRITE_GOLDENS") != nullptr) std::ofstream(path) << text;
  EXPECT_EQ(text, text_of(path));
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 60);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 160u) << line;
  // Negative control: one wait fewer shows.
  Program cut = set.named("steady");
  for (Action& action : cut.actions) action.waits.clear();
  EXPECT_NE(print_program(set, cut), text);
}

TEST(Print, long_programs_are_folded) {
  const ProgramSet set = tiny_programs({.micro_batches = 64});
  const std::string text = print_program(set, set.named("steady"));
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 120);
  EXPECT_NE(text.find(" more: the same for the layers and micro-batches between"),
            std::string::npos);
  EXPECT_NE(text.find("load micro 63"), std::string::npos);
  EXPECT_EQ(text.find("load micro 30"), std::string::npos);
}

TEST(Print, a_graph_says_values_and_ops) {
  const ProgramSet set = tiny_programs({.micro_batches = 2});
  const std::string text = print_graph(*set.model);
  for (const char* line : {
           "attn, attn.lse = attention(attn.c_attn, starts)",
           "adds to d.mlp.c_fc.weight, d.mlp.c_fc.bias",
           "add_into(head.d.wte) updates d.wte",
           "wte                          f32   [V128 D32]                 weight of the embedding",
       })
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
}

TEST(Print, spilled_stashes_have_slots) {
  TinyPlan plan{.micro_batches = 2};
  plan.spill = true;
  plan.slots = 2;
  const ProgramSet set = tiny_programs(plan);
  const std::string text = print_program(set, set.named("steady"));
  for (const char* word :
       {"leave stash block 0 micro 0", "stash slot 0 -> host", "keep stash block 1 micro 0",
        "carry -> stash slot 1", "fetch stash block 0 micro 0", "host -> stash slot 0"})
    EXPECT_NE(text.find(word), std::string::npos) << word << "\n" << text;
  const std::string memory = print_memory(set);
  EXPECT_NE(memory.find("on the host"), std::string::npos) << memory;
  EXPECT_EQ(memory.substr(memory.find("layer")).find(" stash "), std::string::npos) << memory;
}

TEST(Print, memory_adds_up) {
  const ProgramSet set = tiny_programs({.micro_batches = 2});
  const std::string text = print_memory(set);
  for (const char* word : {"weights", "optimizer", "block 1", "head", "stash"})
    EXPECT_NE(text.find(word), std::string::npos) << word;
  // The layers' stashes lie side by side and are the region.
  std::int64_t stash = 0;
  std::istringstream lines(text.substr(text.find("layer")));
  for (std::string line; std::getline(lines, line);) {
    if (line.find(" stash ") == std::string::npos) continue;
    std::string bytes = line.substr(line.rfind(' ') + 1);
    std::erase(bytes, ',');
    stash += align_up(std::stoll(bytes), blob_alignment);
  }
  EXPECT_EQ(stash, align_up(set.memory.bytes(Region::stash), blob_alignment));
}

}  // namespace
}  // namespace sluice
