// The parametrization table with every column different from 1, against the model's own graphs in
// double precision; and each column alone, which must make a difference.
#include <gtest/gtest.h>

#include <cmath>

#include "graph/initial.h"
#include "support/reference_model.h"

namespace sluice {
namespace {

using namespace testing_support;

constexpr double tolerance = 1e-5, loss_tolerance = 1e-6;
constexpr int steps = 3;
constexpr double rate = 0.01;
constexpr auto roles = static_cast<int>(Role::count);

Parametrization nothing_is_one() {
  Parametrization out;
  for (int i = 0; i < roles; ++i)
    out[static_cast<Role>(i)] = {.std = 1.4 + 0.15 * i,
                                 .lr = 0.45 + 0.04 * i,
                                 .decay = 0.5 + 0.35 * i,
                                 .eps = 1.5 + 0.5 * i};
  out.embedding_sum = 1.7;
  out.attention_logits = 0.6;
  out.attention_branch = 1.3;
  out.mlp_branch = 0.7;
  out.output_logits = 1.9;
  return out;
}

MachineSpec spec_of(const std::string& family) {
  MachineSpec out;
  ModelConfig& m = out.model;
  m.family = family;
  m.layers = 2;
  m.width = 30;
  m.heads = 3;
  m.context = 17;
  m.vocab = 67;
  m.inner = 50;
  m.tied = false;
  m.init_std = 0.2;
  if (family == "gptj") m.rotary = 6;
  out.optim.eps = 1e-3;  // large enough that its column shows
  out.optim.clip = 0.5;
  out.scales = nothing_is_one();
  out.shape = {2, 13};
  out.head_chunk = 8;
  out.poison = true;
  return out;
}

struct Trace {
  std::vector<double> loss, grad_norm, logits;  // of each step; logits before the first
  std::vector<Tensors> gradients;
  Tensors start, end;
};

template <class Model>
void run(Model& model, const MachineSpec& spec, Trace& trace) {
  const Batch batch = Batch::random(2, 13, spec.model.vocab, 5);
  trace.logits = model.logits(batch);
  for (int step = 1; step <= steps; ++step) {
    const StepNumbers numbers = model.step(batch, rate, step);
    trace.loss.push_back(numbers.loss);
    trace.grad_norm.push_back(numbers.grad_norm);
    trace.gradients.push_back(with_bias_parts(model.gradients()));
  }
}

Trace ours(const MachineSpec& spec) {
  Machine machine(spec);
  machine.initialize(3);
  Trace out;
  out.start = machine.weights();
  run(machine, spec, out);
  machine.settle();
  out.end = machine.weights();
  return out;
}

Trace expected(const MachineSpec& spec, const Tensors& start) {
  ReferenceModel model(spec);
  model.set_weights(start);
  Trace out;
  out.start = start;
  run(model, spec, out);
  out.end = model.weights();
  return out;
}

void expect_close(const Trace& a, const Trace& b) {
  EXPECT_LE(distance(a.logits, b.logits), tolerance);
  for (std::size_t step = 0; step < steps; ++step) {
    EXPECT_NEAR(a.loss[step], b.loss[step], loss_tolerance * b.loss[step]);
    EXPECT_NEAR(a.grad_norm[step], b.grad_norm[step], tolerance * b.grad_norm[step]);
    const Distance worst = distance(a.gradients[step], b.gradients[step]);
    EXPECT_LE(worst.worst, tolerance) << worst.name << " at step " << step + 1;
  }
  const Distance worst = distance(a.end, b.end);
  EXPECT_LE(worst.worst, tolerance) << worst.name;
}

// Whether `family` has weights of this role, and whether they are drawn (norms and biases are not)
// and decay.
struct Use {
  bool exists, matrix;
};
Use use_of(const std::string& family, Role role) {
  const bool matrix = role != Role::norm && role != Role::final_norm && role != Role::bias;
  return {family == "gpt2" || role != Role::position_embedding, matrix};
}

class Parametrized : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, Parametrized, testing::Values("gpt2", "gptj"),
                         [](const auto& one) { return std::string(one.param); });

TEST_P(Parametrized, EveryColumnIsCloseToDouble) {
  for (const bool tied : {false, true}) {
    MachineSpec spec = spec_of(GetParam());
    spec.model.tied = tied && spec.model.family == "gpt2";
    const Trace machine = ours(spec);
    const Trace reference = expected(spec, machine.start);
    expect_close(machine, reference);
    EXPECT_GT(reference.grad_norm[0], spec.optim.clip) << "clipping takes part";
    spec.recompute = Recompute::block;
    spec.fuse = false;
    expect_close(ours(spec), reference);
  }
}

TEST_P(Parametrized, EachMultiplierAloneMatters) {
  const MachineSpec spec = spec_of(GetParam());
  const Trace base = ours(spec);
  for (auto field : {&Parametrization::embedding_sum, &Parametrization::attention_logits,
                     &Parametrization::attention_branch, &Parametrization::mlp_branch,
                     &Parametrization::output_logits}) {
    MachineSpec changed = spec;
    changed.scales.*field = 1;
    const Trace other = ours(changed);
    EXPECT_EQ(other.start, base.start);
    EXPECT_GT(distance(other.logits, base.logits), 100 * tolerance);
    EXPECT_GT(distance(other.gradients[0], base.gradients[0]).worst, 100 * tolerance);
  }
}

TEST_P(Parametrized, EachColumnAloneMatters) {
  const MachineSpec spec = spec_of(GetParam());
  const Trace base = ours(spec);
  const auto with_one = [&](Role role, double RoleScale::*column) {
    MachineSpec changed = spec;
    changed.scales[role].*column = 1;
    return ours(changed);
  };
  for (int i = 0; i < roles; ++i) {
    const auto role = static_cast<Role>(i);
    const Use use = use_of(GetParam(), role);
    EXPECT_EQ(with_one(role, &RoleScale::std).start != base.start, use.exists && use.matrix)
        << name_of(role);
    const auto moved = [&](double RoleScale::*column) {
      const Trace other = with_one(role, column);
      EXPECT_EQ(other.start, base.start) << name_of(role);
      return distance(other.end, base.end).worst > tolerance;
    };
    EXPECT_EQ(moved(&RoleScale::lr), use.exists) << name_of(role);
    EXPECT_EQ(moved(&RoleScale::decay), use.exists && use.matrix) << name_of(role);
    EXPECT_EQ(moved(&RoleScale::eps), use.exists) << name_of(role);
  }
}

double deviation(std::span<const double> x) {
  double sum = 0, squares = 0;
  for (const double value : x) {
    sum += value;
    squares += value * value;
  }
  const auto n = static_cast<double>(x.size());
  return std::sqrt(squares / n - sum / n * (sum / n));
}

// One part of a fused weight [D P3 N H], or all of another.
std::vector<double> part_of(std::span<const float> weight, std::size_t part, std::size_t parts,
                            std::size_t inner) {
  std::vector<double> out;
  for (std::size_t i = 0; i < weight.size(); ++i)
    if (i / inner % parts == part) out.push_back(weight[i]);
  return out;
}

TEST_P(Parametrized, InitialValuesHaveTheRolesDeviation) {
  ModelConfig config = spec_of(GetParam()).model;
  config.width = 96;
  config.context = 96;
  config.vocab = 128;
  config.inner = 200;
  const Parametrization scales = nothing_is_one();
  const ModelGraphs model = build_forward(config, {1, 4}, scales, 4);
  int drawn = 0;
  for (const LayerGraph* graph : {&model.embedding, &model.block, &model.head})
    for (const Parameter& p : graph->parameters) {
      if (p.init.kind == Init::Kind::zeros || p.init.kind == Init::Kind::ones) continue;
      const Shape& shape = (*graph)[p.weight].type.shape;
      std::vector<float> memory(static_cast<std::size_t>(shape.count()));
      fill_initial({memory.data(), DType::f32, shape}, {}, p, p.name, 11, scales);
      const std::size_t inner = p.roles.size() == 1 ? memory.size() : 96;
      for (std::size_t part = 0; part < p.roles.size(); ++part) {
        const double wanted = p.init.std * scales[p.roles[part]].std;
        EXPECT_NEAR(deviation(part_of(memory, part, p.roles.size(), inner)), wanted, 0.04 * wanted)
            << p.name << " " << name_of(p.roles[part]);
        ++drawn;
      }
    }
  EXPECT_EQ(drawn, config.family == "gpt2" ? 9 : 8);
}

}  // namespace
}  // namespace sluice
