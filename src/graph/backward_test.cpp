// Backward, fusion and the builder on graphs small enough to read.
#include "graph/backward.h"

#include <gtest/gtest.h>

#include "graph/builder.h"
#include "graph/fusion.h"

namespace sluice {
namespace {

std::vector<std::string> names_of(const std::vector<Op>& ops) {
  std::vector<std::string> out;
  for (const Op& op : ops) out.emplace_back(name_of(op));
  return out;
}
using Names = std::vector<std::string>;

Id to_width(Builder& g, Id x, const char* name) {
  return g.linear(
      x, {.name = name, .out = {{Axis::model, 8}}, .roles = {Role::mlp_output}, .init = {}});
}

// result = x + linear(layer_norm(x))
LayerGraph residual_block() {
  Builder g(LayerKind::block, {2, 3}, standard_parametrization());
  const Id x = g.carry(8);
  g.result(g.add("sum", x, to_width(g, g.layer_norm("ln", x, 1e-5), "fc")));
  return g.take();
}

TEST(Backward, a_residual_block) {
  LayerGraph graph = residual_block();
  derive_backward(graph);
  EXPECT_EQ(names_of(graph.input_grad),
            (Names{"linear_grad_input", "layer_norm_grad_input", "add"}));
  EXPECT_EQ(names_of(graph.weight_grad), (Names{"linear_grad_weight", "layer_norm_grad_weight"}));
  // The last consumer's contribution comes first: the residual's, then the norm's.
  const auto& sum = std::get<Add>(graph.input_grad.back());
  EXPECT_EQ(sum.a, graph.d_carry_out);
  EXPECT_EQ(sum.b, std::get<LayerNormGradInput>(graph.input_grad[1]).dx);
  EXPECT_EQ(sum.y, graph.d_carry_in);
  EXPECT_EQ(graph[graph.d_carry_out].name, "dy");
  EXPECT_EQ(graph[graph.d_carry_in].kind, ValueKind::carry);
  EXPECT_EQ(graph[graph.d_carry_in].type.shape, graph[graph.carry_in].type.shape);
}

TEST(Backward, every_parameter_gets_a_gradient_and_moments) {
  LayerGraph graph = residual_block();
  derive_backward(graph);
  ASSERT_EQ(graph.parameters.size(), 4u);
  for (const Parameter& p : graph.parameters) {
    EXPECT_EQ(graph[p.gradient].name, "d." + p.name);
    EXPECT_EQ(graph[p.gradient].kind, ValueKind::gradient);
    EXPECT_EQ(graph[p.m].name, "m." + p.name);
    EXPECT_EQ(graph[p.v].kind, ValueKind::state);
    EXPECT_EQ(graph[p.v].type.shape, graph[p.weight].type.shape);
  }
}

TEST(Backward, three_uses_are_summed_last_first) {
  Builder g(LayerKind::block, {1, 2}, standard_parametrization());
  const Id x = g.carry(8);
  const Id a = to_width(g, x, "a");
  const Id b = to_width(g, x, "b");
  const Id c = to_width(g, x, "c");
  g.result(g.add("abc", g.add("ab", a, b), c));
  LayerGraph graph = g.take();
  derive_backward(graph);
  std::vector<Id> parts;
  std::vector<Add> sums;
  for (const Op& op : graph.input_grad) {
    if (const auto* one = std::get_if<LinearGradInput>(&op)) parts.push_back(one->dx);
    if (const auto* one = std::get_if<Add>(&op)) sums.push_back(*one);
  }
  ASSERT_EQ(parts.size(), 3u);
  ASSERT_EQ(sums.size(), 2u);
  EXPECT_EQ(graph[std::get<LinearGradInput>(graph.input_grad[0]).w].name, "c.weight");
  EXPECT_EQ(sums[0].a, parts[0]);
  EXPECT_EQ(sums[0].b, parts[1]);
  EXPECT_EQ(sums[1].a, sums[0].y);
  EXPECT_EQ(sums[1].b, parts[2]);
  EXPECT_EQ(sums[1].y, graph.d_carry_in);
}

TEST(Backward, parts_of_a_fused_value_share_one_gradient) {
  Builder g(LayerKind::block, {2, 3}, standard_parametrization());
  const Id qkv = g.linear(g.carry(8), {.name = "qkv",
                                       .out = {{Axis::parts, 3}, {Axis::heads, 2}, {Axis::head, 4}},
                                       .roles = {Role::query, Role::key, Role::value},
                                       .init = {}});
  g.result(to_width(g, g.attention("attn", {qkv, 0, 3}, {qkv, 1, 3}, {qkv, 2, 3}), "out"));
  LayerGraph graph = g.take();
  derive_backward(graph);
  EXPECT_EQ(names_of(graph.input_grad),
            (Names{"linear_grad_input", "attention_grad", "linear_grad_input"}));
  const auto& grad = std::get<AttentionGrad>(graph.input_grad[1]);
  EXPECT_EQ(grad.dq.id, grad.dk.id);
  EXPECT_EQ(grad.dq.id, grad.dv.id);
  EXPECT_EQ(graph[grad.dq.id].name, "d.qkv");
  EXPECT_EQ(grad.dv.part, 2);
}

TEST(Backward, a_tied_weight_has_an_accumulator_of_its_own_in_the_head) {
  Builder g(LayerKind::head, {2, 3}, standard_parametrization());
  const Id x = g.carry(8);
  const Id w = g.tied_table("wte", 61, 8);
  g.head_loss(x, w, no_value, 61, 4);
  LayerGraph graph = g.take();
  derive_backward(graph);
  EXPECT_TRUE(graph.parameters.empty());
  const auto& loss = std::get<HeadLoss>(graph.forward.front());
  EXPECT_EQ(graph[loss.dw].name, "d.wte");
  EXPECT_EQ(graph[loss.dw].owner, LayerKind::head);
  EXPECT_EQ(graph[loss.w].owner, LayerKind::embedding);
  EXPECT_EQ(graph[loss.w].type.shape[0].size, 128);  // padded
  EXPECT_EQ(loss.dx, graph.d_carry_in);
  EXPECT_EQ(loss.dbias, no_value);
  EXPECT_TRUE(graph.input_grad.empty());
}

TEST(Backward, an_input_that_nothing_reads_is_refused) {
  Builder g(LayerKind::block, {1, 2}, standard_parametrization());
  g.carry(8);
  const Id table = g.table("t", Axis::positions, 4, 8, Role::position_embedding, {});
  g.result(g.embed("e", g.batch("positions"), table));
  LayerGraph graph = g.take();
  EXPECT_THROW(derive_backward(graph), Error);
}

TEST(Fusion, a_sum_and_its_norm_become_one) {
  Builder g(LayerKind::block, {2, 3}, standard_parametrization());
  const Id x = g.carry(8);
  const Id sum = g.add("sum", x, to_width(g, x, "fc"), 0.5);
  g.result(g.add("out", sum, g.layer_norm("ln", sum, 1e-3)));
  const LayerGraph graph = g.take();
  const std::vector<Op> fused = fuse(graph.forward);
  EXPECT_EQ(names_of(graph.forward), (Names{"linear", "add", "layer_norm", "add"}));
  EXPECT_EQ(names_of(fused), (Names{"linear", "residual_norm", "add"}));
  const auto& one = std::get<ResidualNorm>(fused[1]);
  EXPECT_EQ(one.sum, sum);
  EXPECT_EQ(one.scale_b, 0.5f);
  EXPECT_EQ(one.eps, 1e-3f);
  for (const Op& op : fused) check(op, graph.types());
}

TEST(Fusion, a_norm_of_something_else_stays) {
  Builder g(LayerKind::block, {2, 3}, standard_parametrization());
  const Id x = g.carry(8);
  const Id sum = g.add("sum", x, x);
  g.result(g.add("out", sum, g.layer_norm("ln", x, 1e-5)));
  EXPECT_EQ(names_of(fuse(g.take().forward)), (Names{"add", "layer_norm", "add"}));
}

// x + f(norm(x)): the gradient of x is that of the sum plus the norm's.
TEST(Fusion, a_norms_gradient_and_what_it_is_added_to_become_one) {
  Builder g(LayerKind::block, {2, 3}, standard_parametrization());
  const Id x = g.carry(8);
  g.result(g.add("out", x, to_width(g, g.layer_norm("ln", x, 1e-3), "fc")));
  LayerGraph graph = g.take();
  derive_backward(graph);
  const std::vector<Op>& made = graph.input_grad;
  const std::vector<Op> fused = fuse(made, graph.weight_grad);
  EXPECT_EQ(names_of(made), (Names{"linear_grad_input", "layer_norm_grad_input", "add"}));
  ASSERT_EQ(names_of(fused), (Names{"linear_grad_input", "layer_norm_grad_input"}));
  const auto& one = std::get<LayerNormGradInput>(fused[1]);
  EXPECT_EQ(one.plus, graph.d_carry_out);
  EXPECT_EQ(one.dx, graph.d_carry_in);
  check(fused[1], graph.types());
  // Not where somebody else reads what the norm's gradient was.
  const Op reader = Scale{std::get<LayerNormGradInput>(made[1]).dx, graph.d_carry_in, 1};
  EXPECT_EQ(fuse(made, {&reader, 1}).size(), 3u);
}

TEST(Builder, names_are_unique) {
  Builder g(LayerKind::block, {1, 2}, standard_parametrization());
  const Id x = g.carry(8);
  g.layer_norm("ln", x, 1e-5);
  EXPECT_THROW(g.layer_norm("ln", x, 1e-5), Error);
}

TEST(Builder, shapes_are_checked_as_ops_are_added) {
  Builder g(LayerKind::block, {1, 2}, standard_parametrization());
  const Id x = g.carry(8);
  const Id wide = g.linear(
      x, {.name = "fc", .out = {{Axis::hidden, 12}}, .roles = {Role::mlp_input}, .init = {}});
  try {
    g.add("sum", x, wide);
    FAIL() << "8 + 12 columns";
  } catch (const Error& e) {
    EXPECT_NE(e.text().find("add"), std::string::npos) << e.text();
    EXPECT_NE(e.text().find("F12"), std::string::npos) << e.text();
  }
}

TEST(Builder, factors_of_one_cost_nothing) {
  Builder g(LayerKind::block, {1, 2}, standard_parametrization());
  const Id x = g.carry(8);
  EXPECT_EQ(g.scale("s", x, 1), x);
  EXPECT_NE(g.scale("s", x, 2), x);
}

}  // namespace
}  // namespace sluice
