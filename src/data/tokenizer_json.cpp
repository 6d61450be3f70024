#include "data/tokenizer_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "data/tokenizer.h"
#include "data/unicode.h"

namespace sluice {

using nlohmann::json;

std::string json_string(std::string_view text) { return json(text).dump(); }

char32_t byte_symbol(unsigned char byte) {
  const auto itself = [](unsigned b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
  };
  if (itself(byte)) return byte;
  char32_t symbol = 0x100;
  for (unsigned b = 0; b < byte; ++b) symbol += itself(b) ? 0 : 1;
  return symbol;
}

std::string text_of(const TokenizerJson& parts) {
  return fmt::format(
      "{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{{\"id\":{},"
      "\"content\":{},\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
      "\"special\":true}}],\"normalizer\":null,\"pre_tokenizer\":{},\"post_processor\":{},"
      "\"decoder\":{},\"model\":{}}}\n",
      parts.end_of_text, json_string(end_of_text_name), parts.pre_tokenizer, parts.post_processor,
      parts.decoder, parts.model);
}

std::string vocabulary_json(const std::vector<std::string>& tokens) {
  std::string out = "{";
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    out += fmt::format("{}{}:{}", id == 0 ? "" : ",", json_string(tokens[id]), id);
  }
  return out + "}";
}

std::string byte_level_json(const std::vector<std::string>& tokens, std::string_view merges,
                            bool split, int end_of_text) {
  const std::string byte_level = fmt::format(
      "{{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
      "\"use_regex\":{}}}",
      split);
  return text_of(
      {.pre_tokenizer = byte_level,
       .post_processor = byte_level,
       .decoder = byte_level,
       .model = fmt::format(
           "{{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
           "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",\"fuse_unk\":false,"
           "\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{},\"merges\":{}}}",
           vocabulary_json(tokens), merges),
       .end_of_text = end_of_text});
}

namespace {

Error refused(const std::string& path, const std::string& part, std::string found) {
  return Error(Exit::input,
               {.what = fmt::format("cannot use the tokenizer in {}", path),
                .where = part.empty() ? path : path + " " + part,
                .expected = "a tokenizer.json of `sluice prepare` (bytes, chars or gpt2)",
                .found = std::move(found),
                .tries = {}});
}

// The value at a JSON pointer when it has that type, else null.
const json* part_of(const json& file, const char* pointer, json::value_t type) {
  const json::json_pointer at(pointer);
  if (!file.contains(at) || file.at(at).type() != type) return nullptr;
  return &file.at(at);
}

TokenizerPtr chars_from(const std::string& path, const json& vocabulary) {
  std::vector<char32_t> alphabet;
  for (const auto& [token, id] : vocabulary.items()) {
    if (token == end_of_text_name) continue;
    const Utf8Char c = token.empty() ? Utf8Char{0, 0, false} : first_char(token);
    require(c.valid && static_cast<std::size_t>(c.bytes) == token.size(), [&] {
      return refused(path, "model.vocab", fmt::format("the token {}", json_string(token)));
    });
    alphabet.push_back(c.code);
  }
  require(!alphabet.empty(), [&] { return refused(path, "model.vocab", "no tokens"); });
  return make_chars_tokenizer(std::move(alphabet));
}

TokenizerPtr gpt2_from(const std::string& path, const json& merges) {
  std::string text = "#version: 0.2\n";
  for (const json& pair : merges) {
    require(pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string(),
            [&] { return refused(path, "model.merges", "a merge that is no pair of strings"); });
    text += fmt::format("{} {}\n", pair[0].get_ref<const std::string&>(),
                        pair[1].get_ref<const std::string&>());
  }
  try {
    return make_gpt2_tokenizer(text);
  } catch (const Error&) {
    throw refused(path, "model.merges", "merges that are not GPT-2's");
  }
}

// Every part of the file must be what `made` writes.
void require_same_parts(const std::string& path, const json& file, const Tokenizer& made) {
  const json ours = json::parse(made.tokenizer_json());
  const auto same = [&](const json& theirs, const json& expected, const std::string& prefix) {
    for (const auto& [key, value] : theirs.items()) {
      require(expected.contains(key),
              [&] { return refused(path, prefix + key, "an unknown part"); });
    }
    for (const auto& [key, value] : expected.items()) {
      require(theirs.contains(key), [&] { return refused(path, prefix + key, "nothing"); });
      if (prefix.empty() && key == "model") continue;
      require(theirs[key] == value, [&] {
        return refused(path, prefix + key,
                       fmt::format("not what the {} tokenizer has", made.kind()));
      });
    }
  };
  same(file, ours, "");
  same(file["model"], ours["model"], "model.");
}

}  // namespace

// The kind is guessed from the model's parts and made anew; then every part of the file must be
// what that tokenizer writes. So nothing in the file is trusted, and nothing is silently dropped.
TokenizerPtr load_tokenizer(const std::string& path) {
  const json file = json::parse(read_file(path, std::size_t{64} << 20), nullptr, false);
  require(file.is_object(), [&] { return refused(path, "", "text that is no JSON object"); });
  const json* type = part_of(file, "/model/type", json::value_t::string);
  const json* vocabulary = part_of(file, "/model/vocab", json::value_t::object);
  require(type != nullptr, [&] { return refused(path, "model.type", "nothing"); });
  require(vocabulary != nullptr, [&] { return refused(path, "model.vocab", "nothing"); });

  TokenizerPtr made;
  if (*type == "WordLevel") {
    made = chars_from(path, *vocabulary);
  } else if (*type == "BPE") {
    const json* merges = part_of(file, "/model/merges", json::value_t::array);
    require(merges != nullptr, [&] { return refused(path, "model.merges", "nothing"); });
    made = merges->empty() ? make_bytes_tokenizer() : gpt2_from(path, *merges);
  } else {
    throw refused(path, "model.type", type->dump());
  }

  require_same_parts(path, file, *made);
  return made;
}

}  // namespace sluice
