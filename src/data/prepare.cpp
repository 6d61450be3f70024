#include "data/prepare.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "data/bpe_train.h"
#include "data/encode.h"
#include "data/find_tokenizer.h"
#include "data/unicode.h"

namespace sluice {
namespace {

Error bad_option(std::string what, std::string where, std::string expected, std::string found,
                 std::vector<std::string> tries = {}) {
  return Error(Exit::usage, {std::move(what), std::move(where), std::move(expected),
                             std::move(found), std::move(tries)});
}

constexpr std::string_view train_prefix = "train:";

// N of "train:N"; absent: another tokenizer.
std::optional<std::int32_t> vocabulary_to_train(const PrepareOptions& options) {
  if (!options.tokenizer.starts_with(train_prefix)) return std::nullopt;
  constexpr std::int32_t least = 257, most = 1 << 24;
  const std::string_view number = std::string_view(options.tokenizer).substr(train_prefix.size());
  std::int32_t vocab = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), vocab);
  const bool whole = error == std::errc() && end == number.data() + number.size();
  require(whole && vocab >= least && vocab <= most, [&] {
    return bad_option("this is no size for a vocabulary", "--tokenizer",
                      fmt::format("{}{} to {}{}", train_prefix, least, train_prefix, most),
                      options.tokenizer, {"--tokenizer train:32000"});
  });
  return vocab;
}

void check_tokenizer(const PrepareOptions& options) {
  const bool trained = vocabulary_to_train(options).has_value();
  if (!trained && options.tokenizer != "chars" && !names_tokenizer(options.tokenizer))
    throw_no_such_tokenizer(
        options.tokenizer, "bytes, chars, gpt2, train:VOCABULARY, or a tokenizer's file or folder");
  require(options.tokenizer != "chars" || options.pattern.empty(), [&] {
    return bad_option("chars splits nothing", "--pattern", "no --pattern", options.pattern);
  });
  require(!trained || options.pattern.empty() || splitter_named(options.pattern), [&] {
    return bad_option("there is no such pattern", "--pattern", "gpt2, cl100k, llama3 or none",
                      options.pattern);
  });
}

void check(const PrepareOptions& options) {
  require(!options.inputs.empty(), [] {
    return bad_option("there is nothing to prepare", "sluice prepare INPUT...",
                      "one text file or more", "none");
  });
  require(!options.out.empty(), [] {
    return bad_option("the prefix for the shards is missing", "--out", "a path", "nothing",
                      {"--out PREFIX"});
  });
  check_tokenizer(options);
  require(options.validation >= 0 && options.validation < 1, [&] {
    return bad_option("the share for validation is out of range", "--validation",
                      "at least 0, less than 1", fmt::format("{}", options.validation),
                      {"--validation 0.1"});
  });
  // A packed or structured file would be read as if it were prose.
  for (const std::string& path : options.inputs) {
    for (const std::string_view end :
         {".gz", ".zst", ".xz", ".bz2", ".zip", ".jsonl", ".parquet", ".bin", ".idx"}) {
      require(path.size() < end.size() || path.substr(path.size() - end.size()) != end, [&] {
        return Error(Exit::input, {.what = "this kind of file cannot be prepared",
                                   .where = path,
                                   .expected = "plain text (.txt)",
                                   .found = std::string(end),
                                   .tries = {}});
      });
    }
  }
}

// What the first look at the inputs tells.
struct Survey {
  std::vector<std::size_t> sizes;  // of each input, in bytes
  std::size_t total = 0;
  std::vector<char32_t> alphabet;  // chars only
};

void add_alphabet(const MappedFile& file, std::vector<bool>& seen) {
  const std::string_view text = file.text();
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char c = first_char(text.substr(at));
    require(c.valid, [&] { return not_utf8(fmt::format("{} byte {}", file.path(), at), c.code); });
    seen[c.code] = true;
    at += static_cast<std::size_t>(c.bytes);
  }
}

Survey survey(const PrepareOptions& options) {
  Survey out;
  const bool chars = options.tokenizer == "chars";
  std::vector<bool> seen(chars ? 0x110000 : 0);
  for (const std::string& path : options.inputs) {
    const MappedFile file(path);
    require(file.size() > 0, [&] {
      return Error(Exit::input, {.what = "the text file is empty",
                                 .where = path,
                                 .expected = "at least one byte of text",
                                 .found = "0 bytes",
                                 .tries = {}});
    });
    if (chars) add_alphabet(file, seen);
    out.sizes.push_back(file.size());
    out.total += file.size();
  }
  for (char32_t code = 0; code < seen.size(); ++code) {
    if (seen[code]) out.alphabet.push_back(code);
  }
  return out;
}

// The texts before the cut, one for each input.
TokenizerPtr train_tokenizer(const PrepareOptions& options, std::int32_t vocab, std::size_t cut) {
  std::vector<MappedFile> files;
  std::vector<std::string_view> texts;
  std::size_t before = 0;
  for (const std::string& path : options.inputs) {
    const std::string_view text = files.emplace_back(path).text();
    if (cut <= before) break;
    texts.push_back(text.substr(0, char_boundary(text, cut - before)));
    before += text.size();
  }
  BpeTrainOptions how;
  how.vocab = vocab;
  how.min_frequency = options.min_frequency;
  how.threads = options.threads;
  if (!options.pattern.empty()) how.splitter = *splitter_named(options.pattern);
  return make_bpe_tokenizer(train_bpe(texts, how));
}

TokenizerPtr make_tokenizer(const PrepareOptions& options, std::vector<char32_t> alphabet,
                            std::size_t cut) {
  if (options.tokenizer == "chars") return make_chars_tokenizer(std::move(alphabet));
  if (const auto vocab = vocabulary_to_train(options)) return train_tokenizer(options, *vocab, cut);
  return find_tokenizer({options.tokenizer, options.pattern, options.assets});
}

// One document, or the part of one that lies on one side of the cut.
void add_document(std::string_view text, const Tokenizer& tokenizer, const PrepareOptions& options,
                  ShardWriter& writer) {
  const auto bytes = static_cast<std::int64_t>(text.size());
  encode_in_parts(tokenizer, text, options.threads,
                  [&](std::span<const std::int32_t> ids) { writer.append(ids); });
  if (options.end_of_text == EndOfText::after) {
    const std::int32_t id = tokenizer.end_of_text();
    writer.append({&id, 1});
  }
  writer.end_document(bytes);
}

PreparedSet set_of(const std::string& prefix, const ShardWriter& writer) {
  return {prefix, writer.tokens(), writer.documents(), writer.text_bytes()};
}

// How many of the input's bytes are for training, before the cut moves back to a UTF-8 boundary.
std::size_t train_bytes(const PrepareOptions& options, std::size_t total) {
  if (options.validation == 0) return total;
  const auto held_out = static_cast<std::size_t>(options.validation * static_cast<double>(total));
  return total - std::min(held_out, total);
}

}  // namespace

PrepareSummary prepare(const PrepareOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  check(options);
  Survey looked = survey(options);
  const bool split = options.validation > 0;
  const std::size_t cut = train_bytes(options, looked.total);
  const TokenizerPtr tokenizer = make_tokenizer(options, std::move(looked.alphabet), cut);
  ShardWriter train(options.out, *tokenizer);
  std::optional<ShardWriter> validation;
  if (split) validation.emplace(options.out + "-val", *tokenizer);
  std::size_t before = 0;  // bytes of the inputs so far
  for (std::size_t i = 0; i < options.inputs.size(); ++i) {
    const MappedFile file(options.inputs[i]);
    require(file.size() == looked.sizes[i], [&] {
      return Error(Exit::input, {.what = "the text file changed while it was read",
                                 .where = options.inputs[i],
                                 .expected = fmt::format("{} bytes", looked.sizes[i]),
                                 .found = fmt::format("{} bytes", file.size()),
                                 .tries = {}});
    });
    const std::string_view text = file.text();
    const std::size_t local = cut <= before ? 0 : char_boundary(text, cut - before);
    if (local > 0) add_document(text.substr(0, local), *tokenizer, options, train);
    if (split && local < text.size()) {
      add_document(text.substr(local), *tokenizer, options, *validation);
    }
    before += text.size();
  }
  require(train.documents() > 0 && (!split || validation->documents() > 0), [&] {
    return Error(Exit::input,
                 {.what = "the share for validation leaves one side without text",
                  .where = "--validation",
                  .expected = "a share that gives both sides some of the text",
                  .found = fmt::format("{} of {} bytes", options.validation, looked.total),
                  .tries = {}});
  });
  train.finish();
  if (validation) validation->finish();
  train.publish();
  if (validation) validation->publish();

  PrepareSummary summary;
  summary.tokenizer = identity_of(*tokenizer);
  summary.train = set_of(options.out, train);
  if (validation) summary.validation = set_of(options.out + "-val", *validation);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  summary.seconds = took.count();
  return summary;
}

}  // namespace sluice
