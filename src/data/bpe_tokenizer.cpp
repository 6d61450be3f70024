#include "data/bpe_tokenizer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <tuple>

#include "core/error.h"
#include "core/hash.h"
#include "data/bpe.h"
#include "data/encode_each.h"
#include "data/unicode.h"

namespace sluice {
namespace {

// The pieces that are one token: most of what a text is made of. Immutable.
class WholePieces {
 public:
  explicit WholePieces(std::size_t tokens) : slots_(std::bit_ceil(2 * tokens + 2)) {}

  void add(std::uint64_t hash, std::int32_t id) {
    std::size_t at = hash & mask();
    while (slots_[at].id >= 0) at = (at + 1) & mask();
    slots_[at] = {static_cast<std::uint32_t>(hash >> 32), id};
  }
  // The id whose bytes are `piece`, or -1.
  template <class BytesOf>
  std::int32_t find(std::uint64_t hash, std::string_view piece, BytesOf bytes_of) const {
    for (std::size_t at = hash & mask(); slots_[at].id >= 0; at = (at + 1) & mask())
      if (slots_[at].tag == hash >> 32 && bytes_of(slots_[at].id) == piece) return slots_[at].id;
    return -1;
  }

 private:
  struct Slot {
    std::uint32_t tag = 0;
    std::int32_t id = -1;
  };
  std::size_t mask() const { return slots_.size() - 1; }
  std::vector<Slot> slots_;
};

// Pieces already met in a text and where in the output their ids stand. Direct-mapped, so bounded;
// it lives for one call of encode(), so threads share nothing.
class PieceCache {
 public:
  explicit PieceCache(std::size_t text_bytes)
      : slots_(text_bytes < 2048 ? 0 : std::clamp(std::bit_ceil(text_bytes / 64), least, most)) {}

  // Copies the ids and says true, or says false.
  bool copy(std::uint64_t hash, std::string_view piece, std::vector<std::int32_t>& out) {
    if (slots_.empty() || piece.size() > longest) return false;
    const Slot& slot = slots_[hash & (slots_.size() - 1)];
    if (slot.piece != piece) return false;
    for (std::size_t i = slot.first; i < slot.first + slot.count; ++i) out.push_back(out[i]);
    return true;
  }
  // Remembers a piece whose ids are out[first..].
  void keep(std::uint64_t hash, std::string_view piece, std::size_t first, std::size_t count) {
    if (slots_.empty() || piece.size() > longest) return;
    slots_[hash & (slots_.size() - 1)] = {piece, first, static_cast<std::uint32_t>(count)};
  }

 private:
  static constexpr std::size_t longest = 256, least = 64, most = 16384;
  struct Slot {
    std::string_view piece;
    std::size_t first = 0;
    std::uint32_t count = 0;
  };
  std::vector<Slot> slots_;
};

// The added tokens that are looked for in a text, of one kind.
class Finder {
 public:
  void add(const AddedToken& token) {
    if (token.special || token.text.empty()) return;
    std::vector<AddedToken>& same = by_byte_[static_cast<unsigned char>(token.text[0])];
    const auto longer = [](const AddedToken& a, const AddedToken& b) {
      return a.text.size() > b.text.size();
    };
    same.insert(std::upper_bound(same.begin(), same.end(), token, longer), token);
    empty_ = false;
  }
  bool empty() const { return empty_; }
  // The longest token at text[at], or null.
  const AddedToken* at(std::string_view text, std::size_t at) const {
    for (const AddedToken& token : by_byte_[static_cast<unsigned char>(text[at])])
      if (text.substr(at).starts_with(token.text)) return &token;
    return nullptr;
  }
  // Whether a token could lie across text[at]; one that the end of `text` cuts off counts.
  bool covers(std::string_view text, std::size_t at) const {
    for (const std::vector<AddedToken>& same : by_byte_)
      for (const AddedToken& token : same)
        for (std::size_t before = 1; before < std::min(token.text.size(), at + 1); ++before)
          if (std::string_view(token.text).starts_with(text.substr(at - before, token.text.size())))
            return true;
    return false;
  }

 private:
  std::array<std::vector<AddedToken>, 256> by_byte_;
  bool empty_ = true;
};

class BpeTokenizer final : public Tokenizer, public EncodesEach {
 public:
  explicit BpeTokenizer(BpeDefinition definition);

  std::string_view kind() const override { return definition_.kind; }
  int vocab_size() const override { return static_cast<int>(starts_.size()) - 1; }
  int end_of_text() const override { return definition_.end_of_text; }
  void encode(std::string_view text, std::vector<std::int32_t>& out) const override;
  void encode_each(std::span<const std::string_view> texts, std::vector<std::int32_t>& out,
                   std::vector<std::size_t>& ends) const override;
  std::size_t safe_cut(std::string_view text, std::size_t at) const override;
  std::string_view bytes_of(std::int32_t id) const override {
    if (id < 0 || id >= vocab_size()) return {};
    const auto at = static_cast<std::size_t>(id);
    return std::string_view(bytes_).substr(starts_[at], starts_[at + 1] - starts_[at]);
  }
  std::string hash() const override { return definition_.hash; }
  std::string tokenizer_json() const override;

 private:
  struct Work {
    PieceCache cache;
    BpeMerges::Scratch scratch;
  };
  void encode_added(std::string_view text, std::size_t finder, Work& work,
                    std::vector<std::int32_t>& out) const;
  void encode_pieces(std::string_view text, Work& work, std::vector<std::int32_t>& out) const;
  void find_whole_pieces();

  BpeDefinition definition_;  // its tokens have moved to bytes_
  std::string bytes_;         // of all ids, one after the other
  std::vector<std::size_t> starts_;
  std::vector<bool> in_model_;  // ids that are tokens of the merges' vocabulary
  BpeMerges merges_;
  WholePieces whole_;
  std::array<Finder, 2> finders_;  // as they are; after normalization (of which there is none)
};

BpeTokenizer::BpeTokenizer(BpeDefinition definition)
    : definition_(std::move(definition)),
      merges_(definition_.pairs.size()),
      whole_(definition_.tokens.size()) {
  std::vector<std::string>& tokens = definition_.tokens;
  for (const std::string& token : tokens) in_model_.push_back(!token.empty());
  for (const AddedToken& added : definition_.added) {
    const auto id = static_cast<std::size_t>(added.id);
    if (id >= tokens.size()) tokens.resize(id + 1);
    tokens[id] = added.special ? "" : added.text;
    finders_[added.normalized ? 1 : 0].add(added);
  }
  in_model_.resize(tokens.size());
  starts_.push_back(0);
  for (const std::string& token : tokens) {
    bytes_ += token;
    starts_.push_back(bytes_.size());
  }
  for (std::size_t id = 0; id < tokens.size(); ++id)
    if (in_model_[id] && tokens[id].size() == 1 &&
        !definition_.literal.contains(static_cast<std::int32_t>(id)))
      merges_.set_byte(static_cast<unsigned char>(tokens[id][0]), static_cast<std::int32_t>(id));
  for (const BpeDefinition::Pair& pair : definition_.pairs)
    merges_.add(pair.left, pair.right, {pair.rank, pair.merged});
  tokens = {};
  find_whole_pieces();
  if (definition_.hash.empty()) {
    const std::string text = tokenizer_json();
    definition_.hash = sha256_hex(text.data(), text.size());
  }
}

void BpeTokenizer::find_whole_pieces() {
  BpeMerges::Scratch scratch;
  std::vector<std::int32_t> ids;
  for (std::int32_t id = 0; id < vocab_size(); ++id) {
    const std::string_view bytes = bytes_of(id);
    if (bytes.empty() || !in_model_[static_cast<std::size_t>(id)]) continue;
    if (definition_.literal.contains(id)) continue;
    if (!definition_.whole_pieces) {
      ids.clear();
      merges_.encode(bytes, ids, scratch);
      if (ids.size() != 1 || ids[0] != id) continue;
    }
    whole_.add(hash64(bytes), id);
  }
}

void BpeTokenizer::encode(std::string_view text, std::vector<std::int32_t>& out) const {
  Work work = {PieceCache(text.size()), {}};
  encode_added(text, 0, work, out);
}

void BpeTokenizer::encode_each(std::span<const std::string_view> texts,
                               std::vector<std::int32_t>& out,
                               std::vector<std::size_t>& ends) const {
  std::size_t bytes = 0;
  for (const std::string_view text : texts) bytes += text.size();
  Work work = {PieceCache(bytes), {}};
  for (const std::string_view text : texts) {
    encode_added(text, 0, work, out);
    ends.push_back(out.size());
  }
}

// Cuts the added tokens of one finder out; what lies between goes to the next one, in the end to
// the splitter.
void BpeTokenizer::encode_added(std::string_view text, std::size_t finder, Work& work,
                                std::vector<std::int32_t>& out) const {
  if (finder == finders_.size()) return encode_pieces(text, work, out);
  std::size_t begin = 0;
  for (std::size_t at = 0; !finders_[finder].empty() && at < text.size();) {
    const AddedToken* token = finders_[finder].at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    encode_added(text.substr(begin, at - begin), finder + 1, work, out);
    out.push_back(token->id);
    begin = at += token->text.size();
  }
  encode_added(text.substr(begin), finder + 1, work, out);
}

void BpeTokenizer::encode_pieces(std::string_view text, Work& work,
                                 std::vector<std::int32_t>& out) const {
  const auto bytes = [this](std::int32_t id) { return bytes_of(id); };
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, first_piece(definition_.splitter, text));
    text.remove_prefix(piece.size());
    const std::uint64_t hash = hash64(piece);
    if (const std::int32_t id = whole_.find(hash, piece, bytes); id >= 0) {
      out.push_back(id);
      continue;
    }
    if (work.cache.copy(hash, piece, out)) continue;
    require(piece.size() < (std::size_t{1} << 31), [&] {
      return Error(Exit::input, {.what = "a word of the text is too long",
                                 .where = "",
                                 .expected = "white space somewhere in every 2 GiB",
                                 .found = fmt::format("{} bytes without any", piece.size()),
                                 .tries = {}});
    });
    const std::size_t first = out.size();
    merges_.encode(piece, out, work.scratch);
    work.cache.keep(hash, piece, first, out.size() - first);
  }
}

std::size_t BpeTokenizer::safe_cut(std::string_view text, std::size_t at) const {
  if (definition_.splitter == Splitter::none) return text.size();
  for (std::size_t i = std::max<std::size_t>(at, 1); i < text.size(); ++i) {
    if (!is_safe_cut(text, i)) continue;
    if (finders_[0].covers(text, i) || finders_[1].covers(text, i)) continue;
    return i;
  }
  return text.size();
}

std::string BpeTokenizer::tokenizer_json() const {
  std::vector<std::string> names(starts_.size() - 1);
  for (std::size_t id = 0; id < names.size(); ++id)
    if (in_model_[id]) names[id] = symbols_of(bytes_of(static_cast<std::int32_t>(id)));
  for (const auto& [id, name] : definition_.literal) names[static_cast<std::size_t>(id)] = name;
  // The bytes of a special token that the vocabulary holds too are not kept: its text is its name.
  for (const AddedToken& token : definition_.added)
    if (in_model_[static_cast<std::size_t>(token.id)])
      names[static_cast<std::size_t>(token.id)] = token.text;
  std::vector<BpeDefinition::Pair> pairs = definition_.pairs;
  const auto by_rank = [](const auto& a, const auto& b) {
    return std::tie(a.rank, a.left, a.right) < std::tie(b.rank, b.left, b.right);
  };
  std::sort(pairs.begin(), pairs.end(), by_rank);
  std::string merges = "[";
  for (const BpeDefinition::Pair& pair : pairs) {
    merges += fmt::format("{}[{},{}]", merges.size() == 1 ? "" : ",",
                          json_string(names[static_cast<std::size_t>(pair.left)]),
                          json_string(names[static_cast<std::size_t>(pair.right)]));
  }
  return byte_level_json({.splitter = definition_.splitter,
                          .tokens = names,
                          .merges = merges + "]",
                          .whole_pieces = definition_.whole_pieces,
                          .added = definition_.added});
}

}  // namespace

TokenizerPtr make_bpe_tokenizer(BpeDefinition definition) {
  return std::make_unique<BpeTokenizer>(std::move(definition));
}

std::vector<std::string> bytes_by_symbol() {
  std::vector<std::string> out(256);
  for (unsigned b = 0; b < 256; ++b) out[b] = static_cast<char>(b);
  std::sort(out.begin(), out.end(), [](const std::string& a, const std::string& b) {
    return byte_symbol(static_cast<unsigned char>(a[0])) <
           byte_symbol(static_cast<unsigned char>(b[0]));
  });
  return out;
}

}  // namespace sluice
