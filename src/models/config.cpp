#include "models/config.h"

#include <cmath>

namespace sluice {
namespace {

Init::Kind kind_of(const ModelConfig& config) {
  return config.init_kind == "normal" ? Init::Kind::normal : Init::Kind::truncated_normal;
}

// No model is larger, and bytes of weights and optimizer state stay below 2^63.
constexpr std::int64_t most_layers = std::int64_t{1} << 14, most_size = std::int64_t{1} << 20,
                       most_rows = std::int64_t{1} << 24;

void require_size(std::int64_t value, std::int64_t most, std::string_view key, const Where& where) {
  require(value > 0 && value <= most, [&] {
    return Error(Exit::usage, {fmt::format("{} is out of range", key),
                               where(key),
                               fmt::format("an integer from 1 to {}", most),
                               fmt::format("{}", value),
                               {}});
  });
}

void require_number(bool ok, double value, std::string_view key, const char* expected,
                    const Where& where) {
  require(ok, [&] {
    return Error(Exit::usage, {fmt::format("{} is out of range", key),
                               where(key),
                               expected,
                               fmt::format("{}", value),
                               {}});
  });
}

}  // namespace

Init ModelConfig::weight_init() const { return {kind_of(*this), init_std}; }
Init ModelConfig::output_init() const {
  const double scaled = init_std / std::sqrt(2.0 * static_cast<double>(layers));
  return {kind_of(*this), init_output_std == 0 ? scaled : init_output_std};
}
Init ModelConfig::embedding_init() const {
  return {kind_of(*this), init_embedding_std == 0 ? init_std : init_embedding_std};
}

void describe(OptionTable& table, ModelConfig& c) {
  const Effect numerics = Effect::numerics;
  table.add("model.family", &c.family, numerics, "what the block is").choices = {"gpt2", "gptj"};
  table.add("model.layers", &c.layers, numerics, "number of blocks");
  table.add("model.width", &c.width, numerics, "numbers per token between blocks");
  table.add("model.heads", &c.heads, numerics, "attention heads; they divide the width");
  table.add("model.context", &c.context, numerics, "longest sequence the model takes");
  table.add("model.vocab", &c.vocab, numerics, "number of token ids");
  table.add("model.inner", &c.inner, numerics, "width inside the MLP (auto: 4 * width)")
      .allows_auto = true;
  table.add("model.gelu", &c.gelu, numerics, "form of GELU").choices = {"tanh", "exact"};
  table.add("model.tied", &c.tied, numerics, "the head uses the token embedding");
  table.add("model.biases", &c.biases, numerics, "linear maps have biases");
  table.add("model.norm_eps", &c.norm_eps, numerics, "epsilon of the layer norms");
  table.add("model.rotary", &c.rotary, numerics, "rotated numbers per head (gptj)");
  table.add("model.dropout", &c.dropout, numerics,
            "share of embedding, attention and residual branches dropped in training");
  table.add("model.init.kind", &c.init_kind, numerics, "distribution of initial weights")
      .choices = {"normal", "truncated_normal"};
  table.add("model.init.std", &c.init_std, numerics, "standard deviation of initial weights");
  table
      .add("model.init.output_std", &c.init_output_std, numerics,
           "of projections into the residual stream (auto: std / sqrt(2 * layers))")
      .allows_auto = true;
  table
      .add("model.init.embedding_std", &c.init_embedding_std, numerics,
           "of the embeddings (auto: std)")
      .allows_auto = true;
}

void check(const ModelConfig& c, const Where& where) {
  const auto refuse = [&](std::string_view key, std::string what, std::string expected,
                          std::string found, std::vector<std::string> tries) {
    throw Error(Exit::usage, {std::move(what), where(key), std::move(expected), std::move(found),
                              std::move(tries)});
  };
  require_size(c.layers, most_layers, "model.layers", where);
  require_size(c.width, most_size, "model.width", where);
  require_size(c.heads, most_size, "model.heads", where);
  require_size(c.context, most_rows, "model.context", where);
  require_size(c.vocab, most_rows, "model.vocab", where);
  require_size(c.inner_width(), 4 * most_size, "model.inner", where);
  if (c.width % c.heads != 0)
    refuse("model.width", fmt::format("{} columns do not divide by {} heads", c.width, c.heads),
           fmt::format("a multiple of {}", c.heads), fmt::format("{}", c.width),
           {fmt::format("model.width = {}", std::max(c.heads, c.width / c.heads * c.heads))});
  if (c.family == "gptj" && (c.rotary <= 0 || c.rotary % 2 != 0 || c.rotary > c.head_size()))
    refuse("model.rotary", "the rotated part does not fit the heads",
           fmt::format("an even number from 2 to {}", c.head_size()), fmt::format("{}", c.rotary),
           {fmt::format("model.rotary = {}", std::max<std::int64_t>(2, c.head_size() / 2 * 2))});
  if (c.family == "gptj" && c.tied)
    refuse("model.tied", "gptj has a head of its own", "false", "true", {"model.tied = false"});
  if (c.family == "gpt2" && c.rotary != 0)
    refuse("model.rotary", "gpt2 has learned positions, nothing to rotate", "0",
           fmt::format("{}", c.rotary), {"model.rotary = 0", "model.family = \"gptj\""});
  require_number(c.dropout >= 0 && c.dropout < 1, c.dropout, "model.dropout", "0 <= dropout < 1",
                 where);
  require_number(c.norm_eps > 0, c.norm_eps, "model.norm_eps", "more than 0", where);
  require_number(c.init_std >= 0, c.init_std, "model.init.std", "0 or more", where);
  require_number(c.init_output_std >= 0, c.init_output_std, "model.init.output_std", "0 or more",
                 where);
  require_number(c.init_embedding_std >= 0, c.init_embedding_std, "model.init.embedding_std",
                 "0 or more", where);
}

}  // namespace sluice
