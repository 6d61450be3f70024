// Declarations of the families' tables: <name>.sharding.cpp and <name>.names.cpp.
#pragma once

#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "graph/sharding.h"
#include "models/config.h"
#include "models/family.h"

namespace sluice {

ShardingTable gpt2_sharding();
std::string gpt2_tensor_name(LayerKind kind, int block, const std::string& name);
std::vector<AbsentBias> gpt2_absent_biases(const ModelConfig& config);
nlohmann::json gpt2_to_config(const ModelConfig& config);
ModelConfig gpt2_from_config(const nlohmann::json& json);

ShardingTable gptj_sharding();
std::string gptj_tensor_name(LayerKind kind, int block, const std::string& name);
std::vector<AbsentBias> gptj_absent_biases(const ModelConfig& config);
nlohmann::json gptj_to_config(const ModelConfig& config);
ModelConfig gptj_from_config(const nlohmann::json& json);

// Shared by the names files: fields of config.json, checked. Exit::input when missing or mistyped.
std::int64_t integer_field(const nlohmann::json& json, const char* name);
double number_field(const nlohmann::json& json, const char* name, double fallback);
std::string text_field(const nlohmann::json& json, const char* name, const char* fallback);
bool truth_field(const nlohmann::json& json, const char* name, bool fallback);
std::int64_t inner_field(const nlohmann::json& json);  // "n_inner", which may be null: 0
// Features that change the mathematics and have one usual value: refused where it is another.
struct Variant {
  const char* name;
  bool usual;
};
void refuse_variants(const nlohmann::json& json, const char* family,
                     std::initializer_list<Variant> variants);
// GPT-2's end of text when the vocabulary has it, else null: Transformers' default would lie
// outside.
nlohmann::json end_of_text_field(const ModelConfig& config);
GeluForm gelu_of_activation(const std::string& activation);  // "gelu_new" | "gelu"
const char* activation_of_gelu(const std::string& gelu);

}  // namespace sluice
