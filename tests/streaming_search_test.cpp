// No rule for what stays in a ring fetches less than the programs do: with blobs of one size that
// are only read, what they fetch in a step is the least that an exhaustive search over the contents
// of the slots finds. The search lets any blob lie in any slot, so that it bounds the programs' own
// rule, one slot for each blob, from below.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>

#include "program/copies.h"
#include "tiny_models.h"

namespace sluice {
namespace {

using testing::streaming_plan;
using testing::tiny_programs;
using testing::TinyPlan;

constexpr int blocks = 6;   // blobs: of six blocks, or of three that are cut in two
using Contents = unsigned;  // a bit for each block that lies in a slot

// The blocks that a step asks for, one after the other: up and down in each pass.
std::vector<int> visits(int passes) {
  std::vector<int> out;
  for (int pass = 0; pass < passes; ++pass) {
    for (int block = 0; block < blocks; ++block) out.push_back(block);
    for (int block = blocks; block-- > 0;) out.push_back(block);
  }
  return out;
}

// Fetches that lead to each contents.
constexpr int out_of_reach = 1 << 20;
using Fetches = std::array<int, 1u << blocks>;

// The fewest that lead from `begin` to each contents that `visits` can end with. Whatever may be
// thrown out is: also more than one blob at a time, and blobs that could have stayed.
Fetches search(const std::vector<int>& visits, int slots, Contents begin) {
  Fetches now;
  now.fill(out_of_reach);
  now[begin] = 0;
  for (const int block : visits) {
    Fetches next;
    next.fill(out_of_reach);
    const Contents wanted = 1u << block;
    for (Contents contents = 0; contents < now.size(); ++contents)
      for (Contents kept = 0; kept <= contents && now[contents] < out_of_reach; ++kept) {
        if ((kept & ~contents) != 0 || std::popcount(kept | wanted) > slots) continue;
        const int fetches = now[contents] + ((kept & wanted) != 0 ? 0 : 1);
        next[kept | wanted] = std::min(next[kept | wanted], fetches);
      }
    now = next;
  }
  return now;
}

// Of steps that come one after the other, each beginning with what the one before left.
int least_again_and_again(const std::vector<int>& visits, int slots) {
  int least = out_of_reach;
  for (Contents begin = 0; begin < 1u << blocks; ++begin)
    if (std::popcount(begin) <= slots) least = std::min(least, search(visits, slots, begin)[begin]);
  return least;
}

// Of a step that begins with nothing in its slots and may end as it likes.
int least_at_first(const std::vector<int>& visits, int slots) {
  const Fetches ends = search(visits, slots, 0);
  return *std::min_element(ends.begin(), ends.end());
}

int fetches_in(const Program& program) {
  return static_cast<int>(
      std::count_if(program.actions.begin(), program.actions.end(), [](const Action& action) {
        return action.phase == Phase::fetch && action.kind == Kind::weights;
      }));
}

ProgramSet programs_of(int passes, int micro_batches, int slots, const char* homes,
                       Blobs blobs = Blobs::layer) {
  TinyPlan plan = streaming_plan("gpt2", passes, homes, slots);
  plan.layers = blobs == Blobs::layer ? blocks : blocks / 2;  // as many blobs
  plan.blobs = blobs;
  plan.micro_batches = micro_batches;
  return tiny_programs(plan);
}

// Both schedules: all micro-batches at each layer, and all layers for each micro-batch.
struct Schedule {
  int passes;  // as a plan says it
  int micro_batches;
  int sweeps() const { return passes == 0 ? micro_batches : passes; }
};
const std::vector<Schedule> schedules{{1, 1}, {1, 3}, {1, 6}, {0, 2}, {0, 3}, {2, 4}};

TEST(StreamingSearch, StepsFetchTheLeastThereIs) {
  for (const int slots : {2, 3, 4, 5})
    for (const Schedule& schedule : schedules) {
      SCOPED_TRACE(fmt::format("{} slots, {} passes of {} micro-batches", slots, schedule.passes,
                               schedule.micro_batches));
      const std::vector<int> asked = visits(schedule.sweeps());
      for (const Blobs blobs : {Blobs::layer, Blobs::parts}) {
        const ProgramSet set =
            programs_of(schedule.passes, schedule.micro_batches, slots, "weights=host", blobs);
        const int steady = fetches_in(set.named("steady")), first = fetches_in(set.named("first"));
        EXPECT_EQ(steady, least_again_and_again(asked, slots));
        EXPECT_EQ(first, least_at_first(asked, slots));
        EXPECT_EQ(fetches_in(set.named("eval")), blocks);
        // What the search finds is neither nothing nor everything.
        EXPECT_EQ(steady, 2 * schedule.sweeps() * (blocks - slots));
        EXPECT_EQ(first, steady + slots);
      }
    }
}

// The search itself, on what can be said without one.
TEST(StreamingSearch, TheSearchFindsWhatIsKnown) {
  const std::vector<int> round{0, 1, 2, 3, 4, 5};
  EXPECT_EQ(least_at_first(round, 2), 6);
  EXPECT_EQ(least_again_and_again({0, 1, 0, 1}, 2), 0);
  EXPECT_EQ(least_again_and_again({0, 1, 2}, 2), 2);  // one stays, two take turns in the other
  EXPECT_EQ(least_again_and_again(round, 5), 2);
  EXPECT_EQ(least_again_and_again(round, 6), 0);
  EXPECT_EQ(least_at_first({0, 1, 2, 0, 1}, 2), 4);  // the newest gives way, not the oldest
}

// The copies of a step whose sweeps know nothing of each other: nothing is found at the turns.
int fetches_without_turns(const ProgramSet& set, int sweeps) {
  const CopySpec spec{.residency = set.residency.get(),
                      .uses =
                          [](const Scheduled&) {
                            BlobUses out;
                            out.kinds[static_cast<std::size_t>(Kind::weights)].reads = true;
                            return out;
                          },
                      .layers = set.model->layer_count(),
                      .begins_settled = true,
                      .ends_settled = true,
                      .pending = {},
                      .micro_batches = 0,
                      .stash_slots = {},
                      .stash_ring = 0,
                      .keeps_input = [](int) { return false; }};
  int fetches = 0;
  const std::vector<int> asked = visits(sweeps);
  for (std::size_t begin = 0; begin < asked.size(); begin += blocks) {
    std::vector<Scheduled> sweep;
    for (std::size_t i = begin; i < begin + blocks; ++i)
      sweep.push_back({Phase::forward, asked[i] + 1, 0});
    for (const Stop& stop : with_copies(sweep, spec))
      fetches += stop.item.phase == Phase::fetch ? 1 : 0;
  }
  return fetches;
}

TEST(StreamingSearch, WithoutTurnsMoreIsFetched) {
  for (const int slots : {2, 3, 4, 5})
    for (const Schedule& schedule : schedules) {
      const ProgramSet set =
          programs_of(schedule.passes, schedule.micro_batches, slots, "weights=host");
      const int least = least_again_and_again(visits(schedule.sweeps()), slots);
      EXPECT_EQ(fetches_without_turns(set, schedule.sweeps()), 2 * schedule.sweeps() * blocks);
      EXPECT_GT(fetches_without_turns(set, schedule.sweeps()), least);
      EXPECT_EQ(fetches_in(set.named("steady")), least);
    }
}

}  // namespace
}  // namespace sluice
