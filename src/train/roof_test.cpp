#include "train/roof.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backend/cpu/cpu.h"
#include "train/assembly.h"
#include "train/bench_steps.h"
#include "train/peaks.h"

namespace sluice {
namespace {

Config tiny(const std::string& precision = "float32") {
  Config config = parse_config(
      "model = { family = \"gpt2\", layers = 2, width = 32, heads = 2, context = 16, vocab = 100 "
      "}\n"
      "batch = { tokens = 128, sequence = 16 }\n"
      "plan = { micro_batch = 2, head_chunk = 16, precision = \"" +
          precision + "\" }\nrun = { tokens = 12800 }",
      "tiny.toml");
  check(config);
  return config;
}

ProgramSet programs_of(const Config& config) {
  Plan plan = plan_of(config);
  plan.packed = false;
  return assemble_training(config, plan, 1);
}

double flops_of(const std::vector<LooseOp>& ops) {
  double out = 0;
  for (const LooseOp& one : ops) out += cost(one.op, one.types).flops;
  return out;
}

// Three products for every weight that is multiplied, the head's vocabulary padded, whatever is
// fused with them and however the head is cut.
TEST(Roof, HasEveryProductOfAStep) {
  for (const char* precision : {"float32", "bf16"}) {
    const Config config = tiny(precision);
    std::vector<LooseOp> products = products_of(programs_of(config).named("steady"));
    const double weights = 2 * 12.0 * 32 * 32 + 128 * 32;
    EXPECT_EQ(flops_of(products), 6 * weights * 128) << precision;
    products.pop_back();
    EXPECT_NE(flops_of(products), 6 * weights * 128) << precision;
  }
}

TEST(Roof, HasAllAttentionOnce) {
  std::int64_t count = 0;
  const auto attentions = attentions_of(programs_of(tiny()).named("steady"));
  for (const Repeated& one : attentions) count += one.count;
  EXPECT_EQ(attentions.size(), 2u);  // one each way
  EXPECT_EQ(count, 2 * 2 * 4);       // ways, layers, micro-batches
}

TEST(Roof, FormulasAreThePublishedOnes) {
  const Config large = load_config("gpt2-124m");
  Plan plan = plan_of(large);
  plan.numerics.precision = DType::bf16;
  plan.numerics.gelu_in_product = true;
  EXPECT_EQ(elementwise_bytes(large.model, plan), 12.0 * 768 * 42 + 4 * 50257);
  plan.numerics.precision = DType::f32;
  EXPECT_EQ(elementwise_bytes(large.model, plan), 12.0 * 768 * 82 + 4 * 50257);
  plan.micro_batches = 3;
  EXPECT_EQ(update_bytes(large.model, plan), 124439808.0 * (32 + 16));
  // GFLOPs of a token: facts of the H200's table of peers.
  EXPECT_NEAR(causal_flops(large.model, 1024), 0.798e9, 1e6);
  EXPECT_NEAR(causal_flops(load_config("gpt2-1558m").model, 1024), 9.80e9, 1e7);
  EXPECT_EQ(dense_peak("NVIDIA H200", true), 989.4e12);
  EXPECT_EQ(dense_peak("NVIDIA H100 PCIe", true), 756.4e12);
  EXPECT_EQ(dense_peak("NVIDIA Test GPU", true), 0);
}

// Measures on the CPU what it would of a GPU: everything takes some time, and is finite.
TEST(Roof, IsMeasuredThroughAnyBackend) {
  const Config config = tiny();
  CpuBackend cpu({.threads = 1, .isa = best_isa()});
  Ceilings ceilings(cpu, 4 << 20);
  Plan plan = plan_of(config);
  plan.packed = false;
  const Roof roof =
      measure_roof(ceilings, programs_of(config).named("steady"), config.model, plan, 0.02);
  for (const double seconds : {roof.products, roof.attention, roof.elementwise, roof.update}) {
    EXPECT_GT(seconds, 0);
    EXPECT_LT(seconds, 10);
  }
  EXPECT_GT(ceilings.launch(), 0);
  EXPECT_GT(ceilings.rate(product_op(DType::f32, 64, 64, 64), 0.01), 1e5);
  EXPECT_GT(ceilings.rate(attention_op(DType::f32, {1, 2, 64, 16}, true), 0.01), 1e4);
  const LinkRates link = measure_link(cpu, 1 << 20, 0.03);
  for (const double rate : {link.in, link.out, link.both}) {
    EXPECT_GT(rate, 1e5);
    EXPECT_LT(rate, 1e13);
  }
  EXPECT_FALSE(ceilings.fits(product_op(DType::f32, 4096, 4096, 4096)));
}

TEST(Roof, StepsOnRandomTokensAreTrainingSteps) {
  Config config = tiny();
  const RandomTokens random(config.model.vocab, 1 << 12);
  config.data.train = random.path();
  TokenFile file(random.path());
  const TrainingBatches batches(file, {.sequence = 16}, 1);
  const Plan plan = plan_of(config);
  const auto programs = std::make_shared<const ProgramSet>(assemble_training(config, plan, 1));
  CpuBackend cpu({.threads = 1, .isa = best_isa()});
  Trainer trainer(config, plan, cpu, programs, batches, {});
  fill_quickly(trainer);
  const BenchSteps steps = run_steps(trainer, 1, 3, 0);
  EXPECT_EQ(steps.seconds.size(), 3u);
  EXPECT_TRUE(steps.last.finite);
  EXPECT_NEAR(steps.last.loss, std::log(100.0), 0.5);
  for (const double seconds : steps.seconds) EXPECT_GT(seconds, 0);
}

}  // namespace
}  // namespace sluice
