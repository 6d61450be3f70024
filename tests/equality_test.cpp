// What must not change bits does not (threads, recompute, fusion), and what may change rounding
// alone stays close (micro-batches, packing, the cache, instruction sets).
#include <gtest/gtest.h>

#include <bit>
#include <iostream>

#include "support/machine.h"

namespace sluice {
namespace {

using namespace testing_support;

constexpr double tolerance = 1e-5, split_tolerance = 3e-6, loss_tolerance = 1e-6;

// Every product has at least 4 tiles and every sum over tokens at least 4 chunks.
MachineSpec wide(std::int64_t rows, int micro_batches) {
  MachineSpec out;
  ModelConfig& m = out.model;
  m.layers = 3;
  m.width = 320;
  m.heads = 5;
  m.context = 257;
  m.vocab = 1003;
  out.optim.eps = 1e-5;
  out.shape = {rows / micro_batches, 257};
  out.micro_batches = micro_batches;
  out.head_chunk = 64;
  return out;
}

// A small one for tests that run many times.
MachineSpec narrow(const std::string& family, BatchShape shape) {
  MachineSpec out;
  ModelConfig& m = out.model;
  m.family = family;
  m.layers = 2;
  m.width = 60;
  m.heads = 5;
  m.context = 150;
  m.vocab = 203;
  m.init_std = 0.1;  // attention that looks somewhere: gradients of queries and keys are not tiny
  if (family == "gptj") m.rotary = 8, m.tied = false;
  out.optim.eps = 1e-5;
  out.shape = shape;
  out.head_chunk = 16;
  out.poison = true;
  return out;
}

struct Outcome {
  std::uint64_t digest = 0;
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
  out.digest = machine.digest();
  return out;
}

// In weight matrix of the middle block, before step 2: settled, changed, derived anew.
void flip_one_bit(Machine& machine, int step) {
  if (step != 2) return;
  machine.settle();
  float& weight = machine.weight("transformer.h.1.mlp.c_fc.weight")[1234];
  weight = std::bit_cast<float>(std::bit_cast<std::uint32_t>(weight) ^ 1u);
  machine.derive();
}

TEST(SameDigest, TwoCornersOfThreadsRecomputeAndFusion) {
  MachineSpec spec = wide(2, 2);
  spec.shape.time = 65;
  spec.threads = 1;
  const Outcome base = train(spec, 2);
  spec.threads = 3;
  spec.recompute = Recompute::block;
  spec.fuse = false;
  EXPECT_EQ(train(spec, 2), base);
  EXPECT_NE(train(spec, 2, flip_one_bit).digest, base.digest);
}

TEST(SameDigest, SettlingBetweenStepsChangesNothing) {
  const MachineSpec spec = narrow("gpt2", {2, 70});
  const Outcome base = train(spec, 4);
  EXPECT_EQ(train(spec, 4, [](Machine& machine, int) { machine.settle(); }), base);
  EXPECT_NE(train(spec, 3).digest, base.digest);
}

TEST(SameDigestSlow, ThreadsRecomputeFusion) {
  MachineSpec spec = wide(2, 2);
  spec.threads = 1;
  const Outcome base = train(spec, 3);
  for (const int threads : {1, 2, 3})
    for (const Recompute recompute : {Recompute::none, Recompute::selective, Recompute::block})
      for (const bool fuse : {true, false}) {
        spec.threads = threads;
        spec.recompute = recompute;
        spec.fuse = fuse;
        const Outcome other = train(spec, 3);
        EXPECT_EQ(other.digest, base.digest)
            << threads << " threads, recompute " << name_of(recompute) << ", fuse " << fuse;
        EXPECT_EQ(other.loss, base.loss);
        EXPECT_EQ(other.gradients, base.gradients);
      }
  EXPECT_NE(train(spec, 3, flip_one_bit).digest, base.digest);
}

void expect_splits_close(const std::function<MachineSpec(int micro_batches)>& make,
                         std::initializer_list<int> splits) {
  const Outcome whole = train(make(1), 1);
  for (const int micro_batches : splits) {
    const Outcome split = train(make(micro_batches), 1);
    EXPECT_NEAR(split.loss[0], whole.loss[0], loss_tolerance * whole.loss[0]);
    const Distance worst = distance(split.gradients, whole.gradients);
    EXPECT_LE(worst.worst, split_tolerance) << worst.name << ", " << micro_batches;
    testing::Test::RecordProperty(fmt::format("micro_batches_{}", micro_batches),
                                  fmt::format("{:.2e} {}", worst.worst, worst.name));
    MachineSpec dropping = make(micro_batches);
    dropping.filter = [](const Op& op, bool first) {
      return first || !std::holds_alternative<LayerNormGradWeight>(op);
    };
    EXPECT_GT(distance(train(dropping, 1).gradients, whole.gradients).worst, split_tolerance)
        << "gradients of later micro-batches dropped";
  }
}

TEST(MicroBatches, AreClose) {
  expect_splits_close(
      [](int micro_batches) {
        MachineSpec spec = narrow("gptj", {8 / micro_batches, 33});
        spec.micro_batches = micro_batches;
        return spec;
      },
      {2, 4, 8});
}

TEST(MicroBatchesSlow, AreClose) {
  expect_splits_close([](int micro_batches) { return wide(8, micro_batches); }, {2, 8});
}

TEST(InstructionSets, EachRunsAndIsClose) {
  MachineSpec spec = narrow("gpt2", {2, 70});
  spec.isa = Isa::portable;
  const Outcome base = train(spec, 1);
  std::cout << "instruction sets:";
  for (const Isa isa : available_isas()) {
    spec.isa = isa;
    spec.threads = 1;
    const Outcome one = train(spec, 3);
    spec.threads = 3;
    EXPECT_EQ(train(spec, 3), one) << name_of(isa);
    const Distance worst = distance(train(spec, 1).gradients, base.gradients);
    EXPECT_LE(worst.worst, tolerance) << name_of(isa) << " " << worst.name;
    std::cout << fmt::format(" {} (digest {:016x}, gradients {:.1e} from portable's)", name_of(isa),
                             one.digest, worst.worst);
  }
  std::cout << std::endl;
}

// Two documents in one row: starts and positions begin anew at the second.
Batch packed_row(std::int64_t first, std::int64_t second, std::int64_t vocab) {
  Batch out = Batch::random(1, first + second, vocab, 9);
  for (std::int64_t t = first; t < first + second; ++t) {
    out.starts[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(first);
    out.positions[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(t - first);
  }
  return out;
}

// Columns [from, from + time) of a row as a document of its own.
Batch alone(const Batch& row, std::int64_t from, std::int64_t time) {
  Batch out = Batch::of(1, time);
  std::copy_n(row.ids.begin() + from, time, out.ids.begin());
  std::copy_n(row.targets.begin() + from, time, out.targets.begin());
  return out;
}

struct Result {
  std::vector<double> logits;
  Tensors gradients;  // of the summed loss
};

Result result_of(const std::string& family, const Batch& batch) {
  Machine machine(narrow(family, {1, batch.time}));
  machine.initialize(7);
  Result out{machine.logits(batch), {}};
  machine.step(batch, 0, 1);
  out.gradients = with_bias_parts(machine.gradients());
  for (auto& [name, values] : out.gradients)
    for (double& value : values) value *= static_cast<double>(batch.time);
  return out;
}

class Packed : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, Packed, testing::Values("gpt2", "gptj"),
                         [](const auto& one) { return std::string(one.param); });

TEST_P(Packed, DocumentsAreTheTwoAlone) {
  constexpr std::int64_t first = 79, second = 58;
  const Batch row = packed_row(first, second, 203);
  const Result both = result_of(GetParam(), row);
  Result sum = result_of(GetParam(), alone(row, 0, first));
  const Result other = result_of(GetParam(), alone(row, first, second));
  sum.logits.insert(sum.logits.end(), other.logits.begin(), other.logits.end());
  for (auto& [name, values] : sum.gradients)
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += other.gradients.at(name)[i];

  EXPECT_LE(distance(both.logits, sum.logits), tolerance);
  const Distance worst = distance(both.gradients, sum.gradients);
  EXPECT_LE(worst.worst, tolerance) << worst.name;

  Batch wrong = row;
  std::ranges::fill(wrong.starts, 0);
  const Result seen = result_of(GetParam(), wrong);
  EXPECT_GT(distance(seen.logits, sum.logits), tolerance) << "the second document sees the first";
  EXPECT_GT(distance(seen.gradients, sum.gradients).worst, tolerance);
  wrong = row;
  wrong.starts[first] = static_cast<std::int32_t>(first) - 1;
  EXPECT_GT(distance(result_of(GetParam(), wrong).logits, sum.logits), tolerance) << "by one token";
}

TEST_P(Packed, CachedLogitsAreCloseAtEveryPosition) {
  MachineSpec spec = narrow(GetParam(), {2, 143});
  Machine machine(spec);
  machine.initialize(7);
  const Batch batch = Batch::random(2, 143, spec.model.vocab, 3);
  const std::vector<double> uncached = machine.logits(batch);
  const auto position = [&](const std::vector<double>& logits, std::int64_t token) {
    return std::span(logits).subspan(static_cast<std::size_t>(token * spec.model.vocab),
                                     static_cast<std::size_t>(spec.model.vocab));
  };
  for (const bool one_by_one : {false, true}) {
    const std::vector<double> cached = machine.cached_logits(batch, one_by_one);
    ASSERT_EQ(cached.size(), uncached.size());
    for (std::int64_t token = 0; token < 2 * 143; ++token)
      EXPECT_LE(distance(position(cached, token), position(uncached, token)), tolerance) << token;
  }
  Batch shifted = batch;
  shifted.ids[70] = (shifted.ids[70] + 1) % 203;
  const std::vector<double> other = machine.cached_logits(shifted, true);
  EXPECT_GT(distance(position(other, 70), position(uncached, 70)), tolerance);
  EXPECT_GT(distance(position(other, 142), position(uncached, 142)), tolerance);
  EXPECT_LE(distance(position(other, 69), position(uncached, 69)), tolerance) << "causal";
}

}  // namespace
}  // namespace sluice
