// GPT-2's tokenizer: its splitter, then byte-pair merges inside each piece. Ids 0..255 are the
// bytes in the order of their symbols, 256 + i is what the i-th line of vocab.bpe makes, 50256 is
// end of text.
#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "core/hash.h"
#include "data/bpe.h"
#include "data/tokenizer.h"
#include "data/tokenizer_json.h"
#include "data/unicode.h"

namespace sluice {
namespace {

constexpr int merge_count = 50000;
constexpr std::string_view published_hash =
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5";

// Pieces already met in a text and where in the output their ids stand. Direct-mapped, so bounded;
// it lives for one call of encode(), so threads share nothing.
class PieceCache {
 public:
  explicit PieceCache(std::size_t text_bytes) : slots_(text_bytes < 2048 ? 0 : 4096) {}

  // Copies the ids and says true, or says false.
  bool copy(std::string_view piece, std::vector<std::int32_t>& out) {
    if (slots_.empty() || piece.size() > longest) return false;
    slot_ = &slots_[hash64(piece) % slots_.size()];
    if (slot_->piece != piece) return false;
    const std::size_t before = out.size();
    out.resize(before + slot_->count);
    std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(slot_->first), slot_->count,
                out.begin() + static_cast<std::ptrdiff_t>(before));
    return true;
  }
  // Remembers the piece that copy() has just missed; its ids are out[first..].
  void keep(std::string_view piece, std::size_t first, std::size_t count) {
    if (slots_.empty() || piece.size() > longest) return;
    *slot_ = {piece, first, count};
  }

 private:
  static constexpr std::size_t longest = 256;
  struct Slot {
    std::string_view piece;
    std::size_t first = 0, count = 0;
  };
  std::vector<Slot> slots_;
  Slot* slot_ = nullptr;
};

class Gpt2Tokenizer final : public Tokenizer {
 public:
  explicit Gpt2Tokenizer(std::string_view vocab_bpe);

  std::string_view kind() const override { return "gpt2"; }
  int vocab_size() const override { return 256 + merge_count + 1; }
  int end_of_text() const override { return 256 + merge_count; }
  void encode(std::string_view text, std::vector<std::int32_t>& out) const override;
  std::size_t safe_cut(std::string_view text, std::size_t at) const override;
  std::string_view bytes_of(std::int32_t id) const override {
    return id < 0 || id >= end_of_text() ? std::string_view() : tokens_[static_cast<unsigned>(id)];
  }
  std::string hash() const override { return std::string(published_hash); }
  std::string tokenizer_json() const override;

 private:
  std::string symbols_of(std::int32_t id) const;  // its bytes' stand-ins, as in vocab.bpe

  std::vector<std::string> tokens_;  // the bytes of each id
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs_;
  BpeMerges merges_;
};

Gpt2Tokenizer::Gpt2Tokenizer(std::string_view vocab_bpe) : merges_(merge_count) {
  std::unordered_map<std::string, std::int32_t> ids;  // by symbols
  std::vector<std::string> symbols;                   // by id
  std::vector<unsigned char> bytes(256);
  for (unsigned b = 0; b < 256; ++b) bytes[b] = static_cast<unsigned char>(b);
  std::sort(bytes.begin(), bytes.end(),
            [](auto a, auto b) { return byte_symbol(a) < byte_symbol(b); });
  for (const unsigned char byte : bytes) {
    const auto id = static_cast<std::int32_t>(tokens_.size());
    std::string symbol;
    append_utf8(byte_symbol(byte), symbol);
    ids.emplace(symbol, id);
    merges_.set_byte(byte, id);
    tokens_.emplace_back(1, static_cast<char>(byte));
    symbols.push_back(std::move(symbol));
  }
  // The hash of the text was checked: every line is "left right", both made by earlier lines.
  std::size_t at = vocab_bpe.find('\n') + 1;
  for (int line = 0; line < merge_count; ++line) {
    const std::size_t space = vocab_bpe.find(' ', at);
    const std::size_t end = vocab_bpe.find('\n', space);
    const std::int32_t left = ids.at(std::string(vocab_bpe.substr(at, space - at)));
    const std::int32_t right = ids.at(std::string(vocab_bpe.substr(space + 1, end - space - 1)));
    const auto id = static_cast<std::int32_t>(tokens_.size());
    merges_.add(left, right, id);
    pairs_.emplace_back(left, right);
    const auto l = static_cast<unsigned>(left), r = static_cast<unsigned>(right);
    tokens_.push_back(tokens_[l] + tokens_[r]);
    symbols.push_back(symbols[l] + symbols[r]);
    ids.emplace(symbols.back(), id);
    at = end + 1;
  }
}

void Gpt2Tokenizer::encode(std::string_view text, std::vector<std::int32_t>& out) const {
  PieceCache cache(text.size());
  BpeMerges::Scratch scratch;
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, gpt2_piece(text));
    text.remove_prefix(piece.size());
    if (cache.copy(piece, out)) continue;
    require(piece.size() < (std::size_t{1} << 31), [&] {
      return Error(Exit::input, {.what = "a word of the text is too long",
                                 .where = "",
                                 .expected = "white space somewhere in every 2 GiB",
                                 .found = fmt::format("{} bytes without any", piece.size()),
                                 .tries = {}});
    });
    const std::size_t first = out.size();
    merges_.encode(piece, out, scratch);
    cache.keep(piece, first, out.size() - first);
  }
}

// No piece holds a non-space followed by white space, and no piece looks behind itself.
std::size_t Gpt2Tokenizer::safe_cut(std::string_view text, std::size_t at) const {
  for (std::size_t i = std::max<std::size_t>(at, 1); i < text.size(); ++i) {
    const char here = text[i], before = text[i - 1];
    if ((here == ' ' || here == '\n') && before > ' ' && before < 0x7F) return i;
  }
  return text.size();
}

std::string Gpt2Tokenizer::symbols_of(std::int32_t id) const {
  std::string out;
  for (const char c : bytes_of(id)) append_utf8(byte_symbol(static_cast<unsigned char>(c)), out);
  return out;
}

std::string Gpt2Tokenizer::tokenizer_json() const {
  std::vector<std::string> names;
  for (std::int32_t id = 0; id < end_of_text(); ++id) names.push_back(symbols_of(id));
  std::string merges = "[";
  for (const auto& [left, right] : pairs_) {
    merges += fmt::format("{}[{},{}]", merges.size() == 1 ? "" : ",",
                          json_string(names[static_cast<unsigned>(left)]),
                          json_string(names[static_cast<unsigned>(right)]));
  }
  names.emplace_back(end_of_text_name);
  return byte_level_json(names, merges + "]", true, end_of_text());
}

}  // namespace

TokenizerPtr make_gpt2_tokenizer(std::span<const char> vocab_bpe) {
  const std::string hash = sha256_hex(vocab_bpe.data(), vocab_bpe.size());
  require(hash == published_hash, [&] {
    return Error(Exit::input, {.what = "these are not GPT-2's merges",
                               .where = "vocab.bpe",
                               .expected = fmt::format("SHA-256 {}", published_hash),
                               .found = fmt::format("SHA-256 {}, {} bytes", hash, vocab_bpe.size()),
                               .tries = {}});
  });
  return std::make_unique<Gpt2Tokenizer>(std::string_view(vocab_bpe.data(), vocab_bpe.size()));
}

}  // namespace sluice
