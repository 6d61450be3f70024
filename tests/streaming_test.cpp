// Weight streaming changes where numbers live, never what they are: whatever is at home on the
// host or on disk, however the step is cut into passes, weights and all that the optimizer keeps
// end in the same bits.
#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "support/streamed.h"

namespace sluice {
namespace {

using namespace testing_support;

struct Case {
  std::string homes;
  int slots, passes;  // passes 0: micro-batch-major
  Recompute recompute;
  bool spilled;
  StateFormat state;
  GradientFormat gradients;
  const char* family;
  bool tied;
  Blobs blobs = Blobs::layer;
};

MachineSpec spec_of(const Case& c) {
  MachineSpec out = streamed_spec(
      c.family, c.tied, {.precision = DType::bf16, .state = c.state, .gradients = c.gradients});
  out.homes = c.homes;
  out.slots = c.slots;
  out.passes = c.passes;
  out.recompute = c.recompute;
  out.spill_stash = c.spilled;
  out.blobs = c.blobs;
  out.poison = true;
  return out;
}

struct Outcome {
  std::uint64_t weights = 0, state = 0;
  std::vector<double> loss;
  double evaluated = 0;
  bool operator==(const Outcome&) const = default;
};

// Steps, a settled evaluation in the middle, and steps again.
Outcome outcome_of(const Case& c, int steps = 6) {
  const MachineSpec spec = spec_of(c);
  Machine machine(spec);
  machine.initialize(7);
  Outcome out;
  const auto batch = [&](int number) { return streamed_batch(spec, number); };
  for (int step = 1; step <= steps; ++step) {
    out.loss.push_back(machine.step(batch(100 + step), 1e-3 * step, step).loss);
    if (step != steps / 2) continue;
    machine.settle();
    out.evaluated = machine.evaluate(batch(99));
  }
  machine.settle();
  out.weights = machine.digest();
  out.state = machine.state_digest();
  return out;
}

// The values of each factor; a case takes one of each.
const std::vector<std::string> homes{
    "device",
    "host",
    "weights=host",
    "optimizer=host",
    "gradients=host",
    "optimizer=host,gradients=host",
    "host,weights@0-1=device,optimizer@2-3=device,gradients@5=device",
    "disk",
    "host,@ends=host",
    "weights@ends=host,gradients@head=host",
    "optimizer=host,gradients=host,optimizer@ends=disk,gradients@ends=host",
    "host,optimizer=disk",
    "disk,weights@1-2=host,weights@5=device,optimizer@0=host,gradients@0-1=device,@ends=disk"};
const std::vector<int> slots{2, 3, 5}, passes{0, 1, 2, 3};
const std::vector<Recompute> recomputes{Recompute::none, Recompute::selective, Recompute::block};

constexpr int factors = 6;  // the last two: whether the stash is spilled, and blocks are cut
using Choice = std::array<std::size_t, factors>;

// Every pair of values of any two factors: first come, first served over all cases.
std::vector<Case> pairwise(StateFormat state, GradientFormat gradients, const char* family,
                           bool tied) {
  std::vector<Case> out;
  std::set<std::tuple<int, std::size_t, int, std::size_t>> open;
  const std::size_t sizes[] = {homes.size(), slots.size(), passes.size(), recomputes.size(), 2, 2};
  const auto pairs = [&](const Choice& v, auto visit) {
    for (int a = 0; a < factors; ++a)
      for (int b = a + 1; b < factors; ++b)
        visit(std::tuple{a, v[static_cast<std::size_t>(a)], b, v[static_cast<std::size_t>(b)]});
  };
  const auto each = [&](auto visit) {
    Choice v{};
    for (v[0] = 0; v[0] < sizes[0]; ++v[0])
      for (v[1] = 0; v[1] < sizes[1]; ++v[1])
        for (v[2] = 0; v[2] < sizes[2]; ++v[2])
          for (v[3] = 0; v[3] < sizes[3]; ++v[3])
            for (v[4] = 0; v[4] < sizes[4]; ++v[4])
              for (v[5] = 0; v[5] < sizes[5]; ++v[5]) visit(v);
  };
  each([&](const auto& v) { pairs(v, [&](const auto& pair) { open.insert(pair); }); });
  while (!open.empty()) {
    Choice best{};
    int most = 0;
    each([&](const auto& v) {
      int found = 0;
      pairs(v, [&](const auto& pair) { found += open.contains(pair) ? 1 : 0; });
      if (found > most) best = v, most = found;
    });
    pairs(best, [&](const auto& pair) { open.erase(pair); });
    out.push_back({homes[best[0]], slots[best[1]], passes[best[2]], recomputes[best[3]],
                   best[4] == 1, state, gradients, family, tied,
                   best[5] == 1 ? Blobs::parts : Blobs::layer});
  }
  return out;
}

void expect_same_bits(StateFormat state, GradientFormat gradients, const char* family, bool tied) {
  const Outcome resident =
      outcome_of({"device", 3, 0, Recompute::none, false, state, gradients, family, tied});
  const std::vector<Case> cases = pairwise(state, gradients, family, tied);
  EXPECT_GE(cases.size(), 40u);  // homes x passes
  for (const Case& c : cases)
    EXPECT_EQ(outcome_of(c), resident)
        << c.homes << ", " << c.slots << " slots, " << c.passes << " passes, recompute "
        << name_of(c.recompute) << (c.spilled ? ", spilled" : "") << ", blobs " << name_of(c.blobs);
  EXPECT_NE(outcome_of(cases.back(), 5), resident);
}

TEST(StreamingSlow, ChangesNoBitsOfExact) {
  expect_same_bits(StateFormat::exact, GradientFormat::f32, "gpt2", true);
}
TEST(StreamingSlow, ChangesNoBitsOfCompactAndInt8) {
  expect_same_bits(StateFormat::compact, GradientFormat::int8, "gptj", false);
}
TEST(StreamingAll, ChangesNoBitsOfBf16Gradients) {
  expect_same_bits(StateFormat::exact, GradientFormat::bf16, "gptj", false);
  expect_same_bits(StateFormat::compact, GradientFormat::bf16, "gpt2", false);
}

}  // namespace
}  // namespace sluice
