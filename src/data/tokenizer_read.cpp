#include "data/tokenizer_read.h"

#include <algorithm>
#include <array>
#include <set>

namespace sluice {

using nlohmann::json;

Error refused_tokenizer(const std::string& path, const std::string& part, std::string expected,
                        std::string found) {
  return Error(Exit::input, {.what = fmt::format("cannot use the tokenizer in {}", path),
                             .where = part.empty() ? path : path + " " + part,
                             .expected = std::move(expected),
                             .found = std::move(found),
                             .tries = {}});
}

// No list or object is printed, however deep: what is in it may be anything.
std::string brief(const json& value) {
  if (value.is_array()) return fmt::format("a list of {}", value.size());
  if (value.is_object()) {
    const auto type = value.find("type");
    return type != value.end() && type->is_string() ? brief(*type) : "an object";
  }
  constexpr std::size_t longest = 60;
  std::string text = value.dump();
  if (text.size() > longest) text = text.substr(0, longest) + "…";
  return text;
}

BpeReader::BpeReader(std::string path, std::size_t expected_tokens)
    : path_(std::move(path)), id_limit_(2 * static_cast<std::int64_t>(expected_tokens) + 1024) {}

void BpeReader::take_id(const std::string& part, std::int64_t id, const std::string& name) {
  require(id >= 0 && id < id_limit_, [&] {
    return refused_tokenizer(path_, part, "ids from 0, with fewer holes than tokens",
                             fmt::format("{} for {}", id, json_string(name)));
  });
  const auto at = static_cast<std::size_t>(id);
  if (at >= out_.tokens.size()) out_.tokens.resize(at + 1);
  require(out_.tokens[at].empty(), [&] {
    return refused_tokenizer(
        path_, part, "one token for each id",
        fmt::format("{} twice, the second time for {}", id, json_string(name)));
  });
}

void BpeReader::add_named(const std::string& part, const std::string& name, std::int64_t id) {
  require(!name.empty(),
          [&] { return refused_tokenizer(path_, part, "tokens that are not empty", "\"\""); });
  take_id(part, id, name);
  std::optional<std::string> bytes = bytes_of_symbols(name);
  std::string& token = out_.tokens[static_cast<std::size_t>(id)];
  if (bytes) {
    token = std::move(*bytes);
  } else {
    token = name;
    out_.literal.emplace(static_cast<std::int32_t>(id), name);
  }
  ids_.emplace(name, static_cast<std::int32_t>(id));
}

void BpeReader::add_bytes(const std::string& part, std::string bytes, std::int64_t id) {
  add_named(part, symbols_of(bytes), id);
}

void BpeReader::require_all_bytes(const std::string& part) const {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    require(ids_.contains(symbols_of({&c, 1})), [&] {
      return refused_tokenizer(path_, part, "a token for each of the 256 bytes",
                               fmt::format("none for byte 0x{:02x}", byte));
    });
  }
}

std::int32_t BpeReader::id_of(const std::string& part, const std::string& name) const {
  const auto found = ids_.find(name);
  require(found != ids_.end(), [&] {
    return refused_tokenizer(path_, part, "tokens of the vocabulary, joined to another one",
                             fmt::format("{}, which is none", brief(json(name))));
  });
  return found->second;
}

void BpeReader::add_merge(const std::string& part, const std::string& left,
                          const std::string& right) {
  const std::int32_t l = id_of(part, left), r = id_of(part, right);
  const std::int32_t merged = id_of(part, left + right);
  for (const std::int32_t id : {l, r, merged})
    require(!out_.literal.contains(id), [&] {
      return refused_tokenizer(path_, part, "tokens made of byte symbols",
                               brief(json(out_.literal.at(id))));
    });
  out_.pairs.push_back({.left = l,
                        .right = r,
                        .rank = static_cast<std::int32_t>(out_.pairs.size()),
                        .merged = merged});
}

void BpeReader::add_added(const std::string& part, AddedToken token) {
  require(!token.text.empty(),
          [&] { return refused_tokenizer(path_, part, "a text that is not empty", "\"\""); });
  require(token.id >= 0 && token.id < id_limit_, [&] {
    return refused_tokenizer(path_, part, "ids from 0, with fewer holes than tokens",
                             fmt::format("{}", token.id));
  });
  const auto known = ids_.find(token.text);
  if (known != ids_.end()) {
    require(known->second == token.id, [&] {
      return refused_tokenizer(path_, part,
                               fmt::format("id {}, as in the vocabulary", known->second),
                               fmt::format("{}", token.id));
    });
  } else {
    const auto at = static_cast<std::size_t>(token.id);
    require(at >= out_.tokens.size() || out_.tokens[at].empty(), [&] {
      return refused_tokenizer(path_, part, "an id that no other token has",
                               fmt::format("{}", token.id));
    });
    ids_.emplace(token.text, token.id);
  }
  out_.added.push_back(std::move(token));
}

BpeDefinition BpeReader::finish() {
  std::set<std::int32_t> made;
  for (const BpeDefinition::Pair& pair : out_.pairs) made.insert(pair.merged);
  std::set<std::int32_t> seen;
  std::int64_t next = static_cast<std::int64_t>(out_.tokens.size());
  for (const AddedToken& token : out_.added) {
    const auto at = static_cast<std::size_t>(token.id);
    next = std::max<std::int64_t>(next, std::int64_t{token.id} + 1);
    const bool byte = at < out_.tokens.size() && out_.tokens[at].size() == 1;
    require(seen.insert(token.id).second && !byte && !made.contains(token.id), [&] {
      return refused_tokenizer(path_, "added_tokens", "tokens that nothing else makes",
                               fmt::format("{} with id {}", brief(json(token.text)), token.id));
    });
  }
  for (const std::string_view name : {end_of_text_name, std::string_view("<|end_of_text|>"),
                                      std::string_view("</s>"), std::string_view("<eos>")}) {
    for (const AddedToken& token : out_.added)
      if (token.text == name && token.special) {
        out_.end_of_text = token.id;
        return std::move(out_);
      }
  }
  require(!ids_.contains(std::string(end_of_text_name)), [&] {
    return refused_tokenizer(path_, "added_tokens", "<|endoftext|> as a special token",
                             "a token of that name that is none");
  });
  out_.end_of_text = static_cast<std::int32_t>(next);
  out_.added.push_back(end_of_text_token(out_.end_of_text));
  return std::move(out_);
}

}  // namespace sluice
