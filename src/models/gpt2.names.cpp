// GPT-2 as Hugging Face names and describes it (GPT2LMHeadModel).
#include <nlohmann/json.hpp>

#include "models/tables.h"

namespace sluice {

std::string gpt2_tensor_name(LayerKind kind, int block, const std::string& name) {
  if (kind == LayerKind::block) return fmt::format("transformer.h.{}.{}", block, name);
  if (name == "lm_head") return "lm_head.weight";
  if (kind == LayerKind::embedding) return fmt::format("transformer.{}.weight", name);
  return fmt::format("transformer.{}", name);
}

std::vector<AbsentBias> gpt2_absent_biases(const ModelConfig& c) {
  return {{"attn.c_attn.bias", 3 * c.width},
          {"attn.c_proj.bias", c.width},
          {"mlp.c_fc.bias", c.inner_width()},
          {"mlp.c_proj.bias", c.width}};
}

nlohmann::json gpt2_to_config(const ModelConfig& c) {
  return {{"model_type", "gpt2"},
          {"architectures", {"GPT2LMHeadModel"}},
          {"n_layer", c.layers},
          {"n_embd", c.width},
          {"n_head", c.heads},
          {"n_positions", c.context},
          {"n_ctx", c.context},
          {"n_inner", c.inner_width()},
          {"vocab_size", c.vocab},
          {"activation_function", activation_of_gelu(c.gelu)},
          {"layer_norm_epsilon", c.norm_eps},
          {"initializer_range", c.init_std},
          {"tie_word_embeddings", c.tied},
          {"scale_attn_weights", true},
          {"attn_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"resid_pdrop", 0.0},
          {"bos_token_id", end_of_text_field(c)},
          {"eos_token_id", end_of_text_field(c)}};
}

ModelConfig gpt2_from_config(const nlohmann::json& json) {
  ModelConfig c;
  c.family = "gpt2";
  c.layers = integer_field(json, "n_layer");
  c.width = integer_field(json, "n_embd");
  c.heads = integer_field(json, "n_head");
  c.context = integer_field(json, "n_positions");
  c.vocab = integer_field(json, "vocab_size");
  c.inner = inner_field(json);
  c.norm_eps = number_field(json, "layer_norm_epsilon", 1e-5);
  c.init_std = number_field(json, "initializer_range", 0.02);
  c.tied = truth_field(json, "tie_word_embeddings", true);
  c.gelu =
      gelu_of_activation(text_field(json, "activation_function", "gelu_new")) == GeluForm::exact
          ? "exact"
          : "tanh";
  refuse_variants(json, "GPT-2",
                  {{"scale_attn_weights", true},
                   {"scale_attn_by_inverse_layer_idx", false},
                   {"add_cross_attention", false}});
  return c;
}

}  // namespace sluice
