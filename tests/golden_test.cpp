// Sluice against what Transformers and PyTorch computed (tests/goldens/README.md): logits, loss,
// every gradient, twenty AdamW steps, and the files both ways.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "core/file.h"
#include "core/test_folder.h"
#include "support/machine.h"

namespace sluice {
namespace {

using namespace testing_support;
namespace fs = std::filesystem;

constexpr double gradient_tolerance = 1e-5, loss_tolerance = 1e-6, weight_tolerance = 1e-5;
constexpr int golden_steps = 20;

template <class T>
std::vector<T> values(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo* info = file.find(name);
  if (info == nullptr) throw Error("the golden lacks " + name);
  const std::span<const std::byte> bytes = file.bytes(*info);
  std::vector<T> out(bytes.size() / sizeof(T));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

// All tensors whose name begins with `prefix`, without it.
Tensors tensors_of(const SafetensorsFile& file, const std::string& prefix) {
  Tensors out;
  for (const TensorInfo& info : file.tensors())
    if (info.name.starts_with(prefix))
      out[info.name.substr(prefix.size())] = to_double(values<float>(file, info.name));
  return out;
}

struct Case {
  fs::path folder;
  SafetensorsFile golden;
  ModelConfig model;
  OptimConfig optim;
  std::int64_t rows, time;

  explicit Case(const std::string& name)
      : folder(fs::path(SLUICE_SOURCE_DIR) / "tests/goldens" / name),
        golden(SafetensorsFile::open(folder / "golden.safetensors")),
        model(read_model_config(folder)) {
    const auto meta = nlohmann::json::parse(read_file((folder / "meta.json").string()));
    rows = meta["batch"]["rows"];
    time = meta["batch"]["sequence"];
    const nlohmann::json& o = meta["optimizer"];
    optim.beta1 = o["beta1"];
    optim.beta2 = o["beta2"];
    optim.eps = o["eps"];
    optim.weight_decay = o["weight_decay"];
    optim.clip = o["clip"];
  }

  MachineSpec spec(int micro_batches) const {
    MachineSpec out;
    out.model = model;
    out.optim = optim;
    out.shape = {rows / micro_batches, time};
    out.micro_batches = micro_batches;
    out.head_chunk = 64;
    out.poison = true;
    return out;
  }

  Batch batch() const {
    Batch out = Batch::of(rows, time);
    out.ids = values<std::int32_t>(golden, "ids");
    out.targets = values<std::int32_t>(golden, "targets");
    out.weights = values<float>(golden, "token_weights");
    return out;
  }

  Batch step_batch(int step) const {
    const std::vector<std::int32_t> all = values<std::int32_t>(golden, "steps.ids");
    Batch out = Batch::of(rows, time);
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t t = 0; t < time; ++t) {
        const auto from = static_cast<std::size_t>((step * rows + row) * (time + 1) + t);
        const auto to = static_cast<std::size_t>(row * time + t);
        out.ids[to] = all[from];
        out.targets[to] = all[from + 1];
      }
    return out;
  }
};

struct Steps {
  std::vector<double> loss, grad_norm;
  Tensors weights;
};

// The twenty steps; `lr_shift` 1 uses each learning rate one step late.
Steps run_steps(const Case& c, const MachineSpec& spec, int lr_shift = 0) {
  Machine machine(spec);
  machine.load(c.folder);
  const std::vector<float> lr = values<float>(c.golden, "steps.lr");
  Steps out;
  for (int step = 0; step < golden_steps; ++step) {
    const float rate = lr[static_cast<std::size_t>(std::max(0, step - lr_shift))];
    const StepNumbers numbers = machine.step(c.step_batch(step), rate, step + 1);
    out.loss.push_back(numbers.loss);
    out.grad_norm.push_back(numbers.grad_norm);
  }
  machine.settle();
  out.weights = machine.weights();
  return out;
}

Distance after_steps(const Case& c, const MachineSpec& spec, int lr_shift = 0) {
  return distance(run_steps(c, spec, lr_shift).weights, tensors_of(c.golden, "after."));
}

Distance gradient_distance(const Case& c, Machine& machine) {
  machine.step(c.batch(), 0, 1);
  return distance(with_bias_parts(machine.gradients()),
                  with_bias_parts(tensors_of(c.golden, "grad.")));
}

double logits_distance(const Case& c, const std::vector<double>& logits) {
  std::vector<double> picked;
  for (std::int64_t row = 0; row < c.rows; ++row)
    for (const std::int32_t t : values<std::int32_t>(c.golden, "logits_positions")) {
      const auto at = logits.begin() + (row * c.time + t) * c.model.vocab;
      picked.insert(picked.end(), at, at + c.model.vocab);
    }
  return distance(picked, to_double(values<float>(c.golden, "logits")));
}

// As the test's report records it.
std::string text_of(const Distance& worst) {
  return fmt::format("{:.2e} {}", worst.worst, worst.name);
}

std::string text_of(const MachineSpec& spec) {
  return fmt::format("{}_{}_micro_batches", name_of(spec.isa), spec.micro_batches);
}

// Every instruction set of this machine, the rows as one micro-batch and as one each.
std::vector<MachineSpec> variants(const Case& c) {
  std::vector<MachineSpec> out;
  for (const Isa isa : available_isas())
    for (const int micro_batches : std::set<int>{1, static_cast<int>(c.rows)}) {
      out.push_back(c.spec(micro_batches));
      out.back().isa = isa;
    }
  return out;
}

// Some weight matrix of the first block.
std::string query_weight(const Case& c) {
  return c.model.family == "gpt2" ? "transformer.h.0.attn.c_attn.weight"
                                  : "transformer.h.0.attn.q_proj.weight";
}

class Golden : public testing::TestWithParam<const char*> {};
class GoldenSlow : public Golden {};
const auto cases =
    testing::Values("gpt2-a", "gpt2-b", "gpt2-c", "gpt2-d", "gptj-a", "gptj-b", "gptj-c", "gptj-d");
std::string name_of_case(const testing::TestParamInfo<const char*>& one) {
  std::string name = one.param;
  std::ranges::replace(name, '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Cases, Golden, cases, name_of_case);
INSTANTIATE_TEST_SUITE_P(Cases, GoldenSlow, cases, name_of_case);

TEST_P(Golden, LogitsAreClose) {
  const Case c(GetParam());
  Machine machine(c.spec(1));
  machine.load(c.folder);
  const double logits = logits_distance(c, machine.logits(c.batch()));
  EXPECT_LE(logits, gradient_tolerance);
  EXPECT_LE(logits_distance(c, machine.cached_logits(c.batch(), false)), gradient_tolerance);
  EXPECT_LE(logits_distance(c, machine.cached_logits(c.batch(), true)), gradient_tolerance);
  RecordProperty("distance", fmt::format("{:.2e}", logits));

  const std::span<float> weight = machine.weight(query_weight(c));
  std::swap_ranges(weight.begin(), weight.begin() + c.model.width, weight.begin() + c.model.width);
  machine.derive();
  EXPECT_GT(logits_distance(c, machine.logits(c.batch())), gradient_tolerance) << "slices swapped";
}

TEST_P(Golden, LossAndGradientsAreClose) {
  const Case c(GetParam());
  const double loss = values<float>(c.golden, "loss")[0];
  for (const MachineSpec& spec : variants(c)) {
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
  const std::vector<float> loss = values<float>(c.golden, "steps.loss");
  const std::vector<float> norm = values<float>(c.golden, "steps.grad_norm");
  const Steps ours = run_steps(c, spec);
  for (std::size_t step = 0; step < golden_steps; ++step) {
    EXPECT_NEAR(ours.loss[step], loss[step], loss_tolerance * loss[step]) << "step " << step;
    EXPECT_NEAR(ours.grad_norm[step], norm[step], gradient_tolerance * norm[step])
        << "step " << step;
  }
  const Distance worst = distance(ours.weights, tensors_of(c.golden, "after."));
  EXPECT_LE(worst.worst, weight_tolerance) << worst.name;
  testing::Test::RecordProperty(text_of(spec), text_of(worst));
}

TEST_P(Golden, WeightsAfterTwentyStepsAreClose) {
  const Case c(GetParam());
  for (const MachineSpec& spec : variants(c))
    if (spec.isa == best_isa()) expect_steps_close(c, spec);
}

TEST_P(GoldenSlow, WeightsAfterTwentyStepsAreCloseOnEveryInstructionSet) {
  const Case c(GetParam());
  for (const MachineSpec& spec : variants(c))
    if (spec.isa != best_isa()) expect_steps_close(c, spec);
}

TEST_P(Golden, WrongWeightsAreNotClose) {
  const Case c(GetParam());
  Machine machine(c.spec(1));
  machine.load(c.folder);
  const std::span<float> weight = machine.weight(query_weight(c));
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

  machine.weight(query_weight(c))[3] *= 1.0000001f;
  const std::span<const float> changed = machine.weight(query_weight(c));
  const std::span<const std::byte> stored = ours.bytes(*ours.find(query_weight(c)));
  EXPECT_NE(std::memcmp(changed.data(), stored.data(), stored.size()), 0);
}

}  // namespace
}  // namespace sluice
