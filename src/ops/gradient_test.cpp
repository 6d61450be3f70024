// Gradient rules and their loops against central differences of the forward loops: relative to the
// largest gradient of the tensor, 1e-6. Each rule is also run broken, which must show.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "ops/gradient.h"
#include "ops/random_frame.h"

namespace sluice {
namespace {

constexpr Axis B = Axis::batch, T = Axis::time, D = Axis::model, E = Axis::model_out,
               P = Axis::parts, N = Axis::heads, H = Axis::head, F = Axis::hidden, V = Axis::vocab,
               S = Axis::scalar;
constexpr double tolerance = 1e-6;

// Derives the backward of one op on a frame.
class OneOpGradient : public GradientBuilder {
 public:
  OneOpGradient(RandomFrame& frame, std::set<Id> wanted) : frame_(frame), wanted_(wanted) {}

  // Seeds the gradient of y with random numbers.
  void seed(Id y) { seeds_[y] = frame_.random(frame_[y].type.shape); }

  Id gradient_of(Id y) override { return seeds_.contains(y) ? seeds_[y] : no_value; }
  bool wants(Id x) const override { return wanted_.contains(x); }
  Slice contribution(Slice x) override {
    if (x.parts == 1) return {fresh(x.id)};
    if (!fused_.contains(x.id)) fused_[x.id] = fresh(x.id);
    return {fused_[x.id], x.part, x.parts};
  }
  void add(Id x, Id dx) override { contributions[x].push_back(dx); }
  Id accumulator(Id weight) override {
    return accumulators[weight] = frame_.accumulator(frame_[weight].type.shape, true);
  }
  void emit_input(const Op& op) override { ops.push_back(op); }
  void emit_weight(const Op& op) override { ops.push_back(op); }

  std::vector<Op> ops;
  std::map<Id, std::vector<Id>> contributions;
  std::map<Id, Id> accumulators;

 private:
  Id fresh(Id like) { return frame_.poisoned(frame_[like].type.shape); }

  RandomFrame& frame_;
  std::set<Id> wanted_;
  std::map<Id, Id> seeds_;
  std::map<Id, Id> fused_;
};

struct Case {
  RandomFrame frame;
  Op op;
  std::vector<Id> inputs;   // activations that want a gradient
  std::vector<Id> weights;  // read by accumulators
  Id y = no_value;          // the loss is Σ r·y for a random r, or stats[0] of a head
};

using Gradients = std::map<Id, std::vector<double>>;

double loss_of(const Case& c, std::vector<RefValue>& frame, Id r) {
  reference(c.op, frame);
  if (const auto* head = std::get_if<HeadLoss>(&c.op))
    return frame[static_cast<std::size_t>(head->stats)].numbers[0];
  double loss = 0;
  const auto& y = frame[static_cast<std::size_t>(c.y)].numbers;
  const auto& weights = frame[static_cast<std::size_t>(r)].numbers;
  for (std::size_t i = 0; i < y.size(); ++i) loss += weights[i] * y[i];
  return loss;
}

// What the rule's ops compute, with op `dropped` left out.
Gradients by_rule(const Case& c, const std::vector<RefValue>& frame, const OneOpGradient& rule,
                  int dropped = -1) {
  std::vector<RefValue> values = frame;
  reference(c.op, values);
  for (int i = 0; i < static_cast<int>(rule.ops.size()); ++i)
    if (i != dropped) reference(rule.ops[static_cast<std::size_t>(i)], values);
  const auto numbers = [&](Id id) { return values[static_cast<std::size_t>(id)].numbers; };
  Gradients out;
  for (const auto& [x, parts] : rule.contributions) {
    out[x].assign(numbers(x).size(), 0.0);
    for (Id part : parts)
      for (std::size_t i = 0; i < out[x].size(); ++i) out[x][i] += numbers(part)[i];
  }
  for (const auto& [weight, gradient] : rule.accumulators) out[weight] = numbers(gradient);
  return out;
}

Gradients by_differences(const Case& c, std::vector<RefValue> frame, Id r,
                         const std::vector<Id>& variables) {
  constexpr double step = 1e-5;
  Gradients out;
  for (Id id : variables) {
    auto& numbers = frame[static_cast<std::size_t>(id)].numbers;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const double before = numbers[i];
      numbers[i] = before + step;
      const double up = loss_of(c, frame, r);
      numbers[i] = before - step;
      const double down = loss_of(c, frame, r);
      numbers[i] = before;
      out[id].push_back((up - down) / (2 * step));
    }
  }
  return out;
}

// The worst entry over all tensors, relative to the largest gradient of its tensor. A tensor that
// is missing is infinitely wrong.
double worst(const Gradients& found, const Gradients& expected) {
  double result = 0;
  for (const auto& [id, numbers] : expected) {
    if (!found.contains(id)) return INFINITY;
    double largest = 0;
    for (double x : numbers) largest = std::max(largest, std::abs(x));
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const double error = std::abs(found.at(id)[i] - numbers[i]) / largest;
      result = std::isnan(error) ? INFINITY : std::max(result, error);
    }
  }
  return result;
}

void expect_rule_holds(Case c) {
  SCOPED_TRACE(name_of(c.op));
  OneOpGradient rule(c.frame, {c.inputs.begin(), c.inputs.end()});
  if (c.y != no_value) rule.seed(c.y);
  gradient(c.op, rule);
  if (const auto* head = std::get_if<HeadLoss>(&c.op)) {
    rule.accumulators[head->w] = head->dw;
    if (head->bias != no_value) rule.accumulators[head->bias] = head->dbias;
  }
  const std::vector<ValueType> types = types_of(c.frame.values());
  check(c.op, types);
  for (const Op& op : rule.ops) check(op, types);

  std::vector<Id> variables = c.inputs;
  variables.insert(variables.end(), c.weights.begin(), c.weights.end());
  const Id r = c.y == no_value ? no_value : rule.gradient_of(c.y);
  const Gradients found = by_rule(c, c.frame.values(), rule);
  const Gradients expected = by_differences(c, c.frame.values(), r, variables);
  EXPECT_EQ(found.size(), expected.size()) << "gradients of what nobody asked for";
  EXPECT_LE(worst(found, expected), tolerance);

  // Negative controls: one entry off by 1e-5 of the largest, one tensor left out (a forgotten
  // bias, say), one op left out.
  for (const auto& [id, numbers] : found) {
    Gradients off = found;
    double largest = 0;
    for (double x : numbers) largest = std::max(largest, std::abs(x));
    off[id][numbers.size() / 2] += 1e-5 * largest;
    EXPECT_GT(worst(off, expected), tolerance) << "perturbed gradient of value " << id;
    off[id].assign(numbers.size(), 0.0);
    EXPECT_GT(worst(off, expected), tolerance) << "zeroed gradient of value " << id;
  }
  for (int i = 0; i < static_cast<int>(rule.ops.size()); ++i)
    EXPECT_GT(worst(by_rule(c, c.frame.values(), rule, i), expected), tolerance)
        << "without op " << i;
}

const Shape small{{B, 2}, {T, 3}, {D, 5}};
const Shape small_tokens{{B, 2}, {T, 3}};

TEST(Gradient, Embed) {
  RandomFrame f(1);
  const Id ids = f.integers(small_tokens, 0, 3);
  const Id table = f.random({{V, 7}, {D, 5}});
  const Id y = f.poisoned(small);
  expect_rule_holds({f, Embed{.ids = ids, .table = table, .y = y}, {}, {table}, y});
}

TEST(Gradient, Add) {
  for (const float scale : {1.0f, -0.7f}) {
    RandomFrame f(2);
    const Id a = f.random(small);
    const Id b = f.random(small);
    const Id y = f.poisoned(small);
    expect_rule_holds({f, Add{.a = a, .b = b, .y = y, .scale_b = scale}, {a, b}, {}, y});
    expect_rule_holds({f, Add{.a = a, .b = b, .y = y, .scale_b = scale}, {b}, {}, y});
    expect_rule_holds({f, Add{.a = a, .b = a, .y = y, .scale_b = scale}, {a}, {}, y});
  }
}

TEST(Gradient, ScaleAndCast) {
  RandomFrame f(3);
  const Id x = f.random(small);
  const Id y = f.poisoned(small);
  expect_rule_holds({f, Scale{.x = x, .y = y, .factor = 1.7f}, {x}, {}, y});
  expect_rule_holds({f, Cast{.x = x, .y = y}, {x}, {}, y});
}

TEST(Gradient, LayerNorm) {
  for (const bool with_bias : {true, false}) {
    RandomFrame f(4);
    const Id x = f.random(small);
    const Id gain = f.random({{D, 5}}, 0.3, 1);
    const Id bias = with_bias ? f.random({{D, 5}}) : no_value;
    const Id y = f.poisoned(small);
    const Id mean = f.poisoned(small_tokens);
    const Id rstd = f.poisoned(small_tokens);
    const LayerNorm op{.x = x, .gain = gain, .bias = bias, .y = y, .mean = mean, .rstd = rstd};
    const std::vector<Id> weights = with_bias ? std::vector{gain, bias} : std::vector{gain};
    expect_rule_holds({f, op, {x}, weights, y});
    expect_rule_holds({f, op, {}, weights, y});
  }
}

TEST(Gradient, Linear) {
  for (const bool out_in : {false, true})
    for (const bool with_bias : {true, false}) {
      RandomFrame f(5);
      const Id x = f.random({{B, 2}, {T, 3}, {N, 2}, {H, 3}});
      const Id w = f.random(out_in ? Shape{{E, 5}, {N, 2}, {H, 3}} : Shape{{N, 2}, {H, 3}, {E, 5}});
      const Id bias = with_bias ? f.random({{E, 5}}) : no_value;
      const Id y = f.poisoned({{B, 2}, {T, 3}, {E, 5}});
      const Linear op{.x = x, .w = w, .bias = bias, .y = y, .out_in = out_in, .scale = 0.6f};
      const std::vector<Id> weights = with_bias ? std::vector{w, bias} : std::vector{w};
      expect_rule_holds({f, op, {x}, weights, y});
      expect_rule_holds({f, op, {}, weights, y});
    }
}

TEST(Gradient, Gelu) {
  for (const GeluForm form : {GeluForm::exact, GeluForm::tanh}) {
    RandomFrame f(6);
    const Id x = f.random({{B, 2}, {T, 3}, {F, 7}}, 2);
    const Id y = f.poisoned({{B, 2}, {T, 3}, {F, 7}});
    expect_rule_holds({f, Gelu{.x = x, .y = y, .form = form}, {x}, {}, y});
  }
}

TEST(Gradient, Rotary) {
  for (const bool inverse : {false, true}) {
    RandomFrame f(7);
    const Shape shape{{B, 2}, {T, 3}, {N, 2}, {H, 7}};
    const Id x = f.random(shape);
    const Id positions = f.integers(small_tokens, 0, 20);
    const Id y = f.poisoned(shape);
    expect_rule_holds(
        {f,
         Rotary{.x = x, .positions = positions, .y = y, .dims = 4, .base = 100, .inverse = inverse},
         {x},
         {},
         y});
  }
}

// The mask is the same above and below: dx is dropout(dy).
TEST(Gradient, Dropout) {
  for (const float rate : {0.0f, 0.4f}) {
    RandomFrame f(12);
    const Id x = f.random(small);
    const Id control = f.numbers({{S, Control::slots}}, DType::f64, {1e-3, 4, 6});
    const Id y = f.poisoned(small);
    const DropoutKey key{.rate = rate, .seed = 3, .stream = 9};
    expect_rule_holds({f, Dropout{.x = x, .y = y, .control = control, .key = key}, {x}, {}, y});
    if (rate == 0) continue;
    // At the entries that it keeps, and there alone, y is x / (1 - rate).
    RandomFrame run = f;
    run.run(Dropout{.x = x, .y = y, .control = control, .key = key});
    int dropped = 0;
    for (std::size_t i = 0; i < run[y].numbers.size(); ++i) {
      dropped += run[y].numbers[i] == 0;
      if (run[y].numbers[i] == 0) continue;
      EXPECT_NEAR(run[y].numbers[i], f[x].numbers[i] / (1 - 0.4), 1e-6);
    }
    EXPECT_GT(dropped, 0);
    EXPECT_LT(dropped, static_cast<int>(small.count()));
  }
}

Case attention_case(std::int64_t key_heads, bool fused, float dropped = 0) {
  RandomFrame f(8);
  const Shape qs{{B, 2}, {T, 5}, {N, 4}, {H, 3}};
  Slice q, k, v;
  if (fused) {
    const Id qkv = f.random({{B, 2}, {T, 5}, {P, 3}, {N, 4}, {H, 3}});
    q = {qkv, 0, 3}, k = {qkv, 1, 3}, v = {qkv, 2, 3};
  } else {
    q = {f.random(qs)}, k = {f.random(qs.with(N, key_heads))};
    v = {f.random(qs.with(N, key_heads))};
  }
  const Id starts = f.numbers({{B, 2}, {T, 5}}, DType::i32, {0, 0, 0, 0, 0, 0, 0, 2, 2, 4});
  const Id y = f.poisoned(qs);
  const Id lse = f.poisoned({{B, 2}, {N, 4}, {T, 5}});
  Attention op{.q = q, .k = k, .v = v, .starts = starts, .y = y, .lse = lse, .scale = 0.8f};
  if (dropped > 0) {
    op.control = f.numbers({{S, Control::slots}}, DType::f64, {1e-3, 4, 6});
    op.dropout = {.rate = dropped, .seed = 3, .stream = 9};
  }
  return {f, op, fused ? std::vector{q.id} : std::vector{q.id, k.id, v.id}, {}, y};
}

TEST(Gradient, Attention) {
  expect_rule_holds(attention_case(4, true));
  expect_rule_holds(attention_case(4, false));
  expect_rule_holds(attention_case(2, false));
  expect_rule_holds(attention_case(1, false));
  expect_rule_holds(attention_case(4, true, 0.3f));
  expect_rule_holds(attention_case(2, false, 0.6f));
  Case only_keys = attention_case(2, false);
  only_keys.inputs.erase(only_keys.inputs.begin());
  expect_rule_holds(only_keys);
}

TEST(Gradient, HeadLoss) {
  for (const bool with_bias : {true, false}) {
    RandomFrame f(9);
    const Id x = f.random(small);
    const Id w = f.random({{V, 9}, {D, 5}});
    const Id bias = with_bias ? f.random({{V, 9}}) : no_value;
    const Id targets = f.numbers(small_tokens, DType::i32, {0, 6, 3, 99, 6, 1});
    const Id weights = f.numbers(small_tokens, DType::f32, {1, 0.25, 1, 0, 1, 0.5});
    const Id stats = f.poisoned({{S, 2}}, DType::f64);
    const Id dx = f.poisoned(small);
    const Id dw = f.poisoned({{V, 9}, {D, 5}});
    const Id dbias = with_bias ? f.poisoned({{V, 9}}) : no_value;
    const HeadLoss op{.x = x,
                      .w = w,
                      .bias = bias,
                      .targets = targets,
                      .weights = weights,
                      .stats = stats,
                      .dx = dx,
                      .dw = dw,
                      .dbias = dbias,
                      .vocab = 7,
                      .chunk = 4,
                      .scale = 0.4f};
    expect_rule_holds({f, op, {x}, with_bias ? std::vector{w, bias} : std::vector{w}, no_value});
  }
}

// A rule whose output has no gradient emits nothing.
TEST(Gradient, NothingFlowsIntoAnUnusedOutput) {
  Case c = attention_case(4, true);
  OneOpGradient rule(c.frame, {c.inputs.begin(), c.inputs.end()});
  gradient(c.op, rule);
  gradient(Embed{.ids = 0, .table = 1, .y = 2}, rule);
  gradient(Add{.a = 0, .b = 1, .y = 2}, rule);
  gradient(Linear{.x = 0, .w = 1, .bias = no_value, .y = 2}, rule);
  gradient(LayerNorm{.x = 0, .gain = 1, .bias = 1, .y = 2, .mean = 3, .rstd = 3}, rule);
  EXPECT_TRUE(rule.ops.empty());
  EXPECT_TRUE(rule.contributions.empty());
  EXPECT_TRUE(rule.accumulators.empty());
}

std::string refusal(const Op& op, OneOpGradient& rule) {
  try {
    gradient(op, rule);
  } catch (const Error& e) {
    return e.report().what;
  }
  return "no refusal";
}

TEST(Gradient, OpsWithoutOneRefuse) {
  Case c = attention_case(4, true);
  OneOpGradient rule(c.frame, {});
  rule.seed(c.y);
  Attention cached = std::get<Attention>(c.op);
  cached.lengths = 0;
  EXPECT_EQ(refusal(cached, rule), "attention has no gradient: this one reads a cache");
  EXPECT_EQ(refusal(ResidualNorm{}, rule),
            "residual_norm has no gradient: the backward pass is derived before fusion");
  EXPECT_EQ(refusal(GeluGrad{}, rule), "gelu_grad has no gradient: no gradient passes through it");
  EXPECT_EQ(refusal(AdamW{}, rule), "adamw has no gradient: no gradient passes through it");
  EXPECT_EQ(refusal(HeadLoss{}, rule),
            "head_loss has no gradient: this one was built without gradients");
}

}  // namespace
}  // namespace sluice
