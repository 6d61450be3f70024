// Programs whose blobs stream: the validator lets the built ones pass, and refuses each mistake
// that one can make with a copy or a wait.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "mutants.h"
#include "tiny_models.h"

namespace sluice {
namespace {

using testing::implied;
using testing::refused;
using testing::tiny_programs;
using testing::TinyPlan;
using testing::without;

TinyPlan plan_of(const std::string& family, int passes, const std::string& homes, int slots) {
  TinyPlan out;
  out.family = family;
  out.passes = passes;
  out.layers = 3;
  out.homes = homes;
  out.slots = slots;
  return out;
}

TEST(StreamingProgram, EveryCombinationIsValid) {
  int programs = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1, 2})
      for (const int slots : {2, 3})
        for (const char* homes : {"host", "weights=host", "gradients=host", "optimizer=host",
                                  "host,weights@1=device"}) {
          const ProgramSet set = tiny_programs(plan_of(family, passes, homes, slots));
          EXPECT_NO_THROW(validate(set)) << family << " " << passes << " " << slots << " " << homes;
          programs += static_cast<int>(set.programs.size());
        }
  EXPECT_EQ(programs, 2 * 3 * 2 * 5 * 5);
}

TEST(StreamingProgram, AWaitIsNeededOrImplied) {
  int found = 0, others = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      const ProgramSet set = tiny_programs(plan_of(family, passes, "host", 2));
      const Program& steady = set.named("steady");
      for (std::size_t a = 0; a < steady.actions.size(); ++a)
        for (std::size_t w = 0; w < steady.actions[a].waits.size(); ++w) {
          Program cut = steady;
          auto& waits = cut.actions[a].waits;
          const Wait wait = waits[w];
          waits.erase(waits.begin() + static_cast<std::ptrdiff_t>(w));
          const bool seen = refused(set, cut);
          found += seen ? 1 : 0;
          others += seen ? 0 : 1;
          EXPECT_TRUE(seen || implied(set, cut, static_cast<int>(a), wait))
              << family << " " << passes << " " << steady.action_name(static_cast<int>(a));
        }
    }
  EXPECT_EQ(found, 118);
  EXPECT_EQ(others, 46);
}

TEST(StreamingProgram, EveryCopyIsNeeded) {
  int dropped = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      const ProgramSet set = tiny_programs(plan_of(family, passes, "host", 2));
      const Program& steady = set.named("steady");
      for (int a = 0; a < static_cast<int>(steady.actions.size()); ++a) {
        const Action& action = steady.actions[static_cast<std::size_t>(a)];
        if (!action.copies()) continue;
        ProgramSet mutant = set;
        Program& cut = mutant.programs[static_cast<std::size_t>(set.index_of("steady"))];
        cut = without(steady, a);
        bool seen = refused(mutant, cut);
        // What the dropped copy should have brought may be missed by the next program only.
        for (const Program& next : mutant.programs) seen = seen || refused(mutant, next);
        // Optimizer state that has a slot for itself still lies there from the step before; but the
        // first step of a run has not brought it.
        const bool alone = action.kind == Kind::optimizer && action.phase == Phase::fetch &&
                           set.residency->slot(action.layer, action.kind) == 1;
        EXPECT_NE(seen, alone) << family << " " << passes << " " << steady.action_name(a);
        ++dropped;
      }
    }
  EXPECT_EQ(dropped, 88);
}

// A slot or a batch is given back one action of the compute lane too early.
TEST(StreamingProgram, ReleasesAreNotOneActionEarlier) {
  int moved = 0, allowed = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      const ProgramSet set = tiny_programs(plan_of(family, passes, "host", 2));
      const Program& steady = set.named("steady");
      for (std::size_t a = 0; a < steady.actions.size(); ++a)
        for (std::size_t w = 0; w < steady.actions[a].waits.size(); ++w) {
          const Wait wait = steady.actions[a].waits[w];
          if (!steady.actions[a].copies() || wait.action < 0) continue;
          int earlier = wait.action - 1;
          const Lane lane = steady.actions[static_cast<std::size_t>(wait.action)].lane;
          while (earlier >= 0 && steady.actions[static_cast<std::size_t>(earlier)].lane != lane)
            --earlier;
          if (earlier < 0) continue;
          Program early = steady;
          early.actions[a].waits[w].action = earlier;
          const bool seen = refused(set, early);
          EXPECT_TRUE(seen || implied(set, early, static_cast<int>(a), wait))
              << family << " " << passes << " " << steady.action_name(static_cast<int>(a));
          ++(seen ? moved : allowed);
        }
    }
  EXPECT_EQ(moved, 58);
  EXPECT_EQ(allowed, 2);
}

// Bytes that move in a steady step: each blob twice up and down, less what the turns find in place.
TEST(StreamingProgram, MovesWhatTheClosedFormSays) {
  for (const int layers : {4, 7})
    for (const int slots : {2, 3})
      for (const int passes : {1, 2, 3}) {
        TinyPlan plan = plan_of("gpt2", passes, "host", slots);
        plan.layers = layers;
        const ProgramSet set = tiny_programs(plan);
        std::array<std::int64_t, blob_kinds> in{}, out{};
        for (const Action& action : set.named("steady").actions) {
          if (action.phase == Phase::fetch)
            in[static_cast<std::size_t>(action.kind)] += action.bytes;
          if (action.phase == Phase::leave)
            out[static_cast<std::size_t>(action.kind)] += action.bytes;
        }
        const auto bytes = [&](Kind kind) {
          return set.residency->blob_bytes(LayerKind::block, region_of(kind));
        };
        const std::int64_t l = layers, n = slots, p = passes;
        const std::int64_t weights = bytes(Kind::weights), gradients = bytes(Kind::gradients),
                           state = bytes(Kind::optimizer);
        // Weights: up and down in each pass, and n found at each of the 2 p turns. Updated ones go
        // home once.
        EXPECT_EQ(in[0], 2 * p * (l - n) * weights);
        EXPECT_EQ(out[0], l * weights);
        // Gradients: for each pass but the first back for more, unless a blob has its slot alone;
        // and once for the update, which finds the lowest n in place.
        const std::int64_t alone = std::max<std::int64_t>(0, 2 * n - l);
        EXPECT_EQ(in[1], ((p - 1) * (l - alone) + l - n) * gradients);
        EXPECT_EQ(out[1], ((p - 1) * (l - alone) + l - n) * gradients);
        EXPECT_EQ(in[2], l * state);
        EXPECT_EQ(out[2], l * state);
      }
}

}  // namespace
}  // namespace sluice
