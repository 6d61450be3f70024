// sluice inspect: what is this?
#include <filesystem>

#include "checkpoint/model_files.h"
#include "checkpoint/weight_files.h"
#include "command.h"
#include "core/file.h"
#include "data/shards.h"
#include "models/family.h"

namespace sluice {
namespace {

struct Options {
  std::string path;
};

bool is_file(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

nlohmann::json inspect_tokens(const std::string& path) {
  const TokenFile tokens(path);
  nlohmann::json out = {{"kind", tokens.tokenizer() ? "token shards" : "raw token ids"},
                        {"path", tokens.name()},
                        {"tokens", tokens.tokens()},
                        {"checksum", tokens.checksum()}};
  if (!tokens.tokenizer()) return out;
  out["documents"] = tokens.documents();
  out["bytes"] = tokens.text_bytes().value_or(0);
  out["tokenizer"] = tokens.tokenizer()->kind;
  out["tokenizer_hash"] = tokens.tokenizer()->hash;
  out["vocab"] = tokens.tokenizer()->vocab;
  out["end_of_text"] = tokens.tokenizer()->end_of_text;
  return out;
}

nlohmann::json tensors_of(const WeightFiles& files) {
  nlohmann::json out = nlohmann::json::array();
  for (const StoredTensor& stored : files.tensors())
    out.push_back({{"name", stored.name}, {"dtype", stored.dtype}, {"shape", stored.shape}});
  return out;
}

nlohmann::json inspect_checkpoint(const std::string& path) {
  const ModelFolder folder = find_checkpoint(path, CheckDepth::sizes);
  const ModelConfig model = read_model_config(folder.path);
  const WeightFiles files = WeightFiles::open(folder.path);
  const bool run = folder.step && std::filesystem::path(path) != folder.path;
  nlohmann::json out = {
      {"kind", run           ? "run"
               : folder.step ? "step of a run"
                             : "Hugging Face folder"},
      {"path", folder.path.string()},
      {"parameters", build_forward(model, {1, 1}, standard_parametrization(), 1).parameters()},
      {"config", family_of(model).to_config(model)}};
  if (folder.step) {
    out["step"] = *folder.step;
    for (const char* name : {"tokens", "cursor", "digest", "key_hash"})
      if (folder.run.contains(name)) out[name] = folder.run[name];
  }
  out["weights"] = std::filesystem::path(files.name()).filename().string();
  out["tensors"] = tensors_of(files);
  return out;
}

void print(const nlohmann::json& found) {
  for (const auto& [name, value] : found.items()) {
    if (name == "tensors" || name == "config") continue;
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    write_out(fmt::format("{}: {}\n", name, text));
  }
  if (!found.contains("config")) return;
  write_out("config:\n");
  for (const auto& [name, value] : found["config"].items())
    write_out(fmt::format("  {}: {}\n", name, value.dump()));
  write_out("tensors:\n");
  for (const nlohmann::json& tensor : found["tensors"])
    write_out(fmt::format("  {} {} {}\n", tensor["name"].get<std::string>(),
                          tensor["dtype"].get<std::string>(), tensor["shape"].dump()));
}

int run(const Options& options, Context& context) {
  const bool tokens = is_file(options.path) || is_file(options.path + ".bin");
  const nlohmann::json found =
      tokens ? inspect_tokens(options.path) : inspect_checkpoint(options.path);
  if (context.json)
    write_json(found);
  else
    print(found);
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "inspect", "Say what a checkpoint or shard set holds", run, o);
  command->add_option("path", o->path, "a run, a step, a Hugging Face folder, or shards' prefix")
      ->required()
      ->type_name("PATH");
}

}  // namespace sluice
