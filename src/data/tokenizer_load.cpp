// load_tokenizer(): which kind of file it is, and which reader it wants.
#include <filesystem>

#include "core/file.h"
#include "data/tokenizer_read.h"
#include "data/unicode.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t most_bytes = std::size_t{64} << 20;
constexpr const char* kinds_of_file =
    "a tokenizer.json, a vocab.json with its merges.txt, or lines \"BASE64 RANK\" (.tiktoken)";

bool present(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

TokenizerPtr chars_from(const std::string& path, const json& vocabulary) {
  std::vector<char32_t> alphabet;
  const auto refused = [&](std::string found) {
    return refused_tokenizer(path, "model.vocab", "one character for each token, as Sluice writes",
                             std::move(found));
  };
  require(vocabulary.is_object(), [&] { return refused("nothing"); });
  for (const auto& [token, id] : vocabulary.items()) {
    if (token == end_of_text_name) continue;
    const Utf8Char c = token.empty() ? Utf8Char{0, 0, false} : first_char(token);
    require(c.valid && static_cast<std::size_t>(c.bytes) == token.size(),
            [&] { return refused(fmt::format("the token {}", brief(json(token)))); });
    alphabet.push_back(c.code);
  }
  require(!alphabet.empty(), [&] { return refused("no tokens"); });
  return make_chars_tokenizer(std::move(alphabet));
}

// Every part of the file must be what `made` writes: nothing is silently dropped.
void require_same_parts(const std::string& path, const json& file, const Tokenizer& made) {
  const json ours = json::parse(made.tokenizer_json());
  const auto same = [&](const json& theirs, const json& expected, const std::string& prefix) {
    const std::string as_ours = fmt::format("as Sluice writes it for {}", made.kind());
    for (const auto& [key, value] : theirs.items())
      require(expected.contains(key), [&, &name = key] {
        return refused_tokenizer(path, prefix + name, as_ours, "an unknown part");
      });
    for (const auto& [key, value] : expected.items()) {
      const bool there = theirs.contains(key);
      require(there && ((prefix.empty() && key == "model") || theirs[key] == value),
              [&, &name = key] {
                return refused_tokenizer(path, prefix + name, as_ours,
                                         there ? "something else" : "nothing");
              });
    }
  };
  same(file, ours, "");
  same(file["model"], ours["model"], "model.");
}

TokenizerPtr of_definition(BpeDefinition definition) {
  const std::string gpt2 = gpt2_merges_of(definition);
  return gpt2.empty() ? make_bpe_tokenizer(std::move(definition)) : make_gpt2_tokenizer(gpt2);
}

TokenizerPtr of_tokenizer_json(const std::string& path, const json& file) {
  const auto model = file.find("model");
  const bool typed = model != file.end() && model->is_object() && model->contains("type") &&
                     model->at("type").is_string();
  require(typed, [&] {
    return refused_tokenizer(path, "model.type", "BPE, or what Sluice wrote", "nothing");
  });
  const std::string& type = model->at("type").get_ref<const std::string&>();
  if (type == "WordLevel") {
    const auto vocab = model->find("vocab");
    TokenizerPtr chars = chars_from(path, vocab == model->end() ? json() : *vocab);
    require_same_parts(path, file, *chars);
    return chars;
  }
  require(type == "BPE", [&] {
    return refused_tokenizer(path, "model.type", "BPE, or what Sluice wrote",
                             brief(model->at("type")));
  });
  require(model->contains("vocab") && model->at("vocab").is_object(), [&] {
    return refused_tokenizer(path, "model.vocab", "an object of tokens and ids", "nothing");
  });
  const auto merges = model->find("merges");
  if (merges != model->end() && merges->is_array() && merges->empty()) {
    TokenizerPtr bytes = make_bytes_tokenizer();
    if (json::parse(bytes->tokenizer_json()) == file) return bytes;
  }
  return of_definition(bpe_of_json(path, file));
}

Splitter given_or(std::string_view name, std::optional<Splitter> otherwise,
                  const std::string& path) {
  const std::optional<Splitter> splitter = name.empty() ? otherwise : splitter_named(name);
  require(splitter.has_value(), [&] {
    return Error(Exit::usage, {.what = name.empty() ? "the file does not say how text is split"
                                                    : "there is no such pattern",
                               .where = name.empty() ? path : "--pattern",
                               .expected = "gpt2, cl100k, llama3 or none",
                               .found = name.empty() ? "no --pattern" : std::string(name),
                               .tries = {"--pattern cl100k"}});
  });
  return *splitter;
}

TokenizerPtr of_lists(const fs::path& vocab, const fs::path& merges, std::string_view splitter) {
  const std::string text = read_file(merges.string(), most_bytes);
  // GPT-2's published merges say everything; the others need the ids.
  if (!present(vocab)) {
    try {
      return make_gpt2_tokenizer(text);
    } catch (const Error&) {
      throw refused_tokenizer(merges.string(), "", "vocab.json beside it", "no such file");
    }
  }
  const json ids = json::parse(read_file(vocab.string(), most_bytes), nullptr, false);
  require(ids.is_object(), [&] {
    return refused_tokenizer(vocab.string(), "", "a JSON object of tokens and ids",
                             ids.is_discarded() ? "text that is no JSON" : brief(ids));
  });
  return of_definition(bpe_of_lists(vocab.string(), ids, merges.string(), text,
                                    given_or(splitter, Splitter::gpt2, vocab.string())));
}

// The file's neighbour of one of these names; the first one when there is none.
fs::path beside(const fs::path& file, std::initializer_list<const char*> names) {
  const fs::path folder = file.parent_path();
  for (const char* name : names)
    if (present(folder / name)) return folder / name;
  return folder / *names.begin();
}

TokenizerPtr of_json(const std::string& path, const std::string& text, std::string_view splitter) {
  const json file = json::parse(text, nullptr, false);
  require(file.is_object(), [&] {
    return refused_tokenizer(path, "", kinds_of_file,
                             file.is_discarded() ? "text that is no JSON" : brief(file));
  });
  if (!file.empty() && file.begin()->is_number() && !file.contains("model")) {
    const fs::path merges = beside(path, {"merges.txt", "vocab.bpe"});
    return of_lists(path, merges, splitter);
  }
  require(splitter.empty(), [&] {
    return Error(Exit::usage, {.what = "a tokenizer.json says itself how text is split",
                               .where = "--pattern",
                               .expected = "no --pattern",
                               .found = std::string(splitter),
                               .tries = {}});
  });
  return of_tokenizer_json(path, file);
}

}  // namespace

TokenizerPtr load_tokenizer(const std::string& path, std::string_view splitter) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    const fs::path folder = path;
    if (present(folder / "tokenizer.json"))
      return load_tokenizer((folder / "tokenizer.json").string(), splitter);
    const fs::path merges = beside(folder / "x", {"merges.txt", "vocab.bpe"});
    require(present(merges), [&] {
      return refused_tokenizer(path, "", "tokenizer.json, or vocab.json with merges.txt",
                               "a folder with neither");
    });
    return of_lists(beside(merges, {"vocab.json", "encoder.json"}), merges, splitter);
  }
  const std::string text = read_file(path, most_bytes);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && (text[first] == '{' || text[first] == '['))
    return of_json(path, text, splitter);
  if (text.starts_with("#version") || fs::path(path).filename() == "merges.txt")
    return of_lists(beside(path, {"vocab.json", "encoder.json"}), path, splitter);
  const std::string_view line = std::string_view(text).substr(0, text.find('\n'));
  require(line.find(' ') != std::string_view::npos,
          [&] { return refused_tokenizer(path, "", kinds_of_file, "none of them"); });
  return of_definition(bpe_of_ranks(path, text, given_or(splitter, std::nullopt, path)));
}

}  // namespace sluice
