// Ten streaming runs that tests under a thread sanitizer can afford: every lane, every kind of blob
// in each tier, both schedules, gradients that rest packed, a spilled stash, blocks in parts,
// copies that take as long as they like. Each ends in the bits of the run that keeps all on the
// device.
#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "support/streamed.h"

namespace sluice {
namespace {

using namespace testing_support;

struct Case {
  const char* family;
  StateFormat state;
  GradientFormat gradients;
  const char* homes;
  int slots, passes;  // passes 0: micro-batch-major
  Recompute recompute;
  bool spilled;
  Blobs blobs = Blobs::layer;
};

constexpr StateFormat exact = StateFormat::exact, compact = StateFormat::compact;
constexpr GradientFormat f32 = GradientFormat::f32, half = GradientFormat::bf16,
                         coded = GradientFormat::int8;
constexpr Recompute none = Recompute::none, selective = Recompute::selective,
                    block = Recompute::block;

const Case cases[] = {
    {"gpt2", exact, f32, "host", 2, 1, none, false},
    {"gpt2", exact, f32, "disk", 3, 0, selective, true, Blobs::parts},
    {"gpt2", exact, half, "host", 2, 2, block, false, Blobs::parts},
    {"gpt2", exact, half, "gradients=disk", 2, 1, none, true},
    {"gptj", exact, coded, "host", 2, 1, block, true, Blobs::parts},
    {"gptj", exact, coded, "disk", 2, 3, none, false},
    {"gptj", exact, coded, "optimizer=host,gradients@1-4=host", 3, 0, selective, false},
    {"gptj", compact, coded, "host,weights@0-1=device,optimizer=disk,gradients@5=device", 2, 1,
     none, true},
    {"gptj", compact, coded, "disk,weights=host", 4, 1, none, false, Blobs::parts},
    {"gptj", compact, f32, "weights=host", 2, 0, selective, true},
};

std::uint64_t digest_of(const Case& c, bool resident, int steps = 2) {
  MachineSpec spec =
      streamed_spec(c.family, c.family == std::string_view("gpt2"),
                    {.precision = DType::bf16, .state = c.state, .gradients = c.gradients});
  if (!resident) {
    spec.homes = c.homes;
    spec.slots = c.slots;
    spec.passes = c.passes;
    spec.recompute = c.recompute;
    spec.spill_stash = c.spilled;
    spec.blobs = c.blobs;
    spec.poison = true;
  }
  Machine machine(spec);
  machine.initialize(7);
  for (int step = 1; step <= steps; ++step)
    machine.step(streamed_batch(spec, 100 + step), 1e-3 * step, step);
  machine.settle();
  return machine.digest() ^ machine.state_digest();
}

TEST(StreamingThreads, TenRunsEndInTheBitsOfTheResidentOne) {
  std::map<std::tuple<std::string, StateFormat, GradientFormat>, std::uint64_t> resident;
  for (const Case& c : cases) {
    const auto [found, is_new] = resident.try_emplace({c.family, c.state, c.gradients}, 0);
    if (is_new) found->second = digest_of(c, true);
    EXPECT_EQ(digest_of(c, false), found->second)
        << c.family << ", homes " << c.homes << ", " << c.passes << " passes";
  }
  EXPECT_EQ(std::size(cases), 10u);
  EXPECT_EQ(resident.size(), 5u);
  EXPECT_NE(digest_of(cases[0], false, 1), digest_of(cases[0], true));
}

}  // namespace
}  // namespace sluice
