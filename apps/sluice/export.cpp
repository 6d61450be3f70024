// sluice export: a checkpoint as a folder for Hugging Face's Transformers.
#include <filesystem>
#include <system_error>

#include "checkpoint/export_files.h"
#include "command.h"
#include "core/file.h"
#include "model_card.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string checkpoint, out, precision = "auto", name;
  std::int64_t shard_bytes = ExportOptions{}.shard_bytes;
  bool average = false;
};

// What others may have laid beside their weights, and what goes along unread.
constexpr const char* companions[] = {"tokenizer.json",
                                      "tokenizer_config.json",
                                      "vocab.json",
                                      "merges.txt",
                                      "special_tokens_map.json",
                                      "added_tokens.json",
                                      "generation_config.json"};
constexpr std::size_t most_bytes = std::size_t{1} << 30;

// The folder that is written: under another name until it is whole, gone if it never is.
class Folder {
 public:
  explicit Folder(const std::string& path) : path_(path), temporary_(path + ".tmp") {
    std::error_code ignored;
    require(!fs::exists(path_, ignored) || fs::is_empty(path_, ignored), [&] {
      return Error(Exit::usage, {"the folder to export to holds something",
                                 path_.string(),
                                 "an empty or missing folder",
                                 "files",
                                 {"another name"}});
    });
    require(!fs::exists(temporary_, ignored), [&] {
      return Error(Exit::usage, {"an export to this folder was killed, or is under way",
                                 temporary_.string(),
                                 "no such folder",
                                 "one",
                                 {fmt::format("rm -r {}", temporary_.string())}});
    });
    std::error_code error;
    fs::create_directories(temporary_, error);
    require(!error, [&] {
      return Error(Exit::disk, {fmt::format("cannot make the folder {}", temporary_.string()),
                                temporary_.string(),
                                "a place that this user may write to",
                                error.message(),
                                {}});
    });
  }
  ~Folder() {
    std::error_code ignored;
    if (!published_) fs::remove_all(temporary_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const fs::path& path() const { return temporary_; }
  void publish(Faults& faults) {
    sync_folder(temporary_, faults);
    std::error_code ignored;
    fs::remove(path_, ignored);  // when it is there it is empty
    rename_checked(temporary_, path_, faults);
    published_ = true;
    sync_folder(folder_of(path_.string()), faults);
  }

 private:
  fs::path path_, temporary_;
  bool published_ = false;
};

// The id that ends a text: the tokenizer's, or what the folder's own config.json says.
std::int64_t end_of_text(const ModelFolder& folder, const ModelConfig& model,
                         const Tokenizer* tokenizer) {
  if (tokenizer != nullptr) return tokenizer->end_of_text();
  const std::string text = read_file((folder.path / "config.json").string(), most_bytes);
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  const auto found = json.find("eos_token_id");
  const bool is_id = found != json.end() && found->is_number_integer();
  const auto id = is_id ? found->get<std::int64_t>() : -1;
  return id < model.vocab ? id : -1;
}

// The text of a special token of a tokenizer.json; empty: there is none with this id.
std::string special_token(const std::string& tokenizer_json, int id) {
  const nlohmann::json json = nlohmann::json::parse(tokenizer_json, nullptr, false);
  if (!json.is_object() || !json.contains("added_tokens") || !json["added_tokens"].is_array())
    return {};
  for (const nlohmann::json& token : json["added_tokens"])
    if (token.is_object() && token.value("id", -1) == id) return token.value("content", "");
  return {};
}

void add_companions(const ModelFolder& folder, const Tokenizer* tokenizer, std::int64_t context,
                    const fs::path& out, std::vector<ExportedFile>& files, Faults& faults) {
  const auto has = [&](const char* name) {
    return std::any_of(files.begin(), files.end(),
                       [&](const ExportedFile& file) { return file.name == name; });
  };
  std::string tokenizer_json;
  for (const char* name : companions) {
    std::error_code ignored;
    if (!fs::is_regular_file(folder.path / name, ignored)) continue;
    const std::string text = read_file((folder.path / name).string(), most_bytes);
    files.push_back(export_text(out, name, text, faults));
    if (std::string_view(name) == "tokenizer.json") tokenizer_json = text;
  }
  if (tokenizer == nullptr) return;
  const int end = tokenizer->end_of_text();
  if (!has("tokenizer_config.json") && !tokenizer_json.empty()) {
    nlohmann::json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                             {"model_max_length", context},
                             {"clean_up_tokenization_spaces", false}};
    if (const std::string token = special_token(tokenizer_json, end); !token.empty())
      config["bos_token"] = config["eos_token"] = token;
    files.push_back(export_text(out, "tokenizer_config.json", config.dump(2) + "\n", faults));
  }
  if (!has("generation_config.json")) {
    const nlohmann::json config = {{"bos_token_id", end}, {"eos_token_id", end}};
    files.push_back(export_text(out, "generation_config.json", config.dump(2) + "\n", faults));
  }
}

// Without a slash at its end.
fs::path folder_to_write(const Options& options) {
  const fs::path path = fs::path(options.out).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

int run(const Options& options, Context& context) {
  const ModelFolder folder = find_checkpoint(options.checkpoint);
  const ModelConfig model = read_model_config(folder.path);
  const WeightFiles weights =
      WeightFiles::open(folder.path, options.average ? "average.safetensors" : "");
  std::string without_tokenizer;
  const TokenizerPtr tokenizer = tokenizer_of(folder, model, without_tokenizer);
  ExportOptions how;
  how.shard_bytes = options.shard_bytes;
  how.dtype = options.precision == "auto" ? "" : options.precision == "bf16" ? "BF16" : "F32";
  how.end_of_text = end_of_text(folder, model, tokenizer.get());

  const fs::path path = folder_to_write(options);
  Folder out(path.string());
  const std::string name = options.name.empty() ? path.filename().string() : options.name;
  ModelCard card{name, &folder, model, tokenizer.get(), options.average, how.dtype, {}};
  card.files = export_model(weights, model, out.path(), how, context.faults);
  add_companions(folder, tokenizer.get(), model.context, out.path(), card.files, context.faults);
  const ExportedFile text = export_text(out.path(), "README.md", model_card(card), context.faults);
  card.files.push_back(text);
  out.publish(context.faults);

  if (!tokenizer) note(fmt::format("no tokenizer goes along: {}", without_tokenizer));
  std::int64_t bytes = 0;
  nlohmann::json files = nlohmann::json::array();
  for (const ExportedFile& file : card.files) {
    bytes += file.written.size;
    files.push_back(
        {{"name", file.name}, {"bytes", file.written.size}, {"hash", file.written.hash}});
  }
  if (context.json)
    write_json({{"path", options.out}, {"from", folder.path.string()}, {"files", files}});
  else
    write_out(fmt::format("{}: {} files, {} bytes, from {}\n", options.out, card.files.size(),
                          bytes, folder.path.string()));
  return 0;
}

}  // namespace

void add_export(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "export",
                  "Write a checkpoint as a Hugging Face folder with a model card", run, o);
  command
      ->add_option("checkpoint", o->checkpoint, "a run, a step or a Hugging Face folder, any form")
      ->required()
      ->type_name("CHECKPOINT");
  command->add_option("out", o->out, "the folder to write, which is missing or empty")
      ->required()
      ->type_name("DIR");
  command
      ->add_option("--precision", o->precision,
                   "of the weights: float32 or bf16 (auto: as they are stored)")
      ->check(one_of({"auto", "float32", "bf16"}))
      ->type_name("TYPE");
  command
      ->add_option("--shard-size", o->shard_bytes, "most bytes of tensors in one file (5000000000)")
      ->check(at_least(1))
      ->type_name("BYTES");
  command->add_option("--name", o->name, "of the model, for its card (default: the folder's)")
      ->type_name("NAME");
  command->add_flag("--average", o->average, "the averaged weights that optim.ema kept");
}

}  // namespace sluice
