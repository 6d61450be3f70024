#include "data/find_tokenizer.h"

#include <filesystem>

#include "core/error.h"
#include "core/file.h"

namespace sluice {
namespace {

TokenizerPtr gpt2_of(const std::string& assets) {
  const std::string path = assets + "/gpt2/vocab.bpe";
  try {
    return make_gpt2_tokenizer(read_file(path, std::size_t{1} << 24));
  } catch (Error& e) {
    e.report().where = path;
    e.report().tries = {"tools/fetch/gpt2_merges, which fetches GPT-2's merges"};
    throw;
  }
}

}  // namespace

void throw_no_such_tokenizer(const std::string& name, const std::string& kinds) {
  std::vector<std::string> names = {"bytes", "gpt2"};
  if (kinds.find("chars") != std::string::npos) names.emplace_back("chars");
  const std::string near = nearest(name, names);
  throw Error(Exit::usage, {.what = "there is no such tokenizer",
                            .where = "--tokenizer",
                            .expected = kinds,
                            .found = name.empty() ? "nothing" : name,
                            .tries = {"--tokenizer " + (near.empty() ? "gpt2" : near)}});
}

bool names_tokenizer(const std::string& name) {
  std::error_code error;
  return name == "bytes" || name == "gpt2" || std::filesystem::exists(name, error);
}

TokenizerPtr find_tokenizer(const TokenizerChoice& choice) {
  const bool kind = choice.name == "bytes" || choice.name == "gpt2";
  require(!kind || choice.pattern.empty(), [&] {
    return Error(Exit::usage, {.what = fmt::format("{} says itself how text is split", choice.name),
                               .where = "--pattern",
                               .expected = "no --pattern",
                               .found = choice.pattern,
                               .tries = {}});
  });
  if (choice.name == "bytes") return make_bytes_tokenizer();
  if (choice.name == "gpt2") return gpt2_of(choice.assets);
  if (!names_tokenizer(choice.name))
    throw_no_such_tokenizer(choice.name, "bytes, gpt2, or a tokenizer's file or folder");
  return load_tokenizer(choice.name, choice.pattern);
}

}  // namespace sluice
