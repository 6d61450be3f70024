// Where numbers live, how a step is cut and what is made again changes no bit: every pair of values
// of these factors ends in the digest that the first executor gave, which kept all on the device.
//
// The rules of validity: passes are of the layer-major schedule; slots matter where something
// streams; GPT-J has no tied form; moments in 8 bits go with weights in bf16.
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <sstream>

#include "support/streamed.h"

namespace sluice {
namespace {

using namespace testing_support;

constexpr int steps = 20;

struct Golden {
  std::string precision, state, gradients, family, tied, weights, optimizer, loss;
};

std::vector<Golden> read_goldens() {
  std::vector<Golden> out;
  std::ifstream file(SLUICE_SOURCE_DIR "/tests/goldens/streaming.tsv");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream fields(line);
    Golden& g = out.emplace_back();
    fields >> g.precision >> g.state >> g.gradients >> g.family >> g.tied >> g.weights >>
        g.optimizer >> g.loss;
  }
  return out;
}

const std::vector<const char*> homes{
    "device",
    "host",
    "disk",
    "host,@ends=host",
    "disk,@ends=disk",
    "weights=host",
    "optimizer=disk,@ends=host",
    "gradients=host,@embedding=host",
    "optimizer=host,gradients=host",
    "optimizer=disk,gradients=host,weights@0-2=host,weights@head=disk",
    "host,weights@0-1=device,optimizer@2-3=disk,gradients@5=device,optimizer@ends=disk"};
const std::vector<int> slots{2, 3, 5};
const std::vector<int> passes{0, 1, 2, 3};  // 0: micro-batch-major
const std::vector<Recompute> recomputes{Recompute::none, Recompute::selective, Recompute::block};
const std::vector<const char*> stashes{"kept", "spilled"};
const std::vector<Blobs> blobs{Blobs::layer, Blobs::parts};

// One value of each factor; the first is a line of the goldens.
constexpr int factors = 7;
using Case = std::array<std::size_t, factors>;

std::array<std::size_t, factors> sizes(std::size_t goldens) {
  return {goldens,           homes.size(),   slots.size(), passes.size(),
          recomputes.size(), stashes.size(), blobs.size()};
}

bool is_valid(const Case& c) { return c[1] != 0 || c[5] != 0 || c[2] == 0; }

template <class Visit>
void each_case(std::size_t goldens, Visit visit) {
  const auto size = sizes(goldens);
  Case c{};
  for (c[0] = 0; c[0] < size[0]; ++c[0])
    for (c[1] = 0; c[1] < size[1]; ++c[1])
      for (c[2] = 0; c[2] < size[2]; ++c[2])
        for (c[3] = 0; c[3] < size[3]; ++c[3])
          for (c[4] = 0; c[4] < size[4]; ++c[4])
            for (c[5] = 0; c[5] < size[5]; ++c[5])
              for (c[6] = 0; c[6] < size[6]; ++c[6])
                if (is_valid(c)) visit(c);
}

// The pairs of values in a case, numbered.
std::array<std::size_t, factors*(factors - 1) / 2> pairs_of(const Case& c) {
  std::array<std::size_t, factors*(factors - 1) / 2> out{};
  std::size_t next = 0;
  for (std::size_t a = 0; a < factors; ++a)
    for (std::size_t b = a + 1; b < factors; ++b, ++next)
      out[next] = (next * 64 + c[a]) * 64 + c[b];
  return out;
}

// Cases until every pair that a valid case has was seen: always the one that has most new ones.
std::vector<Case> pairwise(std::size_t goldens) {
  std::vector<char> open(factors * factors * 64 * 64, 0);
  std::size_t left = 0;
  each_case(goldens, [&](const Case& c) {
    for (const std::size_t pair : pairs_of(c))
      if (!open[pair]) open[pair] = 1, ++left;
  });
  std::vector<Case> out;
  while (left > 0) {
    Case best{};
    int most = 0;
    each_case(goldens, [&](const Case& c) {
      int found = 0;
      for (const std::size_t pair : pairs_of(c)) found += open[pair];
      if (found > most) best = c, most = found;
    });
    for (const std::size_t pair : pairs_of(best))
      if (open[pair]) open[pair] = 0, --left;
    out.push_back(best);
  }
  return out;
}

MachineSpec spec_of(const Golden& golden, const Case& c) {
  MachineSpec out =
      streamed_spec(golden.family, golden.tied == "tied",
                    {.precision = golden.precision == "bf16" ? DType::bf16 : DType::f32,
                     .state = golden.state == "compact" ? StateFormat::compact : StateFormat::exact,
                     .gradients = golden.gradients == "bf16"   ? GradientFormat::bf16
                                  : golden.gradients == "int8" ? GradientFormat::int8
                                                               : GradientFormat::f32});
  out.isa = Isa::avx2;
  out.homes = homes[c[1]];
  out.slots = slots[c[2]];
  out.passes = passes[c[3]];
  out.recompute = recomputes[c[4]];
  out.spill_stash = c[5] == 1;
  out.blobs = blobs[c[6]];
  return out;
}

// What a line of the goldens says of its model and format.
struct Outcome {
  std::string weights, optimizer, loss;
  bool operator==(const Outcome&) const = default;
};

Outcome outcome_of(const MachineSpec& spec, int count = steps) {
  Machine machine(spec);
  machine.initialize(7);
  const auto batch = [&](int number) { return streamed_batch(spec, number); };
  double loss = 0;
  for (int step = 1; step <= count; ++step) {
    loss = machine.step(batch(100 + step), 1e-3 * step, step).loss;
    if (step != steps / 2) continue;
    machine.settle();
    machine.evaluate(batch(99));
  }
  machine.settle();
  return {fmt::format("{:016x}", machine.digest()), fmt::format("{:016x}", machine.state_digest()),
          fmt::format("{:.17g}", loss)};
}

Outcome said_by(const Golden& golden) { return {golden.weights, golden.optimizer, golden.loss}; }

std::string text_of(const Golden& golden, const Case& c) {
  return fmt::format(
      "{} {} {} {} {}, homes {}, {} slots, {} passes, recompute {}, stash {}, blobs {}",
      golden.precision, golden.state, golden.gradients, golden.family, golden.tied, homes[c[1]],
      slots[c[2]], passes[c[3]], name_of(recomputes[c[4]]), stashes[c[5]], name_of(blobs[c[6]]));
}

TEST(StreamingGoldenSlow, EveryPairEndsInTheDigestOnFile) {
  const std::vector<Golden> goldens = read_goldens();
  ASSERT_EQ(goldens.size(), 27u);  // 9 formats x 3 models
  const std::vector<Case> cases = pairwise(goldens.size());
  EXPECT_GE(cases.size(), goldens.size() * homes.size());
  for (const Case& c : cases)
    EXPECT_EQ(outcome_of(spec_of(goldens[c[0]], c)), said_by(goldens[c[0]]))
        << text_of(goldens[c[0]], c);
  // A step less, another format: other digests.
  EXPECT_NE(outcome_of(spec_of(goldens[0], cases[0]), steps - 1), said_by(goldens[0]));
  EXPECT_NE(outcome_of(spec_of(goldens[1], cases[0])), said_by(goldens[0]));
}

// Every valid case of the format that most runs use: of one model and one choice of homes at a
// time, so that they can run side by side.
class StreamingGoldenAll : public testing::TestWithParam<std::tuple<int, int>> {};

constexpr int models = 3;
constexpr int cases_at_home = 3 * 2 * 4 * 3 * 2;  // slots, stashes, passes, recomputes, blobs
constexpr int invalid_on_device = 2 * 4 * 3 * 2;  // more slots, where nothing moves

bool is_of_most_runs(const Golden& golden) {
  return golden.precision == "bf16" && golden.state == "exact" && golden.gradients == "float32";
}

template <class Visit>
int each_case_of(const std::vector<Golden>& goldens, int model, int home, Visit visit) {
  std::vector<std::size_t> lines;
  for (std::size_t i = 0; i < goldens.size(); ++i)
    if (is_of_most_runs(goldens[i])) lines.push_back(i);
  int count = 0;
  each_case(goldens.size(), [&](const Case& c) {
    if (c[0] != lines.at(static_cast<std::size_t>(model))) return;
    if (c[1] != static_cast<std::size_t>(home)) return;
    visit(goldens[c[0]], c);
    ++count;
  });
  return count;
}

TEST_P(StreamingGoldenAll, ExactWithFloat32GradientsInEveryWay) {
  const auto [model, home] = GetParam();
  const int count =
      each_case_of(read_goldens(), model, home, [](const Golden& golden, const Case& c) {
        EXPECT_EQ(outcome_of(spec_of(golden, c)), said_by(golden)) << text_of(golden, c);
      });
  EXPECT_EQ(count, cases_at_home - (home == 0 ? invalid_on_device : 0));
}

INSTANTIATE_TEST_SUITE_P(Streaming, StreamingGoldenAll,
                         testing::Combine(testing::Range(0, models), testing::Range(0, 11)),
                         [](const auto& info) {
                           return fmt::format("model{}_homes{}", std::get<0>(info.param),
                                              std::get<1>(info.param));
                         });

TEST(StreamingGolden, EveryValidCaseIsOfOneModelAndHome) {
  const std::vector<Golden> goldens = read_goldens();
  ASSERT_EQ(homes.size(), 11u);
  int all = 0, found = 0;
  each_case(goldens.size(), [&](const Case& c) { all += is_of_most_runs(goldens[c[0]]) ? 1 : 0; });
  for (int model = 0; model < models; ++model)
    for (int home = 0; home < 11; ++home)
      found += each_case_of(goldens, model, home, [](const Golden&, const Case&) {});
  EXPECT_EQ(found, all);
  EXPECT_EQ(all, models * (11 * cases_at_home - invalid_on_device));
}

}  // namespace
}  // namespace sluice
