// The validator on programs of whole models: good ones pass, each planted mistake is found and both
// actions are named.
#include "program/validate.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tiny_models.h"

namespace sluice {
namespace {

using testing::tiny_programs;

std::string refusal(const ProgramSet& set, const Program& before, const Program& program) {
  try {
    validate(set, before, program);
  } catch (const Error& e) {
    return e.text();
  }
  return {};
}

TEST(Validate, programs_of_small_models_pass) {
  int pairs = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const Recompute level : {Recompute::none, Recompute::selective, Recompute::block})
      for (const bool fuse : {false, true})
        for (const auto& [micro_batches, passes] :
             {std::pair{1, 0}, {2, 0}, {3, 0}, {4, 0}, {1, 1}, {3, 1}, {4, 1}, {4, 2}, {5, 2}}) {
          SCOPED_TRACE(fmt::format("{} {} fuse {} micro-batches {} passes {}", family,
                                   name_of(level), fuse, micro_batches, passes));
          const ProgramSet set = tiny_programs({.family = family,
                                                .micro_batches = micro_batches,
                                                .passes = passes,
                                                .recompute = level,
                                                .fuse = fuse,
                                                .sample_rows = 2});
          EXPECT_NO_THROW(validate(set));
          pairs += static_cast<int>(set.programs.size() * set.programs.size());
        }
  EXPECT_EQ(pairs, 2 * 3 * 2 * 9 * 49);
}

// The action that waited, and the very action that it waited for.
bool names_both(const std::string& text, const Program& program, int action, const Wait& wait) {
  if (text.find(program.action_name(action) + " (this run, ") == std::string::npos) return false;
  if (wait.action < 0) return text.find(" (previous run, ") != std::string::npos;
  return text.find(program.action_name(wait.action) + " (this run, ") != std::string::npos;
}

TEST(Validate, every_wait_is_needed) {
  int removed = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const auto& [micro_batches, passes] :
         {std::pair{1, 0}, {2, 0}, {3, 0}, {4, 0}, {4, 1}, {4, 2}}) {
      const ProgramSet set =
          tiny_programs({.family = family, .micro_batches = micro_batches, .passes = passes});
      const Program& steady = set.named("steady");
      for (std::size_t a = 0; a < steady.actions.size(); ++a)
        for (std::size_t w = 0; w < steady.actions[a].waits.size(); ++w) {
          Program cut = steady;
          auto& waits = cut.actions[a].waits;
          const Wait wait = waits[w];
          waits.erase(waits.begin() + static_cast<std::ptrdiff_t>(w));
          // Which program runs before decides whether the wait is implied by another one.
          std::string text = refusal(set, steady, cut);
          for (const Program& before : set.programs)
            if (text.empty()) text = refusal(set, before, cut);
          EXPECT_NE(text.find("neither waits for the other"), std::string::npos)
              << family << " " << steady.action_name(static_cast<int>(a)) << "\n"
              << text;
          EXPECT_TRUE(names_both(text, steady, static_cast<int>(a), wait)) << text;
          ++removed;
        }
    }
  EXPECT_EQ(removed,
            2 * (2 + 4 + 6 + 8 + 8 + 8));  // a load waits for its slot, the first reader for it
}

TEST(Validate, a_removed_wait_is_told_in_full) {
  const ProgramSet set = tiny_programs({});
  Program cut = set.named("steady");
  const auto load = std::find_if(cut.actions.begin(), cut.actions.end(), [](const Action& a) {
    return a.phase == Phase::load && a.micro == 2;
  });
  ASSERT_NE(load, cut.actions.end());
  load->waits.clear();
  const std::string text = refusal(set, set.named("steady"), cut);
  EXPECT_NE(text.find(" (this run, steady) and "), std::string::npos) << text;
  EXPECT_NE(text.find("load micro 2 (this run, steady)"), std::string::npos) << text;
  EXPECT_NE(text.find("  where: program steady, bytes "), std::string::npos) << text;
}

// The list that `phase` runs at the layers of a kind.
OpList& list_of(Program& program, Phase phase, LayerKind kind) {
  const std::string name = fmt::format("{}.{}", name_of(kind), name_of(phase));
  return *std::find_if(program.lists.begin(), program.lists.end(),
                       [&](const OpList& list) { return list.name == name; });
}

// Moves a value of the blocks' forward by `bytes`; false when it has no place.
bool shift(Program& program, const std::string& value, std::int64_t bytes) {
  const LayerGraph& graph = program.model->of(LayerKind::block);
  Spot& spot = list_of(program, Phase::forward, LayerKind::block)
                   .values[static_cast<std::size_t>(graph.require_value(value))];
  spot.offset += bytes;
  return spot.known();
}

TEST(Validate, overlapping_values_are_found) {
  int found = 0;
  for (const char* name : {"ln_1", "attn.c_attn", "attn", "attn.lse", "attn.residual", "ln_2",
                           "mlp.c_fc", "mlp.gelu", "x", "attn.c_attn.weight"}) {
    const ProgramSet set = tiny_programs({.micro_batches = 2});
    const Program& steady = set.named("steady");
    for (const std::int64_t bytes : {256, -256}) {
      Program moved = steady;
      ASSERT_TRUE(shift(moved, name, bytes)) << name;
      const std::string text = refusal(set, steady, moved);
      EXPECT_NE(text, "") << name << " moved by " << bytes;
      found += text.empty() ? 0 : 1;
    }
  }
  EXPECT_EQ(found, 20);
  const ProgramSet set = tiny_programs({.micro_batches = 2});
  Program moved = set.named("steady");
  ASSERT_TRUE(shift(moved, "ln_1", std::int64_t{1} << 40));
  EXPECT_NE(refusal(set, set.named("steady"), moved).find("has no place for ln_1"),
            std::string::npos);
}

int position(const Program& program, Phase phase, int layer, int micro) {
  for (std::size_t i = 0; i < program.actions.size(); ++i) {
    const Action& a = program.actions[i];
    if (a.phase == phase && a.layer == layer && a.micro == micro) return static_cast<int>(i);
  }
  return -1;
}

// Exchanges two actions of the compute lane that no wait names.
std::string refusal_of_swap(const ProgramSet& set, int a, int b) {
  Program program = set.named("steady");
  EXPECT_TRUE(a >= 0 && b >= 0);
  std::swap(program.actions[static_cast<std::size_t>(a)],
            program.actions[static_cast<std::size_t>(b)]);
  return refusal(set, set.named("steady"), program);
}

TEST(Validate, a_wrong_schedule_is_found) {
  const ProgramSet set = tiny_programs({.micro_batches = 2});
  const Program& steady = set.named("steady");
  const auto at = [&](Phase phase, int layer, int micro) {
    return position(steady, phase, layer, micro);
  };
  const std::string early_w =
      refusal_of_swap(set, at(Phase::input_grad, 2, 0), at(Phase::weight_grad, 2, 0));
  EXPECT_NE(early_w.find("weight_grad block 1 micro 0 (this run, steady) reads "),
            std::string::npos)
      << early_w;
  const std::string early_f =
      refusal_of_swap(set, at(Phase::forward, 1, 1), at(Phase::forward, 2, 1));
  EXPECT_NE(early_f.find("forward block 1 micro 1 (this run, steady) reads the activation between "
                         "layers block 0 and block 1"),
            std::string::npos)
      << early_f;
  const std::string early_norm =
      refusal_of_swap(set, at(Phase::weight_grad, 1, 1), at(Phase::norm, 1, 1));
  EXPECT_NE(early_norm.find("norm block 0 (this run, steady) reads d."), std::string::npos)
      << early_norm;
  const std::string late =
      refusal_of_swap(set, at(Phase::weight_grad, 0, 0), at(Phase::weight_grad, 0, 1));
  EXPECT_NE(late, "") << "micro-batches out of order";
}

TEST(Validate, an_accumulator_starts_in_its_own_run) {
  const ProgramSet set = tiny_programs({.micro_batches = 2});
  Program program = set.named("steady");
  const int first = position(program, Phase::weight_grad, 1, 0);
  program.actions[static_cast<std::size_t>(first)].first = false;
  EXPECT_NE(refusal(set, set.named("steady"), program)
                .find("weight_grad block 0 micro 0 (this run, steady) reads d."),
            std::string::npos);
}

TEST(Validate, a_batch_field_is_where_the_load_put_it) {
  const ProgramSet set = tiny_programs({.micro_batches = 2});
  Program program = set.named("steady");
  std::vector<Spot>& values = list_of(program, Phase::forward, LayerKind::embedding).values;
  const LayerGraph& graph = program.model->embedding;
  std::swap(values[static_cast<std::size_t>(graph.require_value("ids"))],
            values[static_cast<std::size_t>(graph.require_value("positions"))]);
  EXPECT_NE(refusal(set, set.named("steady"), program)
                .find("forward embedding micro 0 (this run, steady) reads "),
            std::string::npos);
}

TEST(Validate, lanes_that_wait_for_each_other_are_found) {
  const ProgramSet set = tiny_programs({.micro_batches = 2});
  Program program = set.named("steady");
  const int load = position(program, Phase::load, 0, 1);
  const int last = static_cast<int>(program.actions.size()) - 1;
  program.actions[static_cast<std::size_t>(load)].waits.push_back({last});
  const std::string text = refusal(set, set.named("steady"), program);
  EXPECT_NE(text.find("lanes wait for each other for ever"), std::string::npos) << text;
  EXPECT_NE(text.find("load micro 1 (this run, steady)"), std::string::npos) << text;
}

}  // namespace
}  // namespace sluice
