// Programs whose blobs stream: the validator lets the built ones pass, and refuses each mistake
// that one can make with a copy or a wait.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "program/happens_before.h"
#include "program/validate.h"
#include "tiny_models.h"

namespace sluice {
namespace {

using testing::tiny_programs;
using testing::TinyPlan;

TinyPlan plan_of(const std::string& family, int passes, const std::string& homes, int slots) {
  TinyPlan out;
  out.family = family;
  out.passes = passes;
  out.layers = 3;
  out.homes = homes;
  out.slots = slots;
  return out;
}

bool refused(const ProgramSet& set, const Program& program) {
  for (const Program& before : set.programs) {
    if (before.ends_settled != program.begins_settled) continue;
    try {
      validate(set, before, program);
    } catch (const Error&) {
      return true;
    }
  }
  return false;
}

// Whether `program`, without a wait of `action` for `other`, still runs it behind that one.
bool implied(const ProgramSet& set, const Program& program, int action, const Wait& wait) {
  for (const Program& before : set.programs) {
    if (before.ends_settled != program.begins_settled) continue;
    const HappensBefore order(before, program);
    const int first = static_cast<int>(before.actions.size());
    const int other =
        wait.action >= 0 ? wait.action + first : before.marks[static_cast<std::size_t>(wait.mark)];
    if (other >= 0 && !order.ordered(other, action + first)) return false;
  }
  return true;
}

TEST(StreamingProgram, EveryCombinationIsValid) {
  int programs = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1, 2})
      for (const int slots : {2, 3})
        for (const char* homes :
             {"host", "weights=host", "gradients=host", "optimizer=host", "host,weights@1=device",
              "disk", "host,optimizer=disk", "disk,weights@1=host,gradients@0=device"}) {
          const ProgramSet set = tiny_programs(plan_of(family, passes, homes, slots));
          EXPECT_NO_THROW(validate(set)) << family << " " << passes << " " << slots << " " << homes;
          programs += static_cast<int>(set.programs.size());
        }
  EXPECT_EQ(programs, 2 * 3 * 2 * 8 * 5);
}

struct Mutants {
  int refused = 0, others = 0;
  bool operator==(const Mutants&) const = default;
};

Mutants without_each_wait(const char* homes) {
  Mutants out;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      const ProgramSet set = tiny_programs(plan_of(family, passes, homes, 2));
      const Program& steady = set.named("steady");
      for (std::size_t a = 0; a < steady.actions.size(); ++a)
        for (std::size_t w = 0; w < steady.actions[a].waits.size(); ++w) {
          Program cut = steady;
          auto& waits = cut.actions[a].waits;
          const Wait wait = waits[w];
          waits.erase(waits.begin() + static_cast<std::ptrdiff_t>(w));
          const bool seen = refused(set, cut);
          ++(seen ? out.refused : out.others);
          EXPECT_TRUE(seen || implied(set, cut, static_cast<int>(a), wait))
              << family << " " << passes << " " << steady.action_name(static_cast<int>(a));
        }
    }
  return out;
}

TEST(StreamingProgram, AWaitIsNeededOrImplied) {
  EXPECT_EQ(without_each_wait("host"), (Mutants{118, 46}));
  EXPECT_EQ(without_each_wait("disk"), (Mutants{268, 68}));
}

// The program without an action; who waited for it waits for what it waited for.
Program without(const Program& program, int dropped) {
  Program out = program;
  const std::vector<Wait> inherited = out.actions[static_cast<std::size_t>(dropped)].waits;
  out.actions.erase(out.actions.begin() + dropped);
  const auto moved = [&](int action) { return action > dropped ? action - 1 : action; };
  for (Action& action : out.actions) {
    std::vector<Wait> waits;
    for (const Wait& wait : action.waits) {
      if (wait.action == dropped)
        waits.insert(waits.end(), inherited.begin(), inherited.end());
      else
        waits.push_back(wait);
    }
    for (Wait& wait : waits) wait.action = moved(wait.action);
    action.waits = waits;
  }
  for (int& action : out.marks) action = action == dropped ? -1 : moved(action);
  return out;
}

int drop_each_copy(const char* homes) {
  int dropped = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      const ProgramSet set = tiny_programs(plan_of(family, passes, homes, 2));
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
        // What has a slot for itself lies there from step to step: optimizer state need not come
        // again, but the first step of a run has not brought it (without the fetch, a read brings
        // something to nobody, which is refused); weights need not be on disk before a flush.
        const bool alone = set.residency->slot(action.layer, action.kind) == 1 &&
                           (set.memory.disk_bytes() == 0
                                ? action.kind == Kind::optimizer && action.phase == Phase::fetch
                                : action.kind == Kind::weights && action.phase == Phase::write);
        EXPECT_NE(seen, alone) << family << " " << passes << " " << steady.action_name(a);
        ++dropped;
      }
    }
  return dropped;
}

TEST(StreamingProgram, EveryCopyIsNeeded) {
  EXPECT_EQ(drop_each_copy("host"), 88);
  EXPECT_EQ(drop_each_copy("disk"), 164);
}

// A slot or a batch is given back one action of its lane too early.
Mutants with_early_releases(const char* homes) {
  Mutants out;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      const ProgramSet set = tiny_programs(plan_of(family, passes, homes, 2));
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
          ++(seen ? out.refused : out.others);
        }
    }
  return out;
}

TEST(StreamingProgram, ReleasesAreNotOneActionEarlier) {
  EXPECT_EQ(with_early_releases("host"), (Mutants{58, 2}));
  EXPECT_EQ(with_early_releases("disk"), (Mutants{170, 2}));
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

// From disk and to disk moves what moves between host and device, in whole pages.
TEST(StreamingProgram, MovesTheSameBlobsFromAndToDisk) {
  for (const int passes : {1, 2}) {
    TinyPlan plan = plan_of("gpt2", passes, "disk,weights=host,gradients@0=device", 2);
    plan.layers = 7;
    const ProgramSet set = tiny_programs(plan);
    std::array<int, blob_kinds> fetched{}, left{}, read{}, written{};
    for (const Action& action : set.named("steady").actions) {
      if (action.kind == Kind::count) continue;
      const auto k = static_cast<std::size_t>(action.kind);
      fetched[k] += action.phase == Phase::fetch ? 1 : 0;
      left[k] += action.phase == Phase::leave ? 1 : 0;
      read[k] += action.phase == Phase::read ? 1 : 0;
      written[k] += action.phase == Phase::write ? 1 : 0;
      if (action.lane != Lane::disk_read && action.lane != Lane::disk_write) continue;
      const std::int64_t bytes =
          set.residency->blob_bytes(LayerKind::block, region_of(action.kind));
      EXPECT_EQ(action.bytes, align_up(bytes, blob_alignment));
      for (const std::int64_t offset : {action.from, action.to})
        EXPECT_EQ(offset % blob_alignment, 0);
    }
    for (const Kind kind : {Kind::gradients, Kind::optimizer}) {
      const auto k = static_cast<std::size_t>(kind);
      EXPECT_GT(fetched[k], 0);
      EXPECT_EQ(read[k], fetched[k]);
      EXPECT_EQ(written[k], left[k]);
    }
    EXPECT_EQ(read[0] + written[0], 0);
  }
}

}  // namespace
}  // namespace sluice
