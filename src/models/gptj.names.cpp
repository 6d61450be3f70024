// GPT-J as Hugging Face names and describes it (GPTJForCausalLM).
#include <nlohmann/json.hpp>

#include "models/tables.h"

namespace sluice {

std::string gptj_tensor_name(LayerKind kind, int block, const std::string& name) {
  if (kind == LayerKind::block) return fmt::format("transformer.h.{}.{}", block, name);
  if (name == "lm_head") return "lm_head.weight";
  if (name == "lm_head.bias") return name;
  if (kind == LayerKind::embedding) return fmt::format("transformer.{}.weight", name);
  return fmt::format("transformer.{}", name);
}

std::vector<AbsentBias> gptj_absent_biases(const ModelConfig& c) {
  return {{"mlp.fc_in.bias", c.inner_width()}, {"mlp.fc_out.bias", c.width}};
}

nlohmann::json gptj_to_config(const ModelConfig& c) {
  return {{"model_type", "gptj"},
          {"architectures", {"GPTJForCausalLM"}},
          {"n_layer", c.layers},
          {"n_embd", c.width},
          {"n_head", c.heads},
          {"n_positions", c.context},
          {"n_inner", c.inner_width()},
          {"rotary_dim", c.rotary},
          {"vocab_size", c.vocab},
          {"activation_function", activation_of_gelu(c.gelu)},
          {"layer_norm_epsilon", c.norm_eps},
          {"initializer_range", c.init_std},
          {"tie_word_embeddings", false},
          {"attn_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"resid_pdrop", 0.0},
          {"bos_token_id", end_of_text_field(c)},
          {"eos_token_id", end_of_text_field(c)}};
}

ModelConfig gptj_from_config(const nlohmann::json& json) {
  ModelConfig c;
  c.family = "gptj";
  c.layers = integer_field(json, "n_layer");
  c.width = integer_field(json, "n_embd");
  c.heads = integer_field(json, "n_head");
  c.context = integer_field(json, "n_positions");
  c.vocab = integer_field(json, "vocab_size");
  c.rotary = integer_field(json, "rotary_dim");
  c.inner = inner_field(json);
  c.norm_eps = number_field(json, "layer_norm_epsilon", 1e-5);
  c.init_std = number_field(json, "initializer_range", 0.02);
  c.tied = false;
  c.gelu =
      gelu_of_activation(text_field(json, "activation_function", "gelu_new")) == GeluForm::exact
          ? "exact"
          : "tanh";
  refuse_variants(json, "GPT-J", {{"rotary", true}, {"tie_word_embeddings", false}});
  return c;
}

}  // namespace sluice
