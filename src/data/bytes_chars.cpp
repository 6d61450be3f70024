// The two tokenizers without merges: one id per byte, one id per code point.
#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/hash.h"
#include "data/tokenizer.h"
#include "data/tokenizer_json.h"
#include "data/unicode.h"

namespace sluice {
namespace {

class BytesTokenizer final : public Tokenizer {
 public:
  BytesTokenizer() {
    for (std::size_t b = 0; b < bytes_.size(); ++b) bytes_[b] = static_cast<char>(b);
  }
  std::string_view kind() const override { return "bytes"; }
  int vocab_size() const override { return 257; }
  int end_of_text() const override { return 256; }
  void encode(std::string_view text, std::vector<std::int32_t>& out) const override {
    out.reserve(out.size() + text.size());
    for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  }
  std::size_t safe_cut(std::string_view text, std::size_t at) const override {
    return std::min(at, text.size());
  }
  std::string_view bytes_of(std::int32_t id) const override {
    if (id < 0 || id > 255) return {};
    return {&bytes_[static_cast<std::size_t>(id)], 1};
  }
  std::string hash() const override {
    constexpr std::string_view definition = "sluice bytes tokenizer: id = byte, 256 = end of text";
    return sha256_hex(definition.data(), definition.size());
  }
  std::string tokenizer_json() const override {
    std::vector<std::string> tokens(256);
    for (unsigned b = 0; b < 256; ++b) {
      append_utf8(byte_symbol(static_cast<unsigned char>(b)), tokens[b]);
    }
    tokens.emplace_back(end_of_text_name);
    return byte_level_json({.splitter = Splitter::none,
                            .tokens = tokens,
                            .merges = "[]",
                            .added = {end_of_text_token(end_of_text())}});
  }

 private:
  std::array<char, 256> bytes_;
};

class CharsTokenizer final : public Tokenizer {
 public:
  explicit CharsTokenizer(std::vector<char32_t> alphabet) : alphabet_(std::move(alphabet)) {
    for (const char32_t code : alphabet_) append_utf8(code, tokens_.emplace_back());
    ascii_.fill(-1);
    for (std::size_t id = 0; id < alphabet_.size() && alphabet_[id] < 128; ++id) {
      ascii_[alphabet_[id]] = static_cast<std::int32_t>(id);
    }
  }
  std::string_view kind() const override { return "chars"; }
  int vocab_size() const override { return end_of_text() + 1; }
  int end_of_text() const override { return static_cast<int>(alphabet_.size()); }
  void encode(std::string_view text, std::vector<std::int32_t>& out) const override {
    for (std::size_t at = 0; at < text.size();) {
      const Utf8Char c = first_char(text.substr(at));
      require(c.valid, [&] { return not_utf8(fmt::format("byte {} of the text", at), c.code); });
      const std::int32_t id = find(c.code);
      require(id >= 0, [&] { return unknown(at, c.code); });
      out.push_back(id);
      at += static_cast<std::size_t>(c.bytes);
    }
  }
  std::size_t safe_cut(std::string_view text, std::size_t at) const override {
    const std::size_t start = char_boundary(text, at);
    if (start >= at || start == text.size()) return start;
    return start + static_cast<std::size_t>(first_char(text.substr(start)).bytes);
  }
  std::string_view bytes_of(std::int32_t id) const override {
    if (id < 0 || id >= end_of_text()) return {};
    return tokens_[static_cast<std::size_t>(id)];
  }
  std::string hash() const override {
    std::string definition = "sluice chars tokenizer:";
    for (const std::string& token : tokens_) definition += token;
    return sha256_hex(definition.data(), definition.size());
  }
  // The unknown token is in no vocabulary: the library then refuses unknown characters, as we do.
  std::string tokenizer_json() const override {
    std::vector<std::string> tokens = tokens_;
    tokens.emplace_back(end_of_text_name);
    return text_of(
        {.pre_tokenizer = R"({"type":"Split","pattern":{"Regex":"[\\s\\S]"},)"
                          R"("behavior":"Isolated","invert":false})",
         .post_processor = "null",
         .decoder = R"({"type":"Fuse"})",
         .model = fmt::format(R"({{"type":"WordLevel","vocab":{},"unk_token":"<unknown>"}})",
                              vocabulary_json(tokens)),
         .added = {end_of_text_token(end_of_text())}});
  }

 private:
  std::int32_t find(char32_t code) const {
    if (code < 128) return ascii_[code];
    const auto at = std::lower_bound(alphabet_.begin(), alphabet_.end(), code);
    if (at == alphabet_.end() || *at != code) return -1;
    return static_cast<std::int32_t>(at - alphabet_.begin());
  }
  Error unknown(std::size_t at, char32_t code) const {
    return Error(
        Exit::input,
        {.what = "the text has a character that the chars tokenizer does not know",
         .where = fmt::format("byte {} of the text", at),
         .expected = fmt::format("one of the {} characters it was made from", end_of_text()),
         .found = fmt::format("U+{:04X}", static_cast<std::uint32_t>(code)),
         .tries = {}});
  }

  std::vector<char32_t> alphabet_;   // ascending
  std::vector<std::string> tokens_;  // the UTF-8 of each id
  std::array<std::int32_t, 128> ascii_;
};

}  // namespace

TokenizerPtr make_bytes_tokenizer() { return std::make_unique<BytesTokenizer>(); }

TokenizerPtr make_chars_tokenizer(std::vector<char32_t> alphabet) {
  std::sort(alphabet.begin(), alphabet.end());
  alphabet.erase(std::unique(alphabet.begin(), alphabet.end()), alphabet.end());
  require(!alphabet.empty(), [] {
    return Error(Exit::input, {.what = "the chars tokenizer needs at least one character",
                               .where = "",
                               .expected = "a text that is not empty",
                               .found = "an empty alphabet",
                               .tries = {}});
  });
  const bool scalars = alphabet.back() <= 0x10FFFF &&
                       std::none_of(alphabet.begin(), alphabet.end(),
                                    [](char32_t code) { return code >= 0xD800 && code <= 0xDFFF; });
  require(scalars, [] { return Error("an alphabet holds a value that is no code point"); });
  return std::make_unique<CharsTokenizer>(std::move(alphabet));
}

}  // namespace sluice
