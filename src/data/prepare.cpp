#include "data/prepare.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "data/unicode.h"

namespace sluice {
namespace {

constexpr std::size_t piece_bytes = std::size_t{1} << 20;

Error bad_option(std::string what, std::string where, std::string expected, std::string found,
                 std::vector<std::string> tries = {}) {
  return Error(Exit::usage, {std::move(what), std::move(where), std::move(expected),
                             std::move(found), std::move(tries)});
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
  const std::vector<std::string> kinds = {"bytes", "chars", "gpt2"};
  require(std::find(kinds.begin(), kinds.end(), options.tokenizer) != kinds.end(), [&] {
    const std::string near = nearest(options.tokenizer, kinds);
    return bad_option("there is no such tokenizer", "--tokenizer", "bytes, chars or gpt2",
                      options.tokenizer.empty() ? "nothing" : options.tokenizer,
                      {"--tokenizer " + (near.empty() ? "gpt2" : near)});
  });
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

TokenizerPtr make_tokenizer(const PrepareOptions& options, std::vector<char32_t> alphabet) {
  if (options.tokenizer == "bytes") return make_bytes_tokenizer();
  if (options.tokenizer == "chars") return make_chars_tokenizer(std::move(alphabet));
  const std::string path = options.assets + "/gpt2/vocab.bpe";
  try {
    return make_gpt2_tokenizer(read_file(path, std::size_t{1} << 24));
  } catch (Error& e) {
    e.report().where = path;
    e.report().tries = {"tools/fetch/gpt2_merges, which fetches GPT-2's merges"};
    throw;
  }
}

// One document, or the part of one that lies on one side of the cut.
void add_document(std::string_view text, const Tokenizer& tokenizer, EndOfText end_of_text,
                  ShardWriter& writer) {
  const auto bytes = static_cast<std::int64_t>(text.size());
  std::vector<std::int32_t> ids;
  while (!text.empty()) {
    const std::size_t cut = tokenizer.safe_cut(text, piece_bytes);
    ids.clear();
    tokenizer.encode(text.substr(0, cut), ids);
    writer.append(ids);
    text.remove_prefix(cut);
  }
  if (end_of_text == EndOfText::after) {
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
  const TokenizerPtr tokenizer = make_tokenizer(options, std::move(looked.alphabet));
  const bool split = options.validation > 0;
  const std::size_t cut = train_bytes(options, looked.total);
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
    if (local > 0) add_document(text.substr(0, local), *tokenizer, options.end_of_text, train);
    if (split && local < text.size()) {
      add_document(text.substr(local), *tokenizer, options.end_of_text, *validation);
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
