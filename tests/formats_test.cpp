// bf16 and the formats of state and gradients, with dropout, averaged weights and a frozen tensor
// on: what must not change bits does not. What the formats cost is in formats_loss_test.cpp.
#include <gtest/gtest.h>

#include "ops/optimizer/formats.h"
#include "support/machine.h"

namespace sluice {
namespace {

using namespace testing_support;

constexpr double split_tolerance = 3e-6, loss_tolerance = 1e-6;

struct Formats {
  StateFormat state;
  GradientFormat gradients;
};

std::vector<Formats> all_formats() {
  std::vector<Formats> out;
  for (const StateFormat state : {StateFormat::exact, StateFormat::compact})
    for (const GradientFormat gradients :
         {GradientFormat::f32, GradientFormat::bf16, GradientFormat::int8})
      out.push_back({state, gradients});
  return out;
}

std::string name_of(const Formats& f) {
  return fmt::format("{}_{}", name_of(f.state), name_of(f.gradients));
}

MachineSpec small(const std::string& family, const Formats& formats) {
  MachineSpec out;
  ModelConfig& m = out.model;
  m.family = family;
  m.layers = 2;
  m.width = 60;
  m.heads = 5;
  m.context = 150;
  m.vocab = 203;
  m.init_std = 0.1;
  m.dropout = 0.1;
  if (family == "gptj") m.rotary = 8, m.tied = false;
  out.optim.eps = 1e-5;
  out.optim.freeze = family == "gptj" ? "*.attn.v_proj.weight" : "*.mlp.c_fc.weight";
  out.numerics = {.precision = DType::bf16,
                  .state = formats.state,
                  .gradients = formats.gradients,
                  .ema = 0.9,
                  .seed = 5};
  out.shape = {2, 70};
  out.micro_batches = 2;
  out.head_chunk = 16;
  out.poison = true;
  return out;
}

struct Outcome {
  std::uint64_t weights = 0, state = 0;
  std::vector<double> loss;
  Tensors gradients;  // of the last step
  bool operator==(const Outcome&) const = default;
};

Outcome train(const MachineSpec& spec, int steps,
              const std::function<void(Machine&, int)>& before = {}) {
  Machine machine(spec);
  machine.initialize(7);
  Outcome out;
  for (int step = 1; step <= steps; ++step) {
    if (before) before(machine, step);
    const std::int64_t rows = spec.shape.batch * spec.micro_batches;
    const Batch batch = Batch::random(rows, spec.shape.time, spec.model.vocab, 100 + step);
    out.loss.push_back(machine.step(batch, 1e-3 * step, step).loss);
  }
  out.gradients = with_bias_parts(machine.gradients());
  machine.settle();
  out.weights = machine.digest();
  out.state = machine.state_digest();
  return out;
}

class InEveryFormat : public testing::TestWithParam<Formats> {};
INSTANTIATE_TEST_SUITE_P(bf16, InEveryFormat, testing::ValuesIn(all_formats()),
                         [](const auto& info) { return name_of(info.param); });

TEST_P(InEveryFormat, ThreadsRecomputeAndFusionChangeNoBits) {
  for (const char* family : {"gpt2", "gptj"}) {
    MachineSpec spec = small(family, GetParam());
    spec.threads = 1;
    const Outcome base = train(spec, 3);
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::block}) {
      spec.threads = recompute == Recompute::none ? 2 : 3;
      spec.recompute = recompute;
      spec.fuse = recompute == Recompute::selective;
      EXPECT_EQ(train(spec, 3), base) << family << " recompute " << name_of(recompute);
    }
  }
}

// Negative controls: one bit of each thing that the optimizer keeps shows in the end.
TEST_P(InEveryFormat, OneBitOfWeightOrStateShows) {
  const MachineSpec spec = small("gpt2", GetParam());
  const Outcome base = train(spec, 3);
  std::vector<std::string> kinds{"", "m", "v", "average"};
  if (GetParam().state == StateFormat::exact) kinds.push_back("low");
  for (const std::string& kind : kinds) {
    const Outcome other = train(spec, 3, [&](Machine& machine, int step) {
      if (step != 2) return;
      machine.settle();
      const auto bytes = machine.bytes("transformer.h.1.attn.c_attn.weight", kind);
      // Of a running mean an upper bit: what the last one is worth may be rounded away.
      const bool moment = kind == "m" || kind == "v" || kind == "average";
      bytes[moment ? 131 : 128] ^= moment ? std::byte{0x40} : std::byte{1};
      machine.derive();
    });
    EXPECT_NE(other.state, base.state) << kind;
  }
}

TEST_P(InEveryFormat, SettlingBetweenStepsChangesNothing) {
  const MachineSpec spec = small("gpt2", GetParam());
  const Outcome base = train(spec, 4);
  EXPECT_EQ(train(spec, 4, [](Machine& machine, int) { machine.settle(); }), base);
  EXPECT_NE(train(spec, 3).weights, base.weights);
}

TEST_P(InEveryFormat, AFrozenTensorStaysAndTheOthersMove) {
  const MachineSpec spec = small("gpt2", GetParam());
  Machine machine(spec);
  machine.initialize(7);
  const Tensors before = machine.weights();
  for (int step = 1; step <= 2; ++step)
    machine.step(Batch::random(4, 70, spec.model.vocab, 100 + step), 1e-2, step);
  machine.settle();
  for (const auto& [name, values] : machine.weights())
    EXPECT_EQ(values == before.at(name), name.ends_with("mlp.c_fc.weight")) << name;
  for (const ModelTensor& tensor : machine.tensors())
    EXPECT_EQ(tensor.state.empty() && !tensor.averaged, tensor.frozen) << tensor.name;
}

// The mask of a token does not depend on the micro-batch that it falls into. In float32, where
// splits are close to 3e-6: in bf16 rounding would hide it.
TEST(Dropout, TheMaskIsTheSameUnderMicroBatchSplits) {
  const auto make = [](int micro_batches) {
    MachineSpec spec = small("gpt2", {StateFormat::exact, GradientFormat::f32});
    spec.numerics.precision = DType::f32;
    spec.shape.batch = 8 / micro_batches;
    spec.micro_batches = micro_batches;
    return spec;
  };
  const Outcome whole = train(make(1), 1);
  for (const int micro_batches : {2, 4, 8}) {
    const Outcome split = train(make(micro_batches), 1);
    EXPECT_NEAR(split.loss[0], whole.loss[0], loss_tolerance * whole.loss[0]);
    const Distance worst = distance(split.gradients, whole.gradients);
    EXPECT_LE(worst.worst, split_tolerance) << worst.name << ", " << micro_batches;
  }
  MachineSpec other = make(2);
  other.numerics.seed = 6;
  EXPECT_GT(distance(train(other, 1).gradients, whole.gradients).worst, 0.1);
}

TEST(Dropout, IsOffInEvaluation) {
  MachineSpec spec = small("gpt2", {StateFormat::exact, GradientFormat::f32});
  const Batch batch = Batch::random(4, 70, spec.model.vocab, 3);
  const auto loss = [&](double rate) {
    spec.model.dropout = rate;
    Machine machine(spec);
    machine.initialize(7);
    const double trained = machine.step(batch, 0, 1).loss;
    return std::pair{trained, machine.evaluate(batch)};
  };
  const auto [with, evaluated] = loss(0.3);
  const auto [without, same] = loss(0);
  EXPECT_EQ(evaluated, same);
  EXPECT_NE(with, without);
}

TEST(EmaAverage, FollowsTheWeights) {
  MachineSpec spec = small("gpt2", {StateFormat::exact, GradientFormat::f32});
  Machine machine(spec);
  machine.initialize(7);
  const std::string name = "transformer.h.0.attn.c_proj.weight";
  const auto master = [&](std::size_t i) {
    const auto weight = machine.bytes(name), low = machine.bytes(name, "low");
    return join_master(reinterpret_cast<const bf16*>(weight.data())[i],
                       reinterpret_cast<const std::int16_t*>(low.data())[i]);
  };
  const auto average = [&](std::size_t i) {
    return reinterpret_cast<const float*>(machine.bytes(name, "average").data())[i];
  };
  const float start = master(17);
  EXPECT_EQ(average(17), start);
  machine.step(Batch::random(4, 70, spec.model.vocab, 1), 1e-2, 1);
  machine.settle();
  EXPECT_NE(master(17), start);
  EXPECT_NEAR(average(17), 0.9f * start + 0.1f * master(17), 1e-7);
}

}  // namespace
}  // namespace sluice
