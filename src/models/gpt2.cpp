#include "models/gpt2.h"

namespace sluice {

void gpt2_embedding(Builder& g, const ModelConfig& c) {
  const Id wte =
      g.table("wte", Axis::vocab, c.vocab, c.width, Role::token_embedding, c.embedding_init());
  const Id wpe = g.table("wpe", Axis::positions, c.context, c.width, Role::position_embedding,
                         c.embedding_init());
  const Id token = g.embed("token", g.batch("ids"), wte);
  const Id position = g.embed("position", g.batch("positions"), wpe);
  const Id x = g.scale("scaled", g.add("sum", token, position), g.scales().embedding_sum);
  g.result(g.dropout("dropped", x, c.dropout));
}

static Id attention(Builder& g, Id x, const ModelConfig& c) {
  const Dim heads{Axis::heads, c.heads}, head{Axis::head, c.head_size()};
  const Id qkv = g.linear(x, {.name = "attn.c_attn",
                              .out = {{Axis::parts, 3}, heads, head},
                              .roles = {Role::query, Role::key, Role::value},
                              .init = c.weight_init(),
                              .bias = c.biases});
  const Id mixed = g.attention("attn", {qkv, 0, 3}, {qkv, 1, 3}, {qkv, 2, 3}, c.dropout);
  return g.linear(mixed, {.name = "attn.c_proj",
                          .out = {{Axis::model, c.width}},
                          .roles = {Role::attention_output},
                          .init = c.output_init(),
                          .bias = c.biases});
}

static Id mlp(Builder& g, Id x, const ModelConfig& c) {
  const Id inner = g.linear(x, {.name = "mlp.c_fc",
                                .out = {{Axis::hidden, c.inner_width()}},
                                .roles = {Role::mlp_input},
                                .init = c.weight_init(),
                                .bias = c.biases});
  return g.linear(g.gelu("mlp.gelu", inner, c.gelu_form()), {.name = "mlp.c_proj",
                                                             .out = {{Axis::model, c.width}},
                                                             .roles = {Role::mlp_output},
                                                             .init = c.output_init(),
                                                             .bias = c.biases});
}

void gpt2_block(Builder& g, const ModelConfig& c) {
  Id x = g.carry(c.width);
  const Id a = attention(g, g.layer_norm("ln_1", x, c.norm_eps), c);
  x = g.add("attn.residual", x, g.dropout("attn.dropped", a, c.dropout),
            g.scales().attention_branch);
  g.part(x);
  const Id m = mlp(g, g.layer_norm("ln_2", x, c.norm_eps), c);
  g.result(g.add("mlp.residual", x, g.dropout("mlp.dropped", m, c.dropout), g.scales().mlp_branch));
}

void gpt2_head(Builder& g, const ModelConfig& c, std::int64_t head_chunk) {
  const Id x = g.layer_norm("ln_f", g.carry(c.width), c.norm_eps, Role::final_norm);
  const Id w = c.tied
                   ? g.tied_table("wte", c.vocab, c.width)
                   : g.table("lm_head", Axis::vocab, c.vocab, c.width, Role::head, c.weight_init());
  g.head_loss(x, w, no_value, c.vocab, head_chunk);
}

}  // namespace sluice
