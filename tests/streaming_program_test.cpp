// Programs whose blobs stream: the validator lets the built ones pass, and refuses each mistake
// that one can make with a copy or a wait.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "program/test_mutants.h"
#include "tiny_models.h"

namespace sluice {
namespace {

using testing::Mutants;
using testing::streaming_plan;
using testing::tiny_programs;
using testing::TinyPlan;

TEST(StreamingProgram, EveryCombinationIsValid) {
  int programs = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1, 2})
      for (const int slots : {2, 3})
        for (const char* homes :
             {"host", "weights=host", "gradients=host", "optimizer=host", "host,weights@1=device",
              "disk", "host,optimizer=disk", "disk,weights@1=host,gradients@0=device",
              "host,@ends=host", "disk,@ends=disk", "@ends=host", "@embedding=host", "@head=disk",
              "optimizer=host,@ends=host", "host,weights@ends=host", "weights@head=host",
              "gradients@embedding=host,gradients@head=disk,weights@0=host"}) {
          const ProgramSet set = tiny_programs(streaming_plan(family, passes, homes, slots));
          EXPECT_NO_THROW(validate(set)) << family << " " << passes << " " << slots << " " << homes;
          programs += static_cast<int>(set.programs.size());
        }
  EXPECT_EQ(programs, 2 * 3 * 2 * 17 * 5);
}

// Embeddings of one, two and three blocks' size, which reach into as many slots, or beyond them.
TEST(StreamingProgram, EndsOfAnySizeAreValid) {
  std::set<int> covers;
  for (const char* family : {"gpt2", "gptj"})
    for (const std::int64_t vocab : {61, 400, 600, 1000})
      for (const int passes : {0, 1, 2})
        for (const int slots : {2, 3})
          for (const char* homes : {"host,@ends=host", "@ends=host", "disk,@ends=disk",
                                    "host,@embedding=host", "weights@0=host,@ends=host"}) {
            TinyPlan plan = streaming_plan(family, passes, homes, slots);
            plan.vocab = vocab;
            const ProgramSet set = tiny_programs(plan);
            EXPECT_NO_THROW(validate(set))
                << family << " " << vocab << " " << passes << " " << slots << " " << homes;
            covers.insert(set.residency->covers(0, Kind::weights));
          }
  EXPECT_EQ(covers, (std::set<int>{1, 2, 3}));
}

// Of both families and both kinds of step.
template <class Count>
Mutants of_all(const char* homes, Count count) {
  Mutants out;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      SCOPED_TRACE(fmt::format("{} {}", family, passes));
      const ProgramSet set = tiny_programs(streaming_plan(family, passes, homes, 2));
      const Mutants found = count(set, set.named("steady"));
      out.refused += found.refused;
      out.implied += found.implied;
    }
  return out;
}

Mutants without_each_wait(const char* homes) { return of_all(homes, testing::without_waits); }

// With the ends among them more waits are implied by others, each kind for its reason:
// - 30 of updates, for weights and gradients that come right before the optimizer's state, on the
//   same lane: both of what lost its slots to the ends, none of what still lies there;
// - 24 of the embedding's first fetches, of its weights and its state, for the run before: last use
//   of the slot and last leave from it and to home. The loads, first on that lane, wait for that
//   run's last W. (From disk it is the read that waits for home: 16.)
// - 4 of the update of block 1, whose weights came after what it waits for, and are still there;
// - 4 of the embedding's F for a load that its weights come behind, with a pass a micro-batch;
// - 8 of fetches, for the last use of a slot, which the leave that they wait for too comes behind;
// - 1 of the tied head's gradients, when they come to be added: behind the embedding's, which have
//   waited for a later leave.
// What goes by disk waits for staging slots too: 16 times of an update's leaves for a run before,
// and 83 times of reads for a write or a fetch that another read or fetch has waited for.
constexpr int implied_with_ends = 30 + 24 + 4 + 4 + 8 + 1;
constexpr int implied_with_ends_on_disk = implied_with_ends - 8 + 16 + 83;

TEST(StreamingProgram, AWaitIsNeededOrImplied) {
  EXPECT_EQ(without_each_wait("host"), (Mutants{118, 46}));
  EXPECT_EQ(without_each_wait("disk"), (Mutants{264, 64}));
  EXPECT_EQ(without_each_wait("host,@ends=host"), (Mutants{252, implied_with_ends}));
  EXPECT_EQ(without_each_wait("disk,@ends=disk"), (Mutants{547, implied_with_ends_on_disk}));
}

// None can be spared, not even that of what has a slot for itself: the first step of a run has not
// brought the optimizer's state, and weights that stay where they are do not go home in between.
int drop_each_copy(const char* homes) {
  int dropped = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      const ProgramSet set = tiny_programs(streaming_plan(family, passes, homes, 2));
      const Program& steady = set.named("steady");
      for (int a = 0; a < static_cast<int>(steady.actions.size()); ++a) {
        if (!steady.actions[static_cast<std::size_t>(a)].copies()) continue;
        EXPECT_TRUE(testing::is_missed(set, "steady", a))
            << family << " " << passes << " " << steady.action_name(a);
        ++dropped;
      }
    }
  return dropped;
}

TEST(StreamingProgram, EveryCopyIsNeeded) {
  EXPECT_EQ(drop_each_copy("host"), 84);
  EXPECT_EQ(drop_each_copy("disk"), 156);
  // As many as the closed form below says: loads, weights, gradients and state, with one pass and
  // with three, of a tied model and of one that is not.
  EXPECT_EQ(drop_each_copy("host,@ends=host"),
            (3 + 8 + 5 + 5 + 4 + 10) + (3 + 24 + 5 + 15 + 14 + 10) + (3 + 6 + 4 + 3 + 3 + 10) +
                (3 + 18 + 4 + 11 + 11 + 10));
}

// A slot or a batch is given back one action of its lane too early.
Mutants with_early_releases(const char* homes) {
  return of_all(homes, [](const ProgramSet& set, const Program& program) {
    return testing::with_early_releases(set, program, true);
  });
}

TEST(StreamingProgram, ReleasesAreNotOneActionEarlier) {
  EXPECT_EQ(with_early_releases("host"), (Mutants{58, 2}));
  EXPECT_EQ(with_early_releases("disk"), (Mutants{166, 2}));
  EXPECT_EQ(with_early_releases("host,@ends=host"), (Mutants{146, 8 + 1})) << "as of waits";
}

// Bytes that move in a steady step: each blob twice up and down, less what the turns find in place.
TEST(StreamingProgram, MovesWhatTheClosedFormSays) {
  for (const int layers : {4, 7})
    for (const int slots : {2, 3})
      for (const int passes : {1, 2, 3}) {
        TinyPlan plan = streaming_plan("gpt2", passes, "host", slots);
        plan.layers = layers;
        const ProgramSet set = tiny_programs(plan);
        std::array<std::int64_t, copied_kinds> in{}, out{};
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
        // home once, unless a blob has its slot alone.
        const std::int64_t alone = std::max<std::int64_t>(0, 2 * n - l);
        EXPECT_EQ(in[0], 2 * p * (l - n) * weights);
        EXPECT_EQ(out[0], (l - alone) * weights);
        // Gradients: for each pass but the first back for more, unless a blob has its slot alone;
        // and once for the update, which finds the lowest n in place.
        EXPECT_EQ(in[1], ((p - 1) * (l - alone) + l - n) * gradients);
        EXPECT_EQ(out[1], ((p - 1) * (l - alone) + l - n) * gradients);
        EXPECT_EQ(in[2], l * state);
        EXPECT_EQ(out[2], l * state);
      }
}

// The same with the ends off the device too. They take slots from the blocks at the turns: `e` the
// embedding at the lower one, `h` the head at the upper one. A tied table is lent to the head,
// which then covers slots of its own behind the embedding's.
TEST(StreamingProgram, MovesWhatTheClosedFormSaysWithTheEnds) {
  for (const char* family : {"gpt2", "gptj"})
    for (const int layers : {4, 7})
      for (const int slots : {2, 3})
        for (const int passes : {1, 2, 3}) {
          SCOPED_TRACE(fmt::format("{} {} {} {}", family, layers, slots, passes));
          TinyPlan plan = streaming_plan(family, passes, "host,@ends=host", slots);
          plan.layers = layers;
          plan.width = 64;
          const ProgramSet set = tiny_programs(plan);
          std::array<std::int64_t, copied_kinds> in{}, out{};
          for (const Action& action : set.named("steady").actions) {
            if (action.phase == Phase::fetch)
              in[static_cast<std::size_t>(action.kind)] += action.bytes;
            if (action.phase == Phase::leave)
              out[static_cast<std::size_t>(action.kind)] += action.bytes;
          }
          const bool tied = std::string_view(family) == "gpt2";
          const std::int64_t l = layers, n = slots, p = passes;
          struct Sizes {
            std::int64_t block, embedding, head;
            std::int64_t e, h;  // slots that they cover, one each: they are smaller than a block
          };
          const auto sizes = [&](Kind kind) {
            const auto of = [&](LayerKind layer) {
              return set.residency->blob_bytes(layer, region_of(kind));
            };
            return Sizes{of(LayerKind::block), of(LayerKind::embedding), of(LayerKind::head), 1, 1};
          };
          // Weights: every pass finds at the lower turn what the embedding left there, at the upper
          // one what the head did, and the embedding's if it lends its table.
          const Sizes w = sizes(Kind::weights);
          ASSERT_LT(std::max(w.embedding, w.head), w.block);
          const std::int64_t at_top = tied ? w.e + w.h : w.h;
          const std::int64_t blocks = 2 * l - (n - w.e) - (n - at_top);
          EXPECT_EQ(in[0], p * (blocks * w.block + (tied ? 2 : 1) * w.embedding + w.head));
          // A block that has a slot alone stays there from one update to the next.
          const std::int64_t stay = std::max<std::int64_t>(0, n - std::max(at_top, l - n));
          EXPECT_EQ(out[0], (l - stay) * w.block + w.embedding + w.head);
          // Gradients: the embedding's come last and wait for the update where they are. The head's
          // come for the update and for each pass but the first, and once more if they are to be
          // added to the embedding's.
          const Sizes g = sizes(Kind::gradients);
          const std::int64_t below = tied ? g.e + g.h : g.e, between = std::max(below, g.h);
          const std::int64_t alone = std::max<std::int64_t>(0, n - std::max(between, l - n));
          const std::int64_t more = (p - 1) * (l - alone) + l - (n - below);
          EXPECT_EQ(in[1], more * g.block + (p - 1) * g.embedding + (p + (tied ? 1 : 0)) * g.head);
          EXPECT_EQ(out[1], more * g.block + (p - 1) * g.embedding + p * g.head);
          const Sizes s = sizes(Kind::optimizer);
          EXPECT_EQ(in[2], l * s.block + s.embedding + s.head);
          EXPECT_EQ(out[2], in[2]);
        }
}

// What the ends take of the device when they leave it: no more than the slots of blocks, where
// these are larger, and never more than at home there. Regions begin at pages, so whole pages are
// what counts: slots are of whole pages, and the last blob at home is not.
TEST(StreamingProgram, EndsLieWhereBlocksDo) {
  for (const char* family : {"gpt2", "gptj"})
    for (const std::int64_t width : {32, 64})
      for (const int slots : {2, 3}) {
        SCOPED_TRACE(fmt::format("{} {} {}", family, width, slots));
        const auto memory = [&](const char* homes) {
          TinyPlan plan = streaming_plan(family, 1, homes, slots);
          plan.width = width;
          return tiny_programs(plan).memory;
        };
        const auto pages = [](const MemoryMap& map, Region region) {
          return align_up(map.bytes(region), blob_alignment);
        };
        const MemoryMap blocks = memory("host"), all = memory("host,@ends=host"),
                        alone = memory("@ends=host"), none = memory("device");
        for (const Region region : {Region::weights, Region::gradients, Region::optimizer}) {
          EXPECT_LT(all.bytes(region), blocks.bytes(region)) << name_of(region);
          EXPECT_LE(pages(alone, region), pages(none, region)) << name_of(region);
        }
        if (width == 64) {
          TinyPlan plan = streaming_plan(family, 1, "host", slots);
          plan.width = width;
          const ProgramSet set = tiny_programs(plan);
          for (const Kind kind : {Kind::weights, Kind::gradients, Kind::optimizer})
            EXPECT_EQ(all.bytes(region_of(kind)), slots * set.residency->page_bytes(1, kind));
        }
      }
}

// From disk and to disk moves what moves between host and device, in whole pages.
TEST(StreamingProgram, MovesTheSameBlobsFromAndToDisk) {
  for (const int passes : {1, 2}) {
    TinyPlan plan = streaming_plan("gpt2", passes, "disk,weights=host,gradients@0=device", 2);
    plan.layers = 7;
    const ProgramSet set = tiny_programs(plan);
    std::array<int, copied_kinds> fetched{}, left{}, read{}, written{};
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
