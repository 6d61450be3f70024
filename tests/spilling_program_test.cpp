// Programs whose stash is spilled to host memory: the validator lets the built ones pass and
// refuses each mistake, and what moves is what the closed form says.
#include <gtest/gtest.h>

#include "program/test_mutants.h"
#include "tiny_models.h"

namespace sluice {
namespace {

using testing::Mutants;
using testing::tiny_programs;
using testing::TinyPlan;

TinyPlan plan_of(const std::string& family, int passes, const std::string& homes, int slots,
                 Recompute recompute = Recompute::none) {
  TinyPlan out = testing::streaming_plan(family, passes, homes, slots);
  out.spill = true;
  out.recompute = recompute;
  return out;
}

constexpr Recompute levels[] = {Recompute::none, Recompute::selective, Recompute::block};

TEST(SpillingProgram, EveryCombinationIsValid) {
  int programs = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1, 2})
      for (const int slots : {2, 3, 4, 40})
        for (const Recompute recompute : levels)
          for (const char* homes : {"device", "host,weights@1=device", "disk,gradients@0=host"}) {
            const ProgramSet set = tiny_programs(plan_of(family, passes, homes, slots, recompute));
            EXPECT_NO_THROW(validate(set))
                << family << " " << passes << " " << slots << " " << homes;
            programs += static_cast<int>(set.programs.size());
          }
  EXPECT_EQ(programs, 2 * 3 * 4 * 3 * 3 * 5);
}

TEST(SpillingProgram, AWaitIsNeededOrImplied) {
  Mutants all;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      const ProgramSet set = tiny_programs(plan_of(family, passes, "device", 2));
      const Mutants found = testing::without_waits(set, set.named("steady"));
      all.refused += found.refused;
      all.implied += found.implied;
    }
  EXPECT_EQ(all.refused, 160);
  EXPECT_EQ(all.implied, 18);
}

TEST(SpillingProgram, EveryCopyIsNeeded) {
  int dropped = 0, kept = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      const ProgramSet set = tiny_programs(plan_of(family, passes, "device", 2));
      const Program& steady = set.named("steady");
      for (int a = 0; a < static_cast<int>(steady.actions.size()); ++a) {
        if (!steady.actions[static_cast<std::size_t>(a)].copies()) continue;
        EXPECT_TRUE(testing::is_missed(set, "steady", a)) << steady.action_name(a);
        ++(steady.actions[static_cast<std::size_t>(a)].phase == Phase::keep ? kept : dropped);
      }
    }
  EXPECT_EQ(dropped, 84);
  EXPECT_EQ(kept, 2 * 2 * 3 * 4);  // families, schedules, micro-batches, blocks and head
}

TEST(SpillingProgram, ReleasesAreNotOneActionEarlier) {
  Mutants all;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      const ProgramSet set = tiny_programs(plan_of(family, passes, "device", 2));
      const Mutants found = testing::with_early_releases(set, set.named("steady"), false);
      all.refused += found.refused;
      all.implied += found.implied;
    }
  EXPECT_EQ(all.refused, 144);
  EXPECT_EQ(all.implied, 10);
}

// Its home is host memory, wherever blobs are.
TEST(SpillingProgram, AStashIsNeverOnDisk) {
  TinyPlan kept = plan_of("gpt2", 1, "disk", 2);
  const ProgramSet spilled = tiny_programs(kept);
  kept.spill = false;
  const ProgramSet set = tiny_programs(kept);
  EXPECT_EQ(spilled.memory.disk_bytes(), set.memory.disk_bytes());
  EXPECT_GT(spilled.memory.host_bytes(), set.memory.host_bytes());
  int copies = 0;
  for (const Action& action : spilled.named("steady").actions) {
    if (action.kind != Kind::stash || action.phase == Phase::keep) continue;
    EXPECT_TRUE(action.phase == Phase::fetch || action.phase == Phase::leave);
    const std::int64_t home = action.phase == Phase::fetch ? action.from : action.to;
    EXPECT_GE(home, spilled.memory.begin(Tier::host));
    EXPECT_LE(home + action.bytes, spilled.memory.end(Tier::host));
    ++copies;
  }
  EXPECT_GT(copies, 0);
}

struct Moved {
  std::int64_t in = 0, out = 0, kept = 0;
};

Moved moved_by(const Program& program) {
  Moved out;
  for (const Action& action : program.actions) {
    if (action.kind != Kind::stash) continue;
    if (action.phase == Phase::fetch) out.in += action.bytes;
    if (action.phase == Phase::leave) out.out += action.bytes;
    if (action.phase == Phase::keep) out.kept += action.bytes;
  }
  return out;
}

// With block recompute a block's stash is its input alone. Each stash goes out and comes back once
// a step, less those that the turn of a pass finds in their slots: the last ones made, if a slot
// for each micro-batch of the pass is there; the head's first, then the blocks' from the top.
TEST(SpillingProgram, MovesWhatTheClosedFormSays) {
  constexpr std::int64_t input = 2 * 16 * 32 * 4;  // rows, tokens, width, float32
  for (const int blocks : {3, 6})
    for (const int passes : {0, 1, 2, 3})
      for (const int slots : {2, 3, 5, 100}) {
        TinyPlan plan = plan_of("gpt2", passes, "device", slots, Recompute::block);
        plan.layers = blocks;
        plan.micro_batches = 6;
        const ProgramSet set = tiny_programs(plan);
        const std::int64_t rounds = passes == 0 ? 6 : passes, at_once = 6 / rounds;
        // What the head keeps: its input, and the gradient that its loss has left.
        const std::int64_t head = 2 * input;
        const std::int64_t turn = slots < at_once ? 0 : slots - at_once;  // of the blocks
        const std::int64_t blocks_moved = std::max<std::int64_t>(0, blocks * at_once - turn);
        const std::int64_t heads_moved = slots < at_once ? at_once : 0;
        const Moved moved = moved_by(set.named("steady"));
        const std::int64_t expected = rounds * (blocks_moved * input + heads_moved * head);
        EXPECT_EQ(moved.in, expected) << blocks << " " << passes << " " << slots;
        EXPECT_EQ(moved.out, expected) << blocks << " " << passes << " " << slots;
        EXPECT_EQ(moved.kept, 6 * (blocks + 1) * input);
      }
}

}  // namespace
}  // namespace sluice
