#include "data/tokenizer_json.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>

#include "data/unicode.h"

namespace sluice {
namespace {

// Symbols by byte.
constexpr std::array<char32_t, 256> byte_symbols = [] {
  std::array<char32_t, 256> out = {};
  char32_t next = 0x100;
  for (unsigned b = 0; b < 256; ++b) {
    const bool itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    out[b] = itself ? b : next++;
  }
  return out;
}();

// Bytes by symbol; -1: none.
constexpr std::array<int, 0x144> symbol_bytes = [] {
  std::array<int, 0x144> out = {};
  for (int& byte : out) byte = -1;
  for (unsigned b = 0; b < 256; ++b) out[byte_symbols[b]] = static_cast<int>(b);
  return out;
}();

std::string byte_level(bool split) {
  return fmt::format(
      "{{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
      "\"use_regex\":{}}}",
      split);
}

std::string pre_tokenizer_json(Splitter splitter) {
  if (splitter == Splitter::none || splitter == Splitter::gpt2)
    return byte_level(splitter == Splitter::gpt2);
  return fmt::format(
      "{{\"type\":\"Sequence\",\"pretokenizers\":[{{\"type\":\"Split\",\"pattern\":{{\"Regex\":{}}}"
      ","
      "\"behavior\":\"Isolated\",\"invert\":false}},{}]}}",
      json_string(pattern_of(splitter)), byte_level(false));
}

}  // namespace

AddedToken end_of_text_token(std::int32_t id) {
  return {.id = id, .text = std::string(end_of_text_name), .special = true, .normalized = false};
}

std::string json_string(std::string_view text) { return nlohmann::json(text).dump(); }

char32_t byte_symbol(unsigned char byte) { return byte_symbols[byte]; }

std::string symbols_of(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) append_utf8(byte_symbol(static_cast<unsigned char>(c)), out);
  return out;
}

std::optional<std::string> bytes_of_symbols(std::string_view symbols) {
  std::string out;
  while (!symbols.empty()) {
    const Utf8Char c = first_char(symbols);
    if (!c.valid || c.code >= symbol_bytes.size() || symbol_bytes[c.code] < 0) return std::nullopt;
    out += static_cast<char>(symbol_bytes[c.code]);
    symbols.remove_prefix(static_cast<std::size_t>(c.bytes));
  }
  return out;
}

std::string text_of(const TokenizerJson& parts) {
  std::string added;
  for (const AddedToken& token : parts.added)
    added += fmt::format(
        "{}{{\"id\":{},\"content\":{},\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
        "\"normalized\":{},\"special\":{}}}",
        added.empty() ? "" : ",", token.id, json_string(token.text), token.normalized,
        token.special);
  return fmt::format(
      "{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{}],"
      "\"normalizer\":null,\"pre_tokenizer\":{},\"post_processor\":{},\"decoder\":{},"
      "\"model\":{}}}\n",
      added, parts.pre_tokenizer, parts.post_processor, parts.decoder, parts.model);
}

std::string vocabulary_json(const std::vector<std::string>& tokens) {
  std::string out = "{";
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].empty()) continue;
    out += fmt::format("{}{}:{}", out.size() == 1 ? "" : ",", json_string(tokens[id]), id);
  }
  return out + "}";
}

std::string byte_level_json(const ByteLevelJson& parts) {
  const std::string processor = byte_level(parts.splitter == Splitter::gpt2);
  return text_of(
      {.pre_tokenizer = pre_tokenizer_json(parts.splitter),
       .post_processor = processor,
       .decoder = processor,
       .model = fmt::format(
           "{{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
           "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",\"fuse_unk\":false,"
           "\"byte_fallback\":false,\"ignore_merges\":{},\"vocab\":{},\"merges\":{}}}",
           parts.whole_pieces, vocabulary_json(parts.tokens), parts.merges),
       .added = parts.added});
}

}  // namespace sluice
