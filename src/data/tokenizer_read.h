// Readers of others' tokenizer files, behind load_tokenizer(). They take any bytes: what is damaged
// or not supported is an Error (Exit::input) that names the part; nothing is allocated on trust.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/error.h"
#include "data/bpe_tokenizer.h"

namespace sluice {

// `part` may be empty: the file as a whole.
Error refused_tokenizer(const std::string& path, const std::string& part, std::string expected,
                        std::string found);

// A JSON value in a few words.
std::string brief(const nlohmann::json& value);

// The content of a tokenizer.json whose model is a BPE.
BpeDefinition bpe_of_json(const std::string& path, const nlohmann::json& file);

// The content of a vocab.json and of its merges.txt.
BpeDefinition bpe_of_lists(const std::string& vocab_path, const nlohmann::json& vocab,
                           const std::string& merges_path, std::string_view merges,
                           Splitter splitter);

// The content of a .tiktoken file.
BpeDefinition bpe_of_ranks(const std::string& path, std::string_view text, Splitter splitter);

// What the readers share: tokens by name, filled step by step.
class BpeReader {
 public:
  // `expected_tokens` bounds the ids: they may leave holes, but fewer than there are tokens.
  BpeReader(std::string path, std::size_t expected_tokens);

  // Adds a token of the vocabulary under the name that files give it; one of its bytes.
  void add_named(const std::string& part, const std::string& name, std::int64_t id);
  void add_bytes(const std::string& part, std::string bytes, std::int64_t id);
  void require_all_bytes(const std::string& part) const;
  void add_merge(const std::string& part, const std::string& left, const std::string& right);
  // Adds an added token; one that the vocabulary has must have the same id there.
  void add_added(const std::string& part, AddedToken token);
  // Chooses the end of text, adding one when there is none, and gives the whole.
  BpeDefinition finish();

  const std::string& path() const { return path_; }
  BpeDefinition& definition() { return out_; }
  std::int64_t id_limit() const { return id_limit_; }

 private:
  void take_id(const std::string& part, std::int64_t id, const std::string& name);
  std::int32_t id_of(const std::string& part, const std::string& name) const;

  std::string path_;
  std::int64_t id_limit_;
  BpeDefinition out_;
  std::unordered_map<std::string, std::int32_t> ids_;  // by name
};

}  // namespace sluice
