#include "train/from.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/model_files.h"
#include "checkpoint/weight_files.h"

namespace sluice {
namespace {

// Of training alone: they may differ from what the checkpoint was made with.
bool is_free(const std::string& key) {
  return key == "model.dropout" || key.starts_with("model.init.");
}

// A checkpoint of ours says more than its config.json: whether zeros are biases.
ModelConfig model_of(const ModelFolder& folder) {
  ModelConfig model = read_model_config(folder.path);
  if (folder.run.is_object() && folder.run.contains("config") && folder.run["config"].is_string())
    model.biases =
        parse_config(folder.run["config"].get<std::string>(), "manifest.json").model.biases;
  return model;
}

std::vector<Option> options_of(ModelConfig& model) {
  OptionTable table;
  describe(table, model);
  return table.options();
}

void require_no_conflict(const Config& config, const ModelConfig& model, const std::string& file) {
  ModelConfig asked = config.model, is = model;
  asked.inner = asked.inner_width(), is.inner = is.inner_width();
  const std::vector<Option> wanted = options_of(asked), found = options_of(is);
  std::vector<std::string> places, expected, conflicts;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const std::string& key = wanted[i].key;
    if (!config.places.contains(key) || is_free(key) || wanted[i].text() == found[i].text())
      continue;
    places.push_back(config.place(key));
    expected.push_back(fmt::format("{} = {}", key, found[i].text()));
    conflicts.push_back(fmt::format("{} = {}", key, wanted[i].text()));
  }
  if (conflicts.empty()) return;
  throw Error(Exit::usage, {"the config describes another model than the checkpoint",
                            fmt::format("{}", fmt::join(places, ", ")),
                            fmt::format("{} ({})", fmt::join(expected, ", "), file),
                            fmt::format("{}", fmt::join(conflicts, ", ")),
                            {"a config without [model]: with --from it is the checkpoint's"}});
}

}  // namespace

Config with_model_of(Config config, const ModelFolder& folder) {
  const std::string file = (folder.path / "config.json").string();
  ModelConfig model = model_of(folder);
  require_no_conflict(config, model, file);
  model.dropout = config.model.dropout;
  ModelConfig initial = config.model;
  model.init_kind = initial.init_kind;
  if (config.places.contains("model.init.std")) model.init_std = initial.init_std;
  model.init_output_std = initial.init_output_std;
  model.init_embedding_std = initial.init_embedding_std;
  config.model = model;
  for (const Option& option : options_of(model))
    if (!is_free(option.key)) config.places.try_emplace(option.key, file);
  if (!config.places.contains("batch.sequence"))
    config.batch.sequence = std::min(config.batch.sequence, model.context);
  return config;
}

Start open_start(const ModelFolder& folder, const ModelConfig& model) {
  Start out;
  out.folder = folder;
  out.hash = WeightFiles::open(folder.path).hash();
  std::string why;
  out.tokenizer = tokenizer_of(folder, model, why);
  const std::filesystem::path file = folder.path / "tokenizer.json";
  if (out.tokenizer && std::filesystem::exists(file)) out.tokenizer_path = file.string();
  return out;
}

void require_same_ids(const TokenFile& tokens, const Tokenizer& tokenizer, const Start& start) {
  if (!start.tokenizer) return;
  const Tokenizer& own = *start.tokenizer;
  bool same =
      tokenizer.vocab_size() <= own.vocab_size() && tokenizer.end_of_text() == own.end_of_text();
  for (int id = 0; same && id < tokenizer.vocab_size(); ++id)
    same = tokenizer.bytes_of(id) == own.bytes_of(id);
  if (same) return;
  const auto said = [](const Tokenizer& t) {
    return fmt::format("{} with {} ids, hash {}", t.kind(), t.vocab_size(), t.hash().substr(0, 12));
  };
  const std::string folder = start.folder.path.string();
  throw Error(Exit::input,
              {"the shards were made with another tokenizer than the checkpoint's",
               tokens.name(),
               fmt::format("{} ({})", said(own), folder),
               said(tokenizer),
               {fmt::format("sluice prepare INPUT.txt --tokenizer {} --out PREFIX", folder)}});
}

}  // namespace sluice
