// Programs whose gradients rest packed in host memory or on disk: valid, each copy and wait needed,
// and as many bytes as the closed form says.
#include <gtest/gtest.h>

#include "program/test_mutants.h"
#include "tiny_models.h"

namespace sluice {
namespace {

using testing::Mutants;
using testing::tiny_programs;
using testing::TinyPlan;

TinyPlan plan_of(const std::string& family, int passes, const std::string& homes, int slots) {
  TinyPlan out = testing::streaming_plan(family, passes, homes, slots);
  out.gradients = GradientFormat::bf16;
  return out;
}

TEST(PackedProgram, EveryCombinationIsValid) {
  int programs = 0;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1, 2})
      for (const int slots : {2, 3})
        for (const bool spill : {false, true})
          for (const char* homes :
               {"host", "gradients=host", "optimizer=host", "host,gradients@1=device",
                "gradients@2=host", "disk", "host,gradients@0-1=disk", "gradients=disk"}) {
            TinyPlan plan = plan_of(family, passes, homes, slots);
            plan.spill = spill;
            const ProgramSet set = tiny_programs(plan);
            EXPECT_NO_THROW(validate(set))
                << family << " " << passes << " " << slots << " " << homes;
            programs += static_cast<int>(set.programs.size());
          }
  EXPECT_EQ(programs, 2 * 3 * 2 * 2 * 8 * 5);
}

struct Planted {
  Mutants waits, releases;
  int dropped = 0;
};

Planted plant(const char* homes) {
  Planted out;
  auto& [waits, releases, dropped] = out;
  for (const int passes : {0, 1}) {
    const ProgramSet set = tiny_programs(plan_of("gpt2", passes, homes, 2));
    const Program& steady = set.named("steady");
    const Mutants cut = testing::without_waits(set, steady);
    waits.refused += cut.refused;
    waits.implied += cut.implied;
    const Mutants early = testing::with_early_releases(set, steady, false);
    releases.refused += early.refused;
    releases.implied += early.implied;
    for (int a = 0; a < static_cast<int>(steady.actions.size()); ++a) {
      if (!steady.actions[static_cast<std::size_t>(a)].copies()) continue;
      EXPECT_TRUE(testing::is_missed(set, "steady", a)) << steady.action_name(a);
      ++dropped;
    }
    // Nor can a layer do without its unpacking, unless the numbers that were packed still lie
    // there.
    for (int a = 0; a < static_cast<int>(steady.actions.size()); ++a) {
      if (steady.actions[static_cast<std::size_t>(a)].phase != Phase::unpack) continue;
      const int block = steady.actions[static_cast<std::size_t>(a)].layer - 1;
      EXPECT_EQ(testing::refused(set, testing::without(steady, a)),
                block >= set.residency->slots(Kind::gradients))
          << steady.action_name(a);
    }
  }
  return out;
}

TEST(PackedProgram, WaitsReleasesAndCopiesAreNeeded) {
  const Planted host = plant("gradients=host"), disk = plant("gradients=disk");
  EXPECT_EQ(host.waits, (Mutants{31, 11}));
  EXPECT_EQ(host.releases, (Mutants{23, 3}));
  EXPECT_EQ(host.dropped, 18);
  EXPECT_EQ(disk.waits, (Mutants{55, 14}));
  EXPECT_EQ(disk.releases, (Mutants{39, 3}));
  EXPECT_EQ(disk.dropped, 30);
}

// What travels has staging slots of its size, and nothing else has any.
TEST(PackedProgram, StagingSlotsAreOfWhatTravels) {
  for (const int passes : {1, 2}) {
    TinyPlan plan = plan_of("gpt2", passes, "disk", 2);
    plan.layers = 7;
    const ProgramSet set = tiny_programs(plan);
    const Residency& residency = *set.residency;
    EXPECT_EQ(residency.stagings(Kind::packed), 2);
    EXPECT_EQ(residency.stagings(Kind::gradients), passes == 1 ? 0 : 2);
    EXPECT_EQ(residency.page_bytes(1, Kind::packed),
              align_up(residency.blob_bytes(LayerKind::block, Region::packed), blob_alignment));
    std::int64_t staging = 0, at_home = 0;
    for (const Kind kind : owned_kinds)
      staging += 2 * residency.stagings(kind) * residency.page_bytes(1, kind);
    EXPECT_EQ(set.memory.host_bytes(), staging);
    const Kind gradients = passes == 1 ? Kind::packed : Kind::gradients;
    for (const Kind kind : {Kind::weights, Kind::optimizer, gradients})
      at_home += 7 * residency.page_bytes(1, kind);
    EXPECT_EQ(set.memory.disk_bytes(), at_home);
    int read = 0, written = 0;
    for (const Action& action : set.named("steady").actions) {
      if (action.kind != Kind::packed) continue;
      read += action.phase == Phase::read ? 1 : 0;
      written += action.phase == Phase::write ? 1 : 0;
    }
    EXPECT_EQ(read, 7 - 2);
    EXPECT_EQ(written, 7 - 2);
  }
}

// Matrices rest in 2 bytes a number, vectors in 4; they go home once a step and come back once, but
// for those that the turn finds in their slots. Sums of some micro-batches travel in 4 bytes.
TEST(PackedProgram, MovesWhatTheClosedFormSays) {
  for (const int layers : {4, 7})
    for (const int slots : {2, 3})
      for (const int passes : {1, 2, 3}) {
        TinyPlan plan = plan_of("gpt2", passes, "host", slots);
        plan.layers = layers;
        const ProgramSet set = tiny_programs(plan);
        std::int64_t packed = 0, whole = 0;
        for (const Parameter& p : set.model->block.parameters) {
          packed += align_up((p.decays ? 2 : 4) * p.count(), tensor_alignment);
          whole += align_up(4 * p.count(), tensor_alignment);
        }
        std::array<std::int64_t, copied_kinds> in{}, out{};
        for (const Action& action : set.named("steady").actions) {
          const auto kind = static_cast<std::size_t>(action.kind);
          if (action.phase == Phase::fetch) in[kind] += action.bytes;
          if (action.phase == Phase::leave) out[kind] += action.bytes;
        }
        const std::int64_t l = layers, n = slots, p = passes;
        const std::int64_t alone = std::max<std::int64_t>(0, 2 * n - l);
        EXPECT_EQ(in[static_cast<std::size_t>(Kind::packed)], (l - n) * packed);
        EXPECT_EQ(out[static_cast<std::size_t>(Kind::packed)], (l - n) * packed);
        EXPECT_EQ(in[static_cast<std::size_t>(Kind::gradients)], (p - 1) * (l - alone) * whole);
        EXPECT_EQ(out[static_cast<std::size_t>(Kind::gradients)], (p - 1) * (l - alone) * whole);
        // Gradients that travel in one form only have one place to be made in.
        EXPECT_EQ(set.residency->slots(Kind::gradients), p == 1 ? 1 : n);
      }
}

}  // namespace
}  // namespace sluice
