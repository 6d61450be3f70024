#include "models/gptj.h"

namespace sluice {

void gptj_embedding(Builder& g, const ModelConfig& c) {
  const Id wte =
      g.table("wte", Axis::vocab, c.vocab, c.width, Role::token_embedding, c.embedding_init());
  const Id x = g.scale("scaled", g.embed("token", g.batch("ids"), wte), g.scales().embedding_sum);
  g.result(g.dropout("dropped", x, c.dropout));
}

static Id attention(Builder& g, Id x, const ModelConfig& c) {
  const auto project = [&](const char* name, Role role) {
    return g.linear(x, {.name = name,
                        .out = {{Axis::heads, c.heads}, {Axis::head, c.head_size()}},
                        .roles = {role},
                        .init = c.weight_init(),
                        .bias = false,
                        .out_in = true});
  };
  const auto dims = static_cast<std::int32_t>(c.rotary);
  const Id q = g.rotary("attn.q_rotated", project("attn.q_proj", Role::query), dims);
  const Id k = g.rotary("attn.k_rotated", project("attn.k_proj", Role::key), dims);
  const Id v = project("attn.v_proj", Role::value);
  return g.linear(g.attention("attn", {q}, {k}, {v}, c.dropout), {.name = "attn.out_proj",
                                                                  .out = {{Axis::model, c.width}},
                                                                  .roles = {Role::attention_output},
                                                                  .init = c.output_init(),
                                                                  .bias = false,
                                                                  .out_in = true});
}

static Id mlp(Builder& g, Id x, const ModelConfig& c) {
  const Id inner = g.linear(x, {.name = "mlp.fc_in",
                                .out = {{Axis::hidden, c.inner_width()}},
                                .roles = {Role::mlp_input},
                                .init = c.weight_init(),
                                .bias = c.biases,
                                .out_in = true});
  return g.linear(g.gelu("mlp.gelu", inner, c.gelu_form()), {.name = "mlp.fc_out",
                                                             .out = {{Axis::model, c.width}},
                                                             .roles = {Role::mlp_output},
                                                             .init = c.output_init(),
                                                             .bias = c.biases,
                                                             .out_in = true});
}

void gptj_block(Builder& g, const ModelConfig& c) {
  const Id x = g.carry(c.width);
  const Id h = g.layer_norm("ln_1", x, c.norm_eps);
  const Id a = g.dropout("attn.dropped", attention(g, h, c), c.dropout);
  const Id with_attention = g.add("attn.residual", x, a, g.scales().attention_branch);
  g.part(with_attention, h);
  const Id m = g.dropout("mlp.dropped", mlp(g, h, c), c.dropout);
  g.result(g.add("mlp.residual", with_attention, m, g.scales().mlp_branch));
}

void gptj_head(Builder& g, const ModelConfig& c, std::int64_t head_chunk) {
  const Id x = g.layer_norm("ln_f", g.carry(c.width), c.norm_eps, Role::final_norm);
  const Id w = g.table("lm_head", Axis::vocab, c.vocab, c.width, Role::head, c.weight_init());
  g.head_loss(x, w, g.vocab_bias("lm_head.bias", c.vocab), c.vocab, head_chunk);
}

}  // namespace sluice
