#include "train/config.h"

#include <algorithm>
#include <filesystem>

#include "core/file.h"
#include "data/unicode.h"
#include "train/builtin.h"

namespace sluice {
namespace {

constexpr std::size_t most_bytes = std::size_t{1} << 20;
constexpr std::string_view suffix = ".toml";

std::string without_suffix(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  return name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : name;
}

const Builtin* find_builtin(std::string_view name) {
  for (const Builtin& builtin : builtins())
    if (builtin.name == name) return &builtin;
  return nullptr;
}

// `name` is the file's; a config that names its run so, or not at all, says that it is that model.
Config named(Config config, const std::string& name) {
  if (config.run.name.empty()) config.run.name = name;
  if (config.run.name == name) check_published(config, name);
  return config;
}

Error unknown_config(const std::string& name) {
  const std::vector<std::string> names = builtin_names();
  const std::string near = nearest(name, names);
  Report report{fmt::format("no config is called {}", name),
                {},
                "a TOML file, or a name that `sluice train --list` lists",
                name,
                {}};
  if (!near.empty()) report.tries.push_back(near);
  return Error(Exit::usage, std::move(report));
}

void require_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char next = first_char(text.substr(at));
    require(next.valid && next.code != 0, [&] {
      return Error(Exit::usage, {"an option on the command line is not text",
                                 fmt::format("command line, byte {} of an option", at + 1),
                                 "UTF-8",
                                 fmt::format("byte 0x{:02x}", static_cast<unsigned>(next.code)),
                                 {}});
    });
    at += static_cast<std::size_t>(next.bytes);
  }
}

}  // namespace

void describe(OptionTable& table, DataConfig& c) {
  // Where data lies is free: the key has the data's checksum instead.
  table.add("data.train", &c.train, Effect::free, "prefix that `sluice prepare` wrote");
  table.add("data.validation", &c.validation, Effect::free, "prefix of held-out text, if any");
  table
      .add("data.documents", &c.documents, Effect::numerics,
           "whether attention crosses the documents of a row")
      .choices = {"join", "separate"};
}

void describe(OptionTable& table, BatchConfig& c) {
  table.add("batch.tokens", &c.tokens, Effect::numerics, "tokens of one step");
  table.add("batch.ramp", &c.ramp, Effect::numerics,
            "other sizes later: \"DONE:TOKENS, …\", after DONE tokens steps have TOKENS");
  table.add("batch.sequence", &c.sequence, Effect::numerics, "tokens of one sequence");
}

void describe(OptionTable& table, RunConfig& c) {
  const Effect free = Effect::free, numerics = Effect::numerics;
  table.add("run.tokens", &c.tokens, numerics, "tokens to train on; the lr schedule ends there");
  table.add("run.validate_every", &c.validate_every, free, "steps; 0: never");
  table.add("run.validate_tokens", &c.validate_tokens, free, "of each validation; 0: all");
  table.add("run.save_every", &c.save_every, free, "steps; 0: at the end only");
  table.add("run.sample_every", &c.sample_every, free, "steps; 0: never");
  table.add("run.keep_last", &c.keep_last, free, "checkpoints to keep");
  table.add("run.keep_every", &c.keep_every, free,
            "steps whose checkpoints are kept besides, for good; 0: none");
  table.add("run.keep_best", &c.keep_best, free,
            "save at the least validation loss so far, and keep that besides");
  table.add("run.seed", &c.seed, numerics, "of initial weights and data order");
  table.add("run.threads", &c.threads, free, "of the CPU (auto: all this process may use)")
      .allows_auto = true;
  table.add("run.isa", &c.isa, numerics, "instructions of the CPU (auto: the best it has)")
      .choices = {"auto", "portable", "avx2", "avx512", "avx512_bf16", "amx"};
  table.add("run.sample_prompt", &c.sample_prompt, free, "how samples begin");
  table.add("run.sample_tokens", &c.sample_tokens, free, "length of samples");
  table.add("run.norms_every", &c.norms_every, free,
            "steps; norms of each layer's weights and gradients in metrics.jsonl; 0: never");
  table.add("run.tensorboard", &c.tensorboard, free,
            "write the metrics for TensorBoard too, into the run's folder");
  table.add("run.log_hashes", &c.log_hashes, free, "hash every value, for `sluice diff`");
  table.add("run.poison", &c.poison, free, "fill freed memory with NaN");
  table.add("run.eager", &c.eager, free, "on a GPU, launch every kernel by itself: no CUDA graphs");
  table.add("run.sync", &c.sync, free, "on a GPU, wait after every op, so that an error names it");
  table.add("run.name", &c.name, free, "of the run's folder (default: the config's name)");
}

std::string Config::place(std::string_view key) const {
  const auto found = places.find(key);
  return found == places.end() ? std::string(key) : fmt::format("{} {}", found->second, key);
}

OptionTable table_of(Config& config) {
  OptionTable table;
  describe(table, config.model);
  describe(table, config.data);
  describe(table, config.batch);
  describe(table, config.optim);
  describe(table, config.plan);
  describe(table, config.run);
  return table;
}

Config load_config(const std::string& name_or_path) {
  if (const Builtin* builtin = find_builtin(name_or_path))
    return named(parse_config(builtin->toml, name_or_path), name_or_path);
  const bool path_like =
      name_or_path.ends_with(suffix) || name_or_path.find('/') != std::string::npos;
  std::error_code ignored;
  if (!path_like && !std::filesystem::exists(name_or_path, ignored))
    throw unknown_config(name_or_path);
  std::string text;
  try {
    text = read_file(name_or_path, most_bytes);
  } catch (const Error& e) {
    throw Error(Exit::usage, e.report());  // for a config, an unusable file is wrong usage
  }
  return named(parse_config(text, name_or_path), without_suffix(name_or_path));
}

void apply_overrides(Config& config, std::span<const std::string> overrides) {
  OptionTable table = table_of(config);
  for (std::string text : overrides) {
    require_utf8(text);
    if (text.starts_with("--")) text.erase(0, 2);
    const std::size_t equals = text.find('=');
    require(equals != std::string::npos, [&] {
      return Error(Exit::usage, {fmt::format("--{} has no value", text),
                                 "command line",
                                 "--section.key=value",
                                 fmt::format("--{}", text),
                                 {}});
    });
    std::string key = text.substr(0, equals);
    std::replace(key.begin(), key.end(), '-', '_');
    table.set(key, {.value = text.substr(equals + 1), .bare = true, .where = "command line"});
    config.places[key] = "command line";
  }
}

std::string to_toml(const Config& config) {
  Config copy = config;
  return table_of(copy).toml();
}

std::string help_text() {
  Config defaults;
  return table_of(defaults).help();
}

std::vector<std::string> builtin_names() {
  std::vector<std::string> names;
  for (const Builtin& builtin : builtins()) names.emplace_back(builtin.name);
  return names;
}

std::string_view builtin_text(std::string_view name) {
  const Builtin* found = find_builtin(name);
  require(found != nullptr, [&] { return unknown_config(std::string(name)); });
  return found->toml;
}

}  // namespace sluice
