// An embedding or a head larger than a block, larger even than all slots of blocks: it streams from
// host and disk to the same bits as a resident one.
#include <gtest/gtest.h>

#include "support/streamed.h"
#include "tiny_run.h"

namespace sluice {
namespace {

using namespace testing_support;

struct Format {
  const char* family;
  bool tied;
  StateFormat state;
  GradientFormat gradients;
};

// A table of `vocab` rows; a block has some 12 * 36 of them.
MachineSpec spec_of(const Format& format, std::int64_t vocab) {
  MachineSpec out = streamed_spec(
      format.family, format.tied,
      {.precision = DType::bf16, .state = format.state, .gradients = format.gradients});
  out.model.layers = 4;
  out.model.vocab = vocab;
  out.micro_batches = 3;
  out.poison = true;
  return out;
}

struct Outcome {
  std::uint64_t weights = 0, state = 0;
  std::vector<double> loss;
  bool operator==(const Outcome&) const = default;
};

// Steps, a settled evaluation in the middle, and steps again.
Outcome outcome_of(const MachineSpec& spec, int steps = 4) {
  Machine machine(spec);
  machine.initialize(7);
  Outcome out;
  const auto batch = [&](int number) {
    return Batch::random(2 * spec.micro_batches, 17, spec.model.vocab,
                         static_cast<std::uint64_t>(number));
  };
  for (int step = 1; step <= steps; ++step) {
    out.loss.push_back(machine.step(batch(100 + step), 1e-3 * step, step).loss);
    if (step != 2) continue;
    machine.settle();
    out.loss.push_back(machine.evaluate(batch(99)));
  }
  machine.settle();
  out.weights = machine.digest();
  out.state = machine.state_digest();
  return out;
}

constexpr const char* homes[] = {"host,@ends=host", "disk,@ends=disk", "@ends=disk",
                                 "host,@embedding=host,optimizer@head=disk"};

void expect_same_bits(const Format& format) {
  for (const std::int64_t vocab : {600, 1600}) {
    MachineSpec spec = spec_of(format, vocab);
    const std::int64_t slots = vocab / (12 * spec.model.width);  // of blocks, filled by a table
    EXPECT_EQ(slots, vocab == 600 ? 1 : 3);
    const Outcome resident = outcome_of(spec);
    for (const char* home : homes)
      for (spec.slots = 2; spec.slots <= 3; ++spec.slots)
        for (spec.passes = 0; spec.passes <= 2; ++spec.passes) {
          spec.homes = home;
          spec.recompute = spec.passes == 1 ? Recompute::block : Recompute::none;
          spec.spill_stash = spec.slots == 2;
          EXPECT_EQ(outcome_of(spec), resident)
              << format.family << ", " << vocab << " rows, homes " << home << ", " << spec.slots
              << " slots, " << spec.passes << " passes";
        }
    EXPECT_NE(outcome_of(spec, 3), resident);
    spec.model.vocab -= 1;
    EXPECT_NE(outcome_of(spec), resident);
  }
}

TEST(StreamingEndsSlow, ATiedTableLargerThanABlockKeepsItsBits) {
  expect_same_bits({"gpt2", true, StateFormat::exact, GradientFormat::f32});
}
TEST(StreamingEndsSlow, TablesLargerThanABlockKeepTheirBits) {
  expect_same_bits({"gpt2", false, StateFormat::exact, GradientFormat::bf16});
  expect_same_bits({"gptj", false, StateFormat::compact, GradientFormat::int8});
}

// The same with the binary: a run, a resumed one, and what the plan says of the device.
TEST(StreamingEndsSlow, ARunEndsInTheDigestOfAResidentOne) {
  const std::string narrow =
      "--model.width=16 --model.heads=2 --model.layers=3 --plan.precision=bf16 --plan.state=exact "
      "--run.poison=true --run.tokens=1280 --run.save_every=4 ";
  const std::string away = "--plan.slots=2 --plan.homes=disk,@ends=";
  const TinyRun tiny("tiny", narrow);
  const auto device = [&](const std::string& options) {
    const Ended plan = tiny.run("sluice plan tiny.toml --json " + narrow + options);
    EXPECT_EQ(plan.exit, 0) << plan.err;
    return nlohmann::json::parse(plan.out).at("memory").at("optimizer").get<std::int64_t>();
  };
  EXPECT_LT(device(away + "host"), device("--plan.slots=2 --plan.homes=disk"));
  tiny.train("whole", "");
  tiny.train("run", away + "host --fault train.step:kill@7", 137);
  tiny.train("run", away + "disk");
  EXPECT_EQ(tiny.digest("run"), tiny.digest("whole"));
  EXPECT_EQ(tiny.tensors("run"), tiny.tensors("whole"));
  tiny.train("other", away + "disk --run.seed=2");
  EXPECT_NE(tiny.digest("other"), tiny.digest("whole"));
}

}  // namespace
}  // namespace sluice
