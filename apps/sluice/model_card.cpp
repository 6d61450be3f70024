#include "model_card.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "models/published.h"
#include "planner/flops.h"
#include "train/config.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// The last numbers of a run up to a step.
struct Losses {
  nlohmann::json trained, validated;  // rows of metrics.jsonl; null: none
};

Losses losses_until(const fs::path& step_folder, std::int64_t step) {
  Losses out;
  std::ifstream rows(step_folder.parent_path().parent_path() / "metrics.jsonl");
  for (std::string line; std::getline(rows, line);) {
    const nlohmann::json row = nlohmann::json::parse(line, nullptr, false);
    if (!row.is_object() || !row.contains("step") || !row["step"].is_number_integer()) continue;
    if (row["step"].get<std::int64_t>() > step) continue;
    if (row.contains("loss") && row["loss"].is_number()) out.trained = row;
    if (row.contains("val_loss") && row["val_loss"].is_number()) out.validated = row;
  }
  return out;
}

// The run's config as its manifest has it, without the folders of the machine that it ran on.
std::optional<Config> config_of(const ModelFolder& folder) {
  const nlohmann::json& run = folder.run;
  if (!run.is_object() || !run.contains("config") || !run["config"].is_string()) return {};
  Config config = parse_config(run["config"].get<std::string>(), "manifest.json");
  config.data.train = fs::path(config.data.train).filename().string();
  config.data.validation = fs::path(config.data.validation).filename().string();
  config.plan.disk_path.clear();
  return config;
}

class Table {
 public:
  Table() : text_("| | |\n|---|---|\n") {}
  void row(std::string_view name, std::string_view value) {
    text_ += fmt::format("| {} | {} |\n", name, value);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string head(const ModelCard& card) {
  return fmt::format(
      "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- sluice\n- {}\n---\n"
      "\n# {}\n\n",
      card.model.family, card.name);
}

void describe_model(Table& table, const ModelCard& card) {
  const ModelConfig& m = card.model;
  table.row("parameters", fmt::format("{}", parameters_of(m)));
  table.row("shape", fmt::format("{}: {} layers, width {}, {} heads, MLP {}, {} GELU", m.family,
                                 m.layers, m.width, m.heads, m.inner_width(), m.gelu));
  table.row("context", fmt::format("{} tokens", m.context));
  table.row("vocabulary", card.tokenizer == nullptr
                              ? fmt::format("{}", m.vocab)
                              : fmt::format("{} ({} tokenizer, {} ids, SHA-256 {})", m.vocab,
                                            card.tokenizer->kind(), card.tokenizer->vocab_size(),
                                            card.tokenizer->hash()));
}

void describe_training(Table& table, const ModelCard& card, const Config& config) {
  const nlohmann::json& run = card.folder->run;
  const std::int64_t step = *card.folder->step;
  const auto tokens = run.value("tokens", std::int64_t{0});
  table.row("trained on", fmt::format("{} tokens in {} steps", tokens, step));
  for (const FlopsRule& rule : flops_rules())
    table.row(fmt::format("training FLOPs, rule {}", rule.name),
              fmt::format("{:.3e}", rule.of(card.model, config.batch.sequence) *
                                        static_cast<double>(tokens)));
  const Losses losses = losses_until(card.folder->path, step);
  if (losses.trained.is_object())
    table.row("training loss",
              fmt::format("{:.4f} nats a token at step {}", losses.trained["loss"].get<double>(),
                          losses.trained["step"].get<std::int64_t>()));
  if (losses.validated.is_object()) {
    const nlohmann::json& row = losses.validated;
    std::string text = fmt::format("{:.4f} nats a token at step {}", row["val_loss"].get<double>(),
                                   row["step"].get<std::int64_t>());
    if (row.contains("bits_per_byte") && row["bits_per_byte"].is_number())
      text += fmt::format(", {:.4f} bits per byte", row["bits_per_byte"].get<double>());
    table.row("validation loss", text);
  }
  if (card.average)
    table.row("weights", "the average that optim.ema kept");
  else
    table.row("digest of the trained weights", fmt::format("`{}`", run.value("digest", "")));
  table.row("key of the run", fmt::format("`{}`", run.value("key_hash", "")));
}

// Facts that no option says, from the run's key.
void describe_facts(Table& table, const std::string& key) {
  for (const auto& [name, what] : {std::pair{"data.checksum", "data (checksum, tokenizer)"},
                                   {"from", "began with the weights of a checkpoint (hash)"},
                                   {"run.isa", "processor"}}) {
    const std::string line = fmt::format("{} = \"", name);
    std::size_t at = key.find("\n" + line);
    at = key.starts_with(line) ? 0 : at == std::string::npos ? at : at + 1;
    if (at == std::string::npos) continue;
    const std::size_t begin = at + line.size();
    table.row(what, fmt::format("`{}`", key.substr(begin, key.find('"', begin) - begin)));
  }
}

std::string use(const ModelCard& card) {
  std::string out =
      "\n## Use\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
      "model = AutoModelForCausalLM.from_pretrained(\".\")\n";
  if (card.tokenizer != nullptr)
    out +=
        "tokenizer = AutoTokenizer.from_pretrained(\".\")\n"
        "ids = tokenizer(\"Once upon a time\", return_tensors=\"pt\")\n"
        "print(tokenizer.decode(model.generate(**ids, max_new_tokens=50, do_sample=True)[0]))\n";
  return out + "```\n\nOr: `sluice generate --checkpoint . --prompt \"Once upon a time\"`.\n";
}

std::string list(const std::vector<ExportedFile>& files) {
  std::string out = "\n## Files\n\n| file | bytes | XXH3-128 |\n|---|---|---|\n";
  for (const ExportedFile& file : files)
    out += fmt::format("| {} | {} | `{}` |\n", file.name, file.written.size, file.written.hash);
  return out;
}

}  // namespace

std::string model_card(const ModelCard& card) {
  std::string out = head(card);
  Table table;
  describe_model(table, card);
  const std::optional<Config> config = card.folder->step ? config_of(*card.folder) : std::nullopt;
  if (config) {
    out += "Trained with Sluice.\n\n";
    describe_training(table, card, *config);
    describe_facts(table, card.folder->run.value("key", ""));
  } else {
    out += "Written by Sluice from a checkpoint whose training it does not know.\n\n";
  }
  out += table.text() + use(card) + list(card.files);
  if (config) out += fmt::format("\n## Config\n\n```toml\n{}```\n", to_toml(*config));
  return out;
}

}  // namespace sluice
