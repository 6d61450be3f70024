// What the passes over graphs make of GPT-2 and GPT-J: what backward keeps, which packed weights
// there are, and the gradient of the whole model against finite differences.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "graph/backward.h"
#include "graph/derive.h"
#include "graph/recompute.h"
#include "models/family.h"
#include "models/test_models.h"
#include "ops/reference.h"

namespace sluice {
namespace {

ModelGraphs training_graphs(const std::string& family) {
  ModelGraphs model =
      build_forward(testing::tiny_model(family, {.width = 12, .context = 5, .vocab = 17}), {2, 5},
                    standard_parametrization(), 4);
  for (LayerGraph* graph : {&model.embedding, &model.block, &model.head}) derive_backward(*graph);
  return model;
}

std::vector<std::string> stash_of(const LayerGraph& graph, Recompute level) {
  std::vector<std::string> out;
  const Kept kept = choose_kept(graph, level);
  for (std::size_t v = 0; v < kept.stash.size(); ++v)
    if (kept.stash[v]) out.push_back(graph.values[v].name);
  return out;
}

std::vector<std::string> remade(const LayerGraph& graph, Recompute level) {
  std::vector<std::string> out;
  for (const Op& op : choose_kept(graph, level).recompute) out.emplace_back(name_of(op));
  return out;
}
using Names = std::vector<std::string>;

TEST(Recompute, gpt2_block) {
  const ModelGraphs model = training_graphs("gpt2");
  EXPECT_EQ(stash_of(model.block, Recompute::none),
            (Names{"x", "ln_1", "ln_1.mean", "ln_1.rstd", "attn.c_attn", "attn", "attn.lse",
                   "attn.residual", "ln_2", "ln_2.mean", "ln_2.rstd", "mlp.c_fc", "mlp.gelu"}));
  EXPECT_EQ(remade(model.block, Recompute::none), Names{});
  EXPECT_EQ(stash_of(model.block, Recompute::selective),
            (Names{"x", "attn.c_attn", "attn", "attn.lse", "attn.residual", "mlp.c_fc"}));
  EXPECT_EQ(remade(model.block, Recompute::selective), (Names{"layer_norm", "layer_norm", "gelu"}));
  EXPECT_EQ(stash_of(model.block, Recompute::block), Names{"x"});
  // All but the second product of the MLP and the sum behind it.
  EXPECT_EQ(remade(model.block, Recompute::block),
            (Names{"layer_norm", "linear", "attention", "linear", "add", "layer_norm", "linear",
                   "gelu"}));
}

// GELU that a product makes is kept beside what it was made of, and made with it again.
TEST(Recompute, gelu_in_its_product) {
  ModelGraphs model = build_forward(
      testing::tiny_model("gpt2", {.width = 12, .context = 5, .vocab = 17}), {2, 5},
      standard_parametrization(), 4, {.precision = DType::bf16, .gelu_in_product = true});
  derive_backward(model.block, {.precision = DType::bf16, .gelu_in_product = true});
  EXPECT_EQ(
      stash_of(model.block, Recompute::selective),
      (Names{"x", "attn.c_attn", "attn", "attn.lse", "attn.residual", "mlp.c_fc", "mlp.gelu"}));
  EXPECT_EQ(remade(model.block, Recompute::selective), (Names{"layer_norm", "layer_norm"}));
  const Names all = remade(model.block, Recompute::block);
  EXPECT_EQ(all, (Names{"layer_norm", "linear", "attention", "linear", "add", "layer_norm",
                        "linear", "gelu"}));
  // Whoever needs the product alone gets both: here nothing reads GELU's result any more.
  std::erase_if(model.block.weight_grad, [&](const Op& op) {
    const auto* one = std::get_if<LinearGradWeight>(&op);
    return one != nullptr && model.block[one->x].name == "mlp.gelu";
  });
  EXPECT_EQ(remade(model.block, Recompute::block), all);
}

TEST(Recompute, gptj_block_never_remakes_what_only_adds_to_the_result) {
  const ModelGraphs model = training_graphs("gptj");
  EXPECT_EQ(stash_of(model.block, Recompute::block), Names{"x"});
  for (const Op& op : choose_kept(model.block, Recompute::block).recompute)
    if (const auto* linear = std::get_if<Linear>(&op)) {
      EXPECT_NE(model.block[linear->w].name, "mlp.fc_out.weight");
      EXPECT_NE(model.block[linear->w].name, "attn.out_proj.weight");
    }
}

TEST(Recompute, the_head_keeps_the_gradient_that_its_forward_made) {
  const ModelGraphs model = training_graphs("gpt2");
  for (const Recompute level : {Recompute::none, Recompute::selective, Recompute::block}) {
    const Names kept = stash_of(model.head, level);
    EXPECT_NE(std::find(kept.begin(), kept.end(), "d.ln_f"), kept.end()) << name_of(level);
    for (const std::string& op : remade(model.head, level)) EXPECT_EQ(op, "layer_norm");
  }
}

TEST(Derive, packed_weights_are_named_after_their_weight) {
  ModelGraphs model = training_graphs("gpt2");
  derive_packed_weights(model);
  Names made;
  for (const Op& op : model.block.derive)
    made.push_back(model.block[std::get<Pack>(op).packed].name);
  EXPECT_EQ(made, (Names{"attn.c_attn.weight.packed", "attn.c_proj.weight.packed",
                         "mlp.c_fc.weight.packed", "mlp.c_proj.weight.packed",
                         "mlp.c_proj.weight.packed_t", "mlp.c_fc.weight.packed_t",
                         "attn.c_proj.weight.packed_t", "attn.c_attn.weight.packed_t"}));
  // The tied table is packed where it lives; the head borrows the copies.
  EXPECT_EQ(model.embedding.derive.size(), 2u);
  EXPECT_TRUE(model.head.derive.empty());
  const auto& loss = std::get<HeadLoss>(model.head.forward.back());
  EXPECT_EQ(model.head[loss.packed].owner, LayerKind::embedding);
  EXPECT_EQ(model.head[loss.packed].owner_name, "wte.packed_t");
  EXPECT_EQ(model.head[loss.packed_t].owner_name, "wte.packed");
}

// A model in double precision: the graphs walked layer by layer with the reference loops.
class Walk {
 public:
  explicit Walk(const std::string& family) : model_(training_graphs(family)) {
    std::mt19937_64 random(11);
    std::normal_distribution<double> normal(0, 0.3);
    for (int layer = 0; layer < model_.layer_count(); ++layer) {
      const LayerGraph& graph = graph_of(layer);
      std::vector<RefValue> frame;
      for (const Value& value : graph.values)
        frame.push_back(
            {value.type, std::vector<double>(static_cast<std::size_t>(value.type.shape.count()))});
      for (const Parameter& p : graph.parameters)
        for (double& w : frame[static_cast<std::size_t>(p.weight)].numbers)
          w = normal(random) + (p.init.kind == Init::Kind::ones ? 1 : 0);
      for (std::size_t v = 0; v < frame.size(); ++v)
        if (graph.values[v].kind == ValueKind::batch) fill_batch(graph.values[v].name, frame[v]);
      frames_.push_back(std::move(frame));
    }
  }

  const ModelGraphs& model() const { return model_; }
  const LayerGraph& graph_of(int layer) const { return model_.of(model_.kind_of(layer)); }
  std::vector<double>& numbers(int layer, Id id) {
    return frames_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(id)].numbers;
  }

  double loss() {
    for (int layer = 0; layer < model_.layer_count(); ++layer) {
      const LayerGraph& graph = graph_of(layer);
      for (std::size_t v = 0; v < graph.values.size(); ++v) {
        const Value& value = graph.values[v];
        if (value.kind == ValueKind::weight && value.owner != graph.kind)
          numbers(layer, static_cast<Id>(v)) =
              numbers(0, model_.embedding.require_value(value.owner_name));
      }
      if (graph.carry_in != no_value)
        numbers(layer, graph.carry_in) = numbers(layer - 1, graph_of(layer - 1).carry_out);
      run(layer, graph.forward);
    }
    const int head = model_.layer_count() - 1;
    return numbers(head, model_.head.require_value("stats"))[0];
  }

  void backward() {
    loss();
    for (int layer = model_.layer_count() - 1; layer >= 0; --layer) {
      const LayerGraph& graph = graph_of(layer);
      if (graph.d_carry_out != no_value)
        numbers(layer, graph.d_carry_out) = numbers(layer + 1, graph_of(layer + 1).d_carry_in);
      run(layer, graph.input_grad);
      run(layer, graph.weight_grad);
    }
  }

  std::vector<double> gradient(int layer, const Parameter& p) {
    std::vector<double> out = numbers(layer, p.gradient);
    const Id tied = model_.head.find("d." + p.name);
    if (layer == 0 && tied != no_value && model_.head.find(p.name) != no_value)
      for (std::size_t i = 0; i < out.size(); ++i)
        out[i] += numbers(model_.layer_count() - 1, tied)[i];
    return out;
  }

 private:
  void run(int layer, const std::vector<Op>& ops) {
    for (const Op& op : ops) reference(op, frames_[static_cast<std::size_t>(layer)]);
  }

  // Rows of 5 tokens; the second row holds two documents; one token has weight 0.
  static void fill_batch(const std::string& name, RefValue& value) {
    for (std::size_t i = 0; i < value.numbers.size(); ++i) {
      const bool second_document = i >= 8;
      double& number = value.numbers[i];
      if (name == "ids") number = static_cast<double>(i * 7 % 17);
      if (name == "targets") number = static_cast<double>((i * 7 + 3) % 17);
      if (name == "positions") number = static_cast<double>(second_document ? i - 8 : i % 5);
      if (name == "starts") number = second_document ? 3 : 0;
      if (name == "weights") number = i == 4 ? 0 : 0.5 + 0.1 * static_cast<double>(i);
    }
  }

  ModelGraphs model_;
  std::vector<std::vector<RefValue>> frames_;
};

// Worst error of up to 10 numbers of a tensor, relative to the tensor's largest gradient.
double worst_of(Walk& walk, int layer, const Parameter& p, const std::vector<double>& gradient) {
  constexpr double step = 1e-5;
  const auto count = static_cast<std::size_t>(p.count());
  double largest = 0, worst = 0;
  for (const double g : gradient) largest = std::max(largest, std::abs(g));
  for (std::size_t i = 0; i < count; i += std::max<std::size_t>(1, count / 10)) {
    double& w = walk.numbers(layer, p.weight)[i];
    const double before = w;
    w = before + step;
    const double up = walk.loss();
    w = before - step;
    const double down = walk.loss();
    w = before;
    worst = std::max(worst, std::abs((up - down) / (2 * step) - gradient[i]) / largest);
  }
  return worst;
}

TEST(ModelGradient, of_every_tensor_against_finite_differences) {
  for (const char* family : {"gpt2", "gptj"}) {
    Walk walk(family);
    walk.backward();
    int tensors = 0;
    for (int layer = 0; layer < walk.model().layer_count(); ++layer)
      for (const Parameter& p : walk.graph_of(layer).parameters) {
        // Again for each: the head's gradients are made by its forward, which the differences run.
        walk.backward();
        std::vector<double> gradient = walk.gradient(layer, p);
        const auto place = fmt::format("{} {} {}", family, walk.model().layer_name(layer), p.name);
        EXPECT_LE(worst_of(walk, layer, p, gradient), 1e-6) << place;
        // Negative control: 1e-5 off everywhere.
        double largest = 0;
        for (const double g : gradient) largest = std::max(largest, std::abs(g));
        for (double& g : gradient) g += 1e-5 * largest;
        EXPECT_GT(worst_of(walk, layer, p, gradient), 1e-6) << place;
        ++tensors;
      }
    EXPECT_EQ(tensors, family == std::string("gpt2") ? 2 + 2 * 12 + 2 : 1 + 2 * 10 + 4);
  }
}

TEST(ModelGradient, a_forgotten_tied_use_shows) {
  Walk walk("gpt2");
  walk.backward();
  const Parameter& wte = walk.model().embedding.parameters.front();
  EXPECT_LE(worst_of(walk, 0, wte, walk.gradient(0, wte)), 1e-6);
  EXPECT_GT(worst_of(walk, 0, wte, walk.numbers(0, wte.gradient)), 1e-3);
}

}  // namespace
}  // namespace sluice
