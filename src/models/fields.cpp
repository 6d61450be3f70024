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
