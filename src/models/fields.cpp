#include <nlohmann/json.hpp>

#include "models/tables.h"

namespace sluice {
namespace {
[[noreturn]] void bad_field(const char* name, const char* expected, const nlohmann::json& json) {
  const auto found = json.find(name);
  throw Error(Exit::input, {"config.json does not describe a model we know",
                            fmt::format("config.json {}", name),
                            expected,
                            found == json.end() ? "nothing" : found->dump(),
                            {}});
}
}  // namespace

std::int64_t integer_field(const nlohmann::json& json, const char* name) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_number_integer()) bad_field(name, "an integer", json);
  return found->get<std::int64_t>();
}

double number_field(const nlohmann::json& json, const char* name, double fallback) {
  const auto found = json.find(name);
  if (found == json.end()) return fallback;
  if (!found->is_number()) bad_field(name, "a number", json);
  return found->get<double>();
}

std::string text_field(const nlohmann::json& json, const char* name, const char* fallback) {
  const auto found = json.find(name);
  if (found == json.end()) return fallback;
  if (!found->is_string()) bad_field(name, "a string", json);
  return found->get<std::string>();
}

bool truth_field(const nlohmann::json& json, const char* name, bool fallback) {
  const auto found = json.find(name);
  if (found == json.end() || found->is_null()) return fallback;
  if (!found->is_boolean()) bad_field(name, "true or false", json);
  return found->get<bool>();
}

std::int64_t inner_field(const nlohmann::json& json) {
  const auto found = json.find("n_inner");
  return found == json.end() || found->is_null() ? 0 : integer_field(json, "n_inner");
}

void refuse_variants(const nlohmann::json& json, const char* family,
                     std::initializer_list<Variant> variants) {
  const auto refuse = [&](const char* name, const std::string& expected) {
    throw Error(Exit::input, {fmt::format("this variant of {} is not supported", family),
                              fmt::format("config.json {}", name),
                              expected,
                              json[name].dump(),
                              {}});
  };
  for (const auto& [name, usual] : variants)
    if (truth_field(json, name, usual) != usual) refuse(name, usual ? "true" : "false");
  if (json.contains("quantization_config")) refuse("quantization_config", "float numbers");
  // Cerebras' maximal update parametrization: multipliers in the forward pass.
  for (const char* name : {"mup_width_scale", "mup_embeddings_scale", "mup_output_alpha"})
    if (number_field(json, name, 1) != 1) refuse(name, "1");
  if (truth_field(json, "mup_scale_qk_dot_by_d", false)) refuse("mup_scale_qk_dot_by_d", "false");
}

nlohmann::json end_of_text_field(const ModelConfig& config) {
  constexpr std::int64_t end_of_text = 50256;
  if (config.vocab > end_of_text) return end_of_text;
  return nullptr;
}

GeluForm gelu_of_activation(const std::string& activation) {
  if (activation == "gelu") return GeluForm::exact;
  if (activation == "gelu_new" || activation == "gelu_pytorch_tanh") return GeluForm::tanh;
  throw Error(Exit::input, {"the model's activation is not known",
                            "config.json activation_function",
                            "gelu, gelu_new or gelu_pytorch_tanh",
                            activation,
                            {}});
}

const char* activation_of_gelu(const std::string& gelu) {
  return gelu == "exact" ? "gelu" : "gelu_new";
}

}  // namespace sluice
