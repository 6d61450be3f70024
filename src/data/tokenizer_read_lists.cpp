// The two older forms: vocab.json with merges.txt, and tiktoken's lines of base64 and rank.
#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "data/tokenizer_read.h"

namespace sluice {

using nlohmann::json;

namespace {

// Takes the first line off `text`, without its end.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

std::string shown(std::string_view line) {
  constexpr std::size_t longest = 40;
  std::string out;
  for (const char c : line.substr(0, longest)) out += c >= ' ' && c < 0x7F ? c : '?';
  return line.empty() ? "an empty line" : line.size() > longest ? out + "…" : out;
}

constexpr std::array<int, 256> base64_values = [] {
  std::array<int, 256> out = {};
  for (int& value : out) value = -1;
  constexpr std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (std::size_t i = 0; i < digits.size(); ++i)
    out[static_cast<unsigned char>(digits[i])] = static_cast<int>(i);
  return out;
}();

std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  std::string out;
  unsigned bits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool pad = i >= text.size() - padding;
    const int value = pad ? 0 : base64_values[static_cast<unsigned char>(text[i])];
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<unsigned>(value);
    if (i % 4 != 3) continue;
    for (const int shift : {16, 8, 0}) out += static_cast<char>(bits >> shift & 0xFF);
    bits = 0;
  }
  out.resize(out.size() - padding);
  return out;
}

struct RankLine {
  std::string bytes;
  std::int64_t rank = 0;
};

std::optional<RankLine> parse_rank_line(std::string_view line) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  std::optional<std::string> bytes = from_base64(line.substr(0, space));
  std::int64_t rank = -1;
  const char* const end = line.data() + line.size();
  const auto [next, error] = std::from_chars(line.data() + space + 1, end, rank);
  if (!bytes || error != std::errc() || next != end || rank < 0) return std::nullopt;
  return RankLine{std::move(*bytes), rank};
}

// Any two tokens side by side merge when what they make is a token; the lowest rank first.
void add_all_splits(const std::unordered_map<std::string_view, std::int32_t>& ids,
                    const std::vector<std::string>& tokens, BpeDefinition& out) {
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token = tokens[id];
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(token.substr(cut));
      if (right == ids.end()) continue;
      const auto rank = static_cast<std::int32_t>(id);
      out.pairs.push_back(
          {.left = left->second, .right = right->second, .rank = rank, .merged = rank});
    }
  }
}

// Where the published vocabularies have their end of text: the one rank that is left out, or the
// place behind the ranks that their makers chose; "" and -1 for others.
AddedToken published_end_of_text(const std::vector<std::string>& tokens, Splitter splitter) {
  const auto holes = std::count(tokens.begin(), tokens.end(), "");
  if (holes == 1) {
    const auto hole = std::find(tokens.begin(), tokens.end(), "") - tokens.begin();
    return end_of_text_token(static_cast<std::int32_t>(hole));
  }
  if (holes == 0 && splitter == Splitter::cl100k && tokens.size() == 100256)
    return end_of_text_token(100257);
  if (holes == 0 && splitter == Splitter::llama3 && tokens.size() == 128000)
    return {.id = 128001, .text = "<|end_of_text|>"};
  return {.id = -1, .text = ""};
}

}  // namespace

BpeDefinition bpe_of_lists(const std::string& vocab_path, const json& vocab,
                           const std::string& merges_path, std::string_view merges,
                           Splitter splitter) {
  BpeReader reader(vocab_path, vocab.size());
  reader.definition().splitter = splitter;
  for (const auto& [name, id] : vocab.items()) {
    require(id.is_number_integer() && id >= 0 && id < reader.id_limit(), [&] {
      return refused_tokenizer(vocab_path, json_string(name),
                               "ids from 0, with fewer holes than tokens", brief(id));
    });
    reader.add_named("", name, id.get<std::int64_t>());
  }
  reader.require_all_bytes("");
  for (std::size_t line_number = 1; !merges.empty(); ++line_number) {
    const std::string_view line = take_line(merges);
    if (line.starts_with("#version") || line.empty()) continue;
    const std::size_t space = line.find(' ');
    const std::string part = fmt::format("{} line {}", merges_path, line_number);
    require(space != std::string_view::npos && line.find(' ', space + 1) == line.npos, [&] {
      return refused_tokenizer(merges_path, fmt::format("line {}", line_number), "LEFT RIGHT",
                               shown(line));
    });
    reader.add_merge("with " + part, std::string(line.substr(0, space)),
                     std::string(line.substr(space + 1)));
  }
  const auto end = vocab.find(std::string(end_of_text_name));
  if (end != vocab.end()) reader.add_added("", end_of_text_token(end->get<std::int32_t>()));
  return reader.finish();
}

BpeDefinition bpe_of_ranks(const std::string& path, std::string_view text, Splitter splitter) {
  constexpr std::size_t longest_token = 1024;
  const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  BpeReader reader(path, lines);
  for (std::size_t line_number = 1; !text.empty(); ++line_number) {
    const std::string_view line = take_line(text);
    if (line.empty() && text.empty()) break;
    const std::string part = fmt::format("line {}", line_number);
    std::optional<RankLine> read = parse_rank_line(line);
    require(read.has_value(), [&] {
      return refused_tokenizer(path, part, "a token in base64, a space and its rank", shown(line));
    });
    require(read->bytes.size() <= longest_token, [&] {
      return refused_tokenizer(path, part, fmt::format("at most {} bytes", longest_token),
                               fmt::format("a token of {}", read->bytes.size()));
    });
    reader.add_bytes(part, std::move(read->bytes), read->rank);
  }
  reader.require_all_bytes("");
  BpeDefinition& out = reader.definition();
  std::unordered_map<std::string_view, std::int32_t> ids;
  for (std::size_t id = 0; id < out.tokens.size(); ++id)
    if (!out.tokens[id].empty()) ids.emplace(out.tokens[id], static_cast<std::int32_t>(id));
  const std::size_t tokens = static_cast<std::size_t>(std::count_if(
      out.tokens.begin(), out.tokens.end(), [](const auto& t) { return !t.empty(); }));
  require(ids.size() == tokens,
          [&] { return refused_tokenizer(path, "", "each token once", "a token with two ranks"); });
  out.splitter = splitter;
  out.whole_pieces = true;
  add_all_splits(ids, out.tokens, out);
  if (AddedToken end = published_end_of_text(out.tokens, splitter); end.id >= 0)
    reader.add_added("", std::move(end));
  return reader.finish();
}

}  // namespace sluice
