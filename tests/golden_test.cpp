// Sluice against what Transformers and PyTorch computed (tests/goldens/README.md): logits, loss,
// every gradient, twenty AdamW steps, and the files both ways.
#include <gtest/gtest.h>

#include <cstring>

#include "core/file.h"
#include "core/test_folder.h"
#include "support/golden.h"

namespace sluice {
namespace {

using namespace testing_support;
namespace fs = std::filesystem;

constexpr double gradient_tolerance = 1e-5, loss_tolerance = 1e-6, weight_tolerance = 1e-5;

Distance after_steps(const Case& c, const MachineSpec& spec, int lr_shift = 0) {
  return distance(run_steps(c, spec, lr_shift).weights, c.tensors("after."));
}

Distance gradient_distance(const Case& c, Machine& machine) {
  machine.step(c.batch(), 0, 1);
  return distance(with_bias_parts(machine.gradients()), with_bias_parts(c.tensors("grad.")));
}

double logits_distance(const Case& c, const std::vector<double>& logits) {
  return distance(c.stored_positions(logits), to_double(c.values<float>("logits")));
}

// As the test's report records it.
std::string text_of(const Distance& worst) {
  return fmt::format("{:.2e} {}", worst.worst, worst.name);
}

class Golden : public testing::TestWithParam<const char*> {};
class GoldenSlow : public Golden {};
INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::ValuesIn(golden_cases), name_of_case);
INSTANTIATE_TEST_SUITE_P(Cases, GoldenSlow, testing::ValuesIn(golden_cases), name_of_case);

TEST_P(Golden, LogitsAreClose) {
  const Case c(GetParam());
  Machine machine(c.spec(1));
  machine.load(c.folder);
  const double logits = logits_distance(c, machine.logits(c.batch()));
  EXPECT_LE(logits, gradient_tolerance);
  EXPECT_LE(logits_distance(c, machine.cached_logits(c.batch(), false)), gradient_tolerance);
  EXPECT_LE(logits_distance(c, machine.cached_logits(c.batch(), true)), gradient_tolerance);
  RecordProperty("distance", fmt::format("{:.2e}", logits));

  const std::span<float> weight = machine.weight(c.query_weight());
  std::swap_ranges(weight.begin(), weight.begin() + c.model.width, weight.begin() + c.model.width);
  machine.derive();
  EXPECT_GT(logits_distance(c, machine.logits(c.batch())), gradient_tolerance) << "slices swapped";
}

TEST_P(Golden, LossAndGradientsAreClose) {
  const Case c(GetParam());
  const double loss = c.values<float>("loss")[0];
  for (const MachineSpec& spec : c.variants()) {
    SCOPED_TRACE(text_of(spec));
    Machine machine(spec);
    machine.load(c.folder);
    EXPECT_NEAR(machine.step(c.batch(), 0, 1).loss, loss, loss_tolerance * loss);
    EXPECT_NEAR(machine.evaluate(c.batch()), loss, loss_tolerance * loss);
    const Distance worst = gradient_distance(c, machine);
    EXPECT_LE(worst.worst, gradient_tolerance) << worst.name;
    RecordProperty(text_of(spec), text_of(worst));
  }
}

void expect_steps_close(const Case& c, const MachineSpec& spec) {
  SCOPED_TRACE(text_of(spec));
  const std::vector<float> loss = c.values<float>("steps.loss");
  const std::vector<float> norm = c.values<float>("steps.grad_norm");
  const Steps ours = run_steps(c, spec);
  for (std::size_t step = 0; step < golden_steps; ++step) {
    EXPECT_NEAR(ours.loss[step], loss[step], loss_tolerance * loss[step]) << "step " << step;
    EXPECT_NEAR(ours.grad_norm[step], norm[step], gradient_tolerance * norm[step])
        << "step " << step;
  }
  const Distance worst = distance(ours.weights, c.tensors("after."));
  EXPECT_LE(worst.worst, weight_tolerance) << worst.name;
  testing::Test::RecordProperty(text_of(spec), text_of(worst));
}

TEST_P(Golden, WeightsAfterTwentyStepsAreClose) {
  const Case c(GetParam());
  for (const MachineSpec& spec : c.variants())
    if (spec.isa == best_isa()) expect_steps_close(c, spec);
}

TEST_P(GoldenSlow, WeightsAfterTwentyStepsAreCloseOnEveryInstructionSet) {
  const Case c(GetParam());
  for (const MachineSpec& spec : c.variants())
    if (spec.isa != best_isa()) expect_steps_close(c, spec);
}

TEST_P(Golden, WrongWeightsAreNotClose) {
  const Case c(GetParam());
  Machine machine(c.spec(1));
  machine.load(c.folder);
  const std::span<float> weight = machine.weight(c.query_weight());
  std::swap_ranges(weight.begin(), weight.begin() + c.model.width, weight.begin() + c.model.width);
  machine.derive();
  EXPECT_GT(gradient_distance(c, machine).worst, gradient_tolerance) << "slices swapped";

  machine.load(c.folder);
  const std::string bias = c.model.family == "gpt2" ? "transformer.h.0.attn.c_proj.bias"
                                                    : "transformer.h.0.mlp.fc_out.bias";
  std::ranges::fill(machine.weight(bias), 0.0f);
  EXPECT_GT(gradient_distance(c, machine).worst, gradient_tolerance) << "a bias forgotten";
}

TEST_P(Golden, WrongStepsAreNotClose) {
  const Case c(GetParam());
  MachineSpec spec = c.spec(1);
  spec.optim.clip = 0;
  EXPECT_GT(after_steps(c, spec).worst, weight_tolerance) << "clipping ignored";
  spec = c.spec(1);
  spec.optim.weight_decay = 0;
  EXPECT_GT(after_steps(c, spec).worst, weight_tolerance) << "decay ignored";
  EXPECT_GT(after_steps(c, c.spec(1), 1).worst, weight_tolerance) << "rates one step late";
  if (c.rows == 1) return;
  spec = c.spec(static_cast<int>(c.rows));
  spec.filter = [](const Op& op, bool first) {
    return first || !std::holds_alternative<LinearGradWeight>(op);
  };
  EXPECT_GT(after_steps(c, spec).worst, weight_tolerance) << "later micro-batches' gradients lost";
}

TEST_P(Golden, SavedFilesHoldTheSameBytes) {
  const Case c(GetParam());
  Machine machine(c.spec(1));
  machine.load(c.folder);
  const auto access = [&](int layer, const std::string& value) {
    return machine.tensor(layer, value);
  };
  const TestFolder folder;
  Faults faults;
  CheckpointStore store(folder.path(), 1, faults);
  CheckpointSave save = store.begin(0);
  save_model(save, c.model, machine.tensors(), access);
  save.commit({});
  const fs::path saved = store.folder() / "step-00000000";

  const SafetensorsFile ours = SafetensorsFile::open(saved / "model.safetensors");
  const SafetensorsFile theirs = SafetensorsFile::open(c.folder / "model.safetensors");
  ASSERT_EQ(ours.tensors().size(), theirs.tensors().size());
  for (const TensorInfo& info : theirs.tensors()) {
    const TensorInfo* mine = ours.find(info.name);
    ASSERT_NE(mine, nullptr) << info.name;
    EXPECT_EQ(mine->shape, info.shape) << info.name;
    EXPECT_EQ(mine->dtype, info.dtype) << info.name;
    EXPECT_TRUE(std::ranges::equal(ours.bytes(*mine), theirs.bytes(info))) << info.name;
  }
  const ModelConfig again = read_model_config(saved);
  const auto fields = [](const ModelConfig& m) {
    return std::tie(m.family, m.layers, m.width, m.heads, m.context, m.vocab, m.gelu, m.tied,
                    m.biases, m.norm_eps, m.rotary, m.dropout, m.init_std);
  };
  EXPECT_EQ(fields(again), fields(c.model));
  EXPECT_EQ(again.inner_width(), c.model.inner_width());

  machine.weight(c.query_weight())[3] *= 1.0000001f;
  const std::span<const float> changed = machine.weight(c.query_weight());
  const std::span<const std::byte> stored = ours.bytes(*ours.find(c.query_weight()));
  EXPECT_NE(std::memcmp(changed.data(), stored.data(), stored.size()), 0);
}

}  // namespace
}  // namespace sluice
