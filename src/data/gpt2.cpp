// GPT-2's tokenizer. Ids 0..255 are the bytes in the order of their symbols, 256 + i is what the
// i-th line of vocab.bpe makes, 50256 is end of text.
#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "core/hash.h"
#include "data/bpe_tokenizer.h"

namespace sluice {
namespace {

constexpr std::int32_t merge_count = 50000;
constexpr std::string_view heading = "#version: 0.2\n";
constexpr std::string_view published_hash =
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5";

// The hash of the text was checked: every line is "left right", both made by earlier lines.
BpeDefinition read_merges(std::string_view vocab_bpe) {
  BpeDefinition out;
  out.kind = "gpt2";
  out.hash = published_hash;
  out.splitter = Splitter::gpt2;
  out.tokens = bytes_by_symbol();
  std::unordered_map<std::string, std::int32_t> ids;  // by symbols
  for (std::int32_t id = 0; id < 256; ++id)
    ids.emplace(symbols_of(out.tokens[static_cast<std::size_t>(id)]), id);
  std::size_t at = heading.size();
  for (std::int32_t rank = 0; rank < merge_count; ++rank) {
    const std::size_t space = vocab_bpe.find(' ', at);
    const std::size_t end = vocab_bpe.find('\n', space);
    std::string left(vocab_bpe.substr(at, space - at));
    const std::string right(vocab_bpe.substr(space + 1, end - space - 1));
    const std::int32_t l = ids.at(left), r = ids.at(right), id = 256 + rank;
    out.pairs.push_back({.left = l, .right = r, .rank = rank, .merged = id});
    out.tokens.push_back(out.tokens[static_cast<std::size_t>(l)] +
                         out.tokens[static_cast<std::size_t>(r)]);
    ids.emplace(left += right, id);
    at = end + 1;
  }
  out.tokens.emplace_back(end_of_text_name);
  out.end_of_text = 256 + merge_count;
  out.added.push_back(end_of_text_token(out.end_of_text));
  return out;
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
  return make_bpe_tokenizer(read_merges({vocab_bpe.data(), vocab_bpe.size()}));
}

std::string gpt2_merges_of(const BpeDefinition& d) {
  const std::vector<std::string> bytes = bytes_by_symbol();
  const bool alike = d.tokens.size() >= 256 && d.splitter == Splitter::gpt2 && !d.whole_pieces &&
                     d.pairs.size() == merge_count && d.end_of_text == 256 + merge_count &&
                     d.added.size() == 1 && d.added[0].text == end_of_text_name &&
                     d.literal.empty() && d.tokens.size() <= 256 + merge_count + 1 &&
                     std::equal(bytes.begin(), bytes.end(), d.tokens.begin());
  if (!alike) return "";
  std::string out(heading);
  for (std::int32_t rank = 0; rank < merge_count; ++rank) {
    const BpeDefinition::Pair& pair = d.pairs[static_cast<std::size_t>(rank)];
    if (pair.rank != rank || pair.merged != 256 + rank) return "";
    out += symbols_of(d.tokens[static_cast<std::size_t>(pair.left)]) + ' ' +
           symbols_of(d.tokens[static_cast<std::size_t>(pair.right)]) + '\n';
  }
  return sha256_hex(out.data(), out.size()) == published_hash ? out : "";
}

}  // namespace sluice
