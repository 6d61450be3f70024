// Programs whose gradients rest packed in host memory or on disk, in 2 bytes a number or in 1 with
// scales: valid, each copy and wait needed, and as many bytes as the closed form says.
#include <gtest/gtest.h>

#include "planner/memory_report.h"
#include "program/test_mutants.h"
#include "tiny_models.h"

namespace sluice {
namespace {

using testing::Mutants;
using testing::tiny_programs;
using testing::TinyPlan;

constexpr GradientFormat formats[] = {GradientFormat::bf16, GradientFormat::int8};

TinyPlan plan_of(const std::string& family, int passes, const std::string& homes, int slots,
                 GradientFormat format) {
  TinyPlan out = testing::streaming_plan(family, passes, homes, slots);
  out.gradients = format;
  return out;
}

TEST(PackedProgram, EveryCombinationIsValid) {
  int programs = 0;
  for (const GradientFormat format : formats)
    for (const char* family : {"gpt2", "gptj"})
      for (const int passes : {0, 1, 2})
        for (const int slots : {2, 3})
          for (const bool spill : {false, true})
            for (const char* homes :
                 {"host", "gradients=host", "optimizer=host", "host,gradients@1=device",
                  "gradients@2=host", "disk", "host,gradients@0-1=disk", "gradients=disk",
                  "host,@ends=host", "gradients=disk,gradients@ends=disk", "gradients@ends=host"}) {
              TinyPlan plan = plan_of(family, passes, homes, slots, format);
              plan.spill = spill;
              const ProgramSet set = tiny_programs(plan);
              EXPECT_NO_THROW(validate(set)) << name_of(format) << " " << family << " " << passes
                                             << " " << slots << " " << homes;
              programs += static_cast<int>(set.programs.size());
            }
  EXPECT_EQ(programs, 2 * 2 * 3 * 2 * 2 * 11 * 5);
}

struct Planted {
  Mutants waits, releases;
  int dropped = 0;
};

Planted plant(const char* homes, GradientFormat format) {
  Planted out;
  auto& [waits, releases, dropped] = out;
  for (const int passes : {0, 1}) {
    const ProgramSet set = tiny_programs(plan_of("gpt2", passes, homes, 2, format));
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
  for (const GradientFormat format : formats) {
    SCOPED_TRACE(name_of(format));
    const Planted host = plant("gradients=host", format), disk = plant("gradients=disk", format);
    EXPECT_EQ(host.waits, (Mutants{31, 11}));
    EXPECT_EQ(host.releases, (Mutants{23, 3}));
    EXPECT_EQ(host.dropped, 18);
    EXPECT_EQ(disk.waits, (Mutants{55, 14}));
    EXPECT_EQ(disk.releases, (Mutants{39, 3}));
    EXPECT_EQ(disk.dropped, 30);
  }
}

// What travels has staging slots of its size, and nothing else has any.
TEST(PackedProgram, StagingSlotsAreOfWhatTravels) {
  for (const int passes : {1, 2}) {
    TinyPlan plan = plan_of("gpt2", passes, "disk", 2, GradientFormat::int8);
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

// Of a gradient at rest: 2 bytes a number, or 1 with 4 for each block of 128 numbers in a row;
// vectors 4.
std::int64_t rest_bytes(const LayerGraph& graph, const Parameter& p, GradientFormat format) {
  const Shape& shape = graph[p.gradient].type.shape;
  const std::int64_t count = shape.count(), rows = shape[0].size;
  if (!p.decays) return align_up(4 * count, tensor_alignment);
  if (format == GradientFormat::bf16) return align_up(2 * count, tensor_alignment);
  const std::int64_t blocks = rows * ((count / rows + 127) / 128);
  return align_up(count, tensor_alignment) + align_up(4 * blocks, tensor_alignment);
}

// Packed ones go home once a step and come back once, but for those that the turn finds in their
// slots. Sums of some micro-batches travel in 4 bytes.
void expect_closed_form(GradientFormat format, int layers, int slots, int passes) {
  TinyPlan plan = plan_of("gpt2", passes, "host", slots, format);
  plan.layers = layers;
  const ProgramSet set = tiny_programs(plan);
  std::int64_t packed = 0, whole = 0;
  for (const Parameter& p : set.model->block.parameters) {
    packed += rest_bytes(set.model->block, p, format);
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
  // At home is what travels: the larger form where both do.
  EXPECT_EQ(set.residency->blob_bytes(LayerKind::block, Region::packed), packed);
  std::int64_t at_home = 0;
  for (const Kind kind : {Kind::weights, Kind::optimizer})
    at_home += l * set.residency->page_bytes(1, kind);
  at_home += l * align_up(p == 1 ? packed : whole, blob_alignment);
  EXPECT_EQ(set.memory.host_bytes(), at_home);
}

TEST(PackedProgram, MovesWhatTheClosedFormSays) {
  for (const GradientFormat format : formats)
    for (const int layers : {4, 7})
      for (const int slots : {2, 3})
        for (const int passes : {1, 2, 3}) {
          SCOPED_TRACE(fmt::format("{} {} {} {}", name_of(format), layers, slots, passes));
          expect_closed_form(format, layers, slots, passes);
        }
}

// What a plan says of a model at rest, per number: weights and moments 12 bytes, gradients 4, 2, or
// 1 and 4/128, but for vectors and what fills pages.
TEST(PackedProgram, AParameterTakesItsFormatsBytesAtRest) {
  const auto gradient_bytes = [](GradientFormat format, const char* homes) {
    Config config = load_config("gpt2-124m");
    const std::vector<std::string> options = {"plan.precision=bf16",
                                              fmt::format("plan.gradients={}", name_of(format)),
                                              fmt::format("plan.homes={}", homes), "plan.passes=1"};
    apply_overrides(config, options);
    const ProgramSet set = build_programs(training_spec(config, plan_of(config), 1));
    const Residency& residency = *set.residency;
    std::int64_t numbers = 0;
    for (const Parameter& p : set.model->block.parameters) numbers += p.count();
    const std::int64_t all = at_rest_bytes(set);
    std::int64_t others = 0;
    for (int layer = 0; layer < set.model->layer_count(); ++layer) {
      const LayerKind kind = set.model->kind_of(layer);
      others += residency.blob_bytes(kind, Region::weights) +
                residency.blob_bytes(kind, Region::optimizer) +
                (kind == LayerKind::block ? 0 : residency.blob_bytes(kind, Region::gradients));
    }
    return static_cast<double>(all - others) / static_cast<double>(numbers * set.model->layers);
  };
  EXPECT_NEAR(gradient_bytes(GradientFormat::f32, "host"), 4, 0.01);
  EXPECT_NEAR(gradient_bytes(GradientFormat::bf16, "host"), 2, 0.01);
  EXPECT_NEAR(gradient_bytes(GradientFormat::int8, "host"), 1 + 4.0 / 128, 0.01);
  EXPECT_NEAR(gradient_bytes(GradientFormat::int8, "optimizer=host"), 4, 0.01);
}

}  // namespace
}  // namespace sluice
