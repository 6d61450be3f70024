// Programs walked without memory: of small models, with each mistake planted, and of the largest
// published ones.
#include "executor/walk.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <span>

#include "backend/null/null.h"
#include "executor/executor.h"
#include "planner/simulate.h"
#include "program/test_mutants.h"
#include "program/validate.h"
#include "tiny_models.h"

namespace sluice {
namespace {

using testing::streaming_plan;
using testing::tiny_programs;
using testing::TinyPlan;

// Through two slots, with a spilled stash if said, and with gradients that rest packed.
TinyPlan plan_of(const std::string& family, int passes, const std::string& homes, bool spill,
                 GradientFormat gradients) {
  TinyPlan out = streaming_plan(family, passes, homes, 2);
  out.spill = spill;
  out.gradients = gradients;
  return out;
}
TinyPlan plan_of(const std::string& family, int passes, const std::string& homes, bool spill,
                 bool packed) {
  return plan_of(family, passes, homes, spill, packed ? GradientFormat::bf16 : GradientFormat::f32);
}

// A run from beginning to end: what a training run enqueues.
constexpr const char* a_run[] = {"derive", "first", "steady", "steady", "flush", "eval", "first"};

std::string refusal(const ProgramSet& set, std::span<const char* const> run = a_run) {
  NullBackend backend;
  Walker walker(backend, set);
  try {
    for (const char* name : run) walker.run(set.index_of(name));
  } catch (const Error& e) {
    return e.text();
  }
  return {};
}

void walk_every_action(const ProgramSet& set) {
  NullBackend backend;
  Walker walker(backend, set);
  std::int64_t actions = 0, ops = 0, copied = 0;
  std::array<std::int64_t, lanes> bytes{};
  for (const char* name : a_run) {
    walker.run(set.index_of(name));
    for (const Action& action : set.named(name).actions) {
      ++actions;
      if (action.copies()) bytes[static_cast<std::size_t>(action.lane)] += action.bytes;
      if (action.lane == Lane::in || action.lane == Lane::out) copied += action.bytes;
      if (!action.copies())
        ops += static_cast<std::int64_t>(set.named(name).list_of(action).ops.size());
    }
  }
  const WalkCounts& counts = walker.counts();
  EXPECT_EQ(counts.actions, actions);
  EXPECT_EQ(counts.ops, ops);
  EXPECT_EQ(backend.ops(), ops);
  EXPECT_EQ(backend.bytes_copied() + backend.bytes_copied_out(), copied);
  EXPECT_EQ(counts.bytes_of, bytes);
  // The frame lies at the arena's end, and something uses all of it.
  EXPECT_LE(counts.device_peak, set.memory.total());
  EXPECT_GT(counts.device_peak, set.memory.total() - 2 * blob_alignment);
  EXPECT_EQ(counts.host_peak > 0, set.memory.host_bytes() > 0);
  EXPECT_LE(counts.host_peak, set.memory.host_bytes());
}

TEST(Walk, EveryActionOfSmallModelsInParts) {
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1, 2})
      for (const char* homes : {"device", "host", "disk,weights=host", "host,@ends=host"})
        for (const bool spill : {false, true})
          for (const GradientFormat gradients : {GradientFormat::f32, GradientFormat::bf16})
            for (const int slots : {2, 3}) {
              SCOPED_TRACE(fmt::format("{} {} {}{} {} {}", family, passes, homes,
                                       spill ? " spilled" : "", name_of(gradients), slots));
              TinyPlan plan = plan_of(family, passes, homes, spill, gradients);
              plan.blobs = Blobs::parts;
              plan.slots = slots;
              plan.recompute = slots == 2 ? Recompute::block : Recompute::selective;
              walk_every_action(tiny_programs(plan));
            }
}

TEST(Walk, EveryActionOfSmallModels) {
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1, 2})
      for (const char* homes :
           {"device", "host", "weights=host", "optimizer=host,gradients@0-1=host", "disk",
            "host,gradients=disk", "host,@ends=host", "disk,@ends=disk", "@ends=host"})
        for (const bool spill : {false, true})
          for (const GradientFormat gradients :
               {GradientFormat::f32, GradientFormat::bf16, GradientFormat::int8})
            for (const Recompute recompute : {Recompute::none, Recompute::block}) {
              SCOPED_TRACE(fmt::format("{} {} {}{} {} {}", family, passes, homes,
                                       spill ? " spilled" : "", name_of(gradients),
                                       name_of(recompute)));
              TinyPlan plan = plan_of(family, passes, homes, spill, gradients);
              plan.recompute = recompute;
              walk_every_action(tiny_programs(plan));
            }
}

// What the simulator says a steady step moves is what the executor asks the backend to move.
TEST(Walk, SimulatorAndExecutorMoveTheSameBytes) {
  const Machine machine = load_machine("h200");
  for (const int passes : {0, 1, 2})
    for (const char* homes : {"device", "host", "optimizer=host,weights@1-2=host", "spilled"}) {
      SCOPED_TRACE(fmt::format("{} {}", passes, homes));
      const bool spill = std::string_view(homes) == "spilled";
      const auto set = std::make_shared<const ProgramSet>(
          tiny_programs(spill ? plan_of("gpt2", passes, "host", true, true)
                              : streaming_plan("gpt2", passes, homes, 2)));
      std::array<std::int64_t, 2> in{}, out{};
      for (const std::size_t steps : {0, 1}) {
        NullBackend backend;
        {
          Executor executor(backend, set, {});
          const std::vector<const std::byte*> staging(3);
          executor.enqueue(set->index_of("derive"), staging);
          executor.enqueue(set->index_of("first"), staging);
          for (std::size_t i = 0; i < steps; ++i)
            executor.enqueue(set->index_of("steady"), staging);
          executor.drain();
        }
        in[steps] = backend.bytes_copied();
        out[steps] = backend.bytes_copied_out();
      }
      const Simulated step = simulate(*set, machine);
      EXPECT_EQ(step.bytes[static_cast<std::size_t>(Lane::in)], in[1] - in[0]);
      EXPECT_EQ(step.bytes[static_cast<std::size_t>(Lane::out)], out[1] - out[0]);
      EXPECT_GT(in[1], in[0]);
      EXPECT_EQ(out[1] > out[0], std::string_view(homes) != "device");
    }
}

testing::Mutants without_waits(const TinyPlan& plan) {
  testing::Mutants out;
  const ProgramSet set = tiny_programs(plan);
  const int steady = set.index_of("steady");
  for (std::size_t a = 0; a < set.named("steady").actions.size(); ++a)
    for (std::size_t w = 0; w < set.named("steady").actions[a].waits.size(); ++w) {
      ProgramSet mutant = set;
      Program& cut = mutant.programs[static_cast<std::size_t>(steady)];
      auto& waits = cut.actions[a].waits;
      const Wait wait = waits[w];
      waits.erase(waits.begin() + static_cast<std::ptrdiff_t>(w));
      const bool seen = !refusal(mutant).empty();
      ++(seen ? out.refused : out.implied);
      EXPECT_TRUE(seen || testing::implied(mutant, cut, static_cast<int>(a), wait))
          << plan.family << " " << plan.passes << " " << cut.action_name(static_cast<int>(a));
    }
  return out;
}

// What the validator's tests count for these programs (streaming, spilling, packed_program_test).
testing::Mutants without_waits(const std::string& homes, bool spill, bool packed,
                               Blobs blobs = Blobs::layer) {
  testing::Mutants out;
  for (const char* family : {"gpt2", "gptj"})
    for (const int passes : {0, 1}) {
      TinyPlan plan = plan_of(family, passes, homes, spill, packed);
      plan.blobs = blobs;
      const testing::Mutants found = without_waits(plan);
      out.refused += found.refused;
      out.implied += found.implied;
    }
  return out;
}

TEST(Walk, AWaitIsMissed) {
  using testing::Mutants;
  EXPECT_EQ(without_waits("host", false, false), (Mutants{118, 46}));
  EXPECT_EQ(without_waits("disk", false, false), (Mutants{264, 64}));
  EXPECT_EQ(without_waits("host,@ends=host", false, false), (Mutants{252, 71}));
  EXPECT_EQ(without_waits("device", true, false), (Mutants{160, 18}));
  EXPECT_EQ(without_waits("disk", true, true), (Mutants{398, 88}));
  // Of blocks in parts (parts_program_test).
  EXPECT_EQ(without_waits("host", false, false, Blobs::parts), (Mutants{328, 72}));
  EXPECT_EQ(without_waits("device", true, false, Blobs::parts), (Mutants{304, 18}));
  EXPECT_EQ(without_waits("host", true, true, Blobs::parts), (Mutants{610, 98}));
  for (const int passes : {0, 1}) {  // the validator misses the same waits
    const TinyPlan plan = plan_of("gpt2", passes, "disk", true, true);
    const ProgramSet set = tiny_programs(plan);
    EXPECT_EQ(without_waits(plan), testing::without_waits(set, set.named("steady"))) << passes;
  }
}

// A copy of any program moves other bytes than it should: a run that goes on long enough sees it.
int copies_missed(const ProgramSet& set) {
  constexpr const char* long_run[] = {"derive", "first", "steady", "steady", "flush",
                                      "eval",   "first", "steady", "flush"};
  EXPECT_EQ(refusal(set, long_run), "");
  int found = 0;
  for (std::size_t p = 0; p < set.programs.size(); ++p)
    for (std::size_t a = 0; a < set.programs[p].actions.size(); ++a) {
      const Action& action = set.programs[p].actions[a];
      if (!action.copies()) continue;
      ProgramSet mutant = set;
      Action& wrong = mutant.programs[p].actions[a];
      const bool away = action.phase == Phase::leave || action.phase == Phase::write;
      (away || action.phase == Phase::load ? wrong.to : wrong.from) += action.bytes;
      EXPECT_FALSE(refusal(mutant, long_run).empty())
          << set.programs[p].name << ": " << set.programs[p].action_name(static_cast<int>(a));
      ++found;
    }
  return found;
}

TEST(Walk, ACopyIsMissed) {
  int host = 0, disk = 0, packed = 0, parts = 0;
  for (const int passes : {0, 1}) {
    host += copies_missed(tiny_programs(streaming_plan("gpt2", passes, "host", 2)));
    disk += copies_missed(tiny_programs(streaming_plan("gpt2", passes, "disk", 2)));
    packed +=
        copies_missed(tiny_programs(plan_of("gpt2", passes, "disk", false, GradientFormat::int8)));
    TinyPlan plan = plan_of("gptj", passes, "host", true, GradientFormat::f32);
    plan.blobs = Blobs::parts;
    parts += copies_missed(tiny_programs(plan));
  }
  EXPECT_EQ(host, 102);
  EXPECT_EQ(disk, 188);
  EXPECT_EQ(packed, 188);
  EXPECT_EQ(parts, 484);
}

TEST(Walk, SaysWhatIsWrong) {
  ProgramSet set = tiny_programs(streaming_plan("gpt2", 1, "host", 2));
  Program& steady = set.programs[static_cast<std::size_t>(set.index_of("steady"))];
  for (Action& action : steady.actions)
    if (action.phase == Phase::fetch && action.kind == Kind::optimizer) {
      action.from += align_up(action.bytes, blob_alignment);
      break;
    }
  const std::string text = refusal(set);
  EXPECT_NE(text.find("fetch optimizer block 0 reads optimizer state of block 0"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("found: weights of block 1"), std::string::npos) << text;
}

// Work grows with the program's length and not faster: counted, not timed.
TEST(Walk, ValidationIsLinear) {
  const auto looks = [](int layers, int micro_batches, int passes) {
    TinyPlan plan = streaming_plan("gpt2", passes, "host", 2);
    plan.layers = layers;
    plan.micro_batches = micro_batches;
    const ProgramSet set = tiny_programs(plan);
    const Program& steady = set.named("steady");
    return static_cast<double>(validate(set, steady, steady)) /
           static_cast<double>(steady.actions.size());
  };
  for (const int passes : {1, 0}) {
    const double few = looks(4, 8, passes), more = looks(4, 32, passes),
                 most = looks(4, 128, passes);
    EXPECT_NEAR(more / few, 1, 0.1) << passes;
    EXPECT_NEAR(most / few, 1, 0.1) << passes;
  }
  const double low = looks(12, 8, 1), higher = looks(48, 8, 1), highest = looks(192, 8, 1);
  EXPECT_NEAR(higher / low, 1, 0.1);
  EXPECT_NEAR(highest / low, 1, 0.1);
}

// A published model as one device with 20 TB of host memory: at the batch that was published,
// float32 gradients, every block's blobs on the host.
struct Giant {
  const char* config;
  const char* state;
  int passes;
  const char* blobs;
  int state_slots;
  std::size_t steady_actions;
};

void walk_giant(const Giant& giant) {
  Config config = load_config(giant.config);
  const std::vector<std::string> options = {
      fmt::format("plan.state={}", giant.state),   "plan.precision=bf16", "plan.homes=host",
      fmt::format("plan.passes={}", giant.passes), "plan.slots=2",        "plan.recompute=block",
      fmt::format("plan.blobs={}", giant.blobs)};
  apply_overrides(config, options);
  check(config);
  const Machine machine = load_machine("h200-20t");
  Plan plan = plan_of(config);
  plan.packed = machine.packs;
  ProgramSpec spec = training_spec(config, plan, 1);
  spec.options.homes.slots[static_cast<std::size_t>(Kind::optimizer)] = giant.state_slots;
  const ProgramSet set = build_programs(spec);
  EXPECT_LE(set.memory.total(), machine.device_budget());
  EXPECT_LE(set.memory.host_bytes(), machine.host_budget());
  EXPECT_GT(set.memory.host_bytes(), 10 * machine.device_budget());
  const Program& steady = set.named("steady");
  EXPECT_EQ(steady.actions.size(), giant.steady_actions);
  const std::int64_t looks = validate(set, steady, steady);
  EXPECT_LT(looks, 200 * 2 * static_cast<std::int64_t>(steady.actions.size()));
  NullBackend backend;
  Walker walker(backend, set);
  for (const char* name : {"derive", "first", "steady", "flush"}) walker.run(set.index_of(name));
  const WalkCounts& counts = walker.counts();
  EXPECT_EQ(counts.device_peak, set.memory.total());
  std::printf("%s: %lld actions walked, %zu of a steady step; %.1f GB of device, %.2f TB of host\n",
              giant.config, static_cast<long long>(counts.actions), steady.actions.size(),
              static_cast<double>(counts.device_peak) / 1e9,
              static_cast<double>(counts.host_peak) / 1e12);
}

TEST(WalkSlow, Gigagpt175b) { walk_giant({"gigagpt-175b", "exact", 184, "layer", 2, 503169}); }

TEST(WalkSlow, Ptdp1008b) { walk_giant({"ptdp-1008b", "compact", 3072, "parts", 2, 5512449}); }

}  // namespace
}  // namespace sluice
