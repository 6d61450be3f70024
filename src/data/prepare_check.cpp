#include "data/prepare_check.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "data/find_tokenizer.h"
#include "data/splitter.h"
#include "data/unicode.h"

namespace sluice {
namespace {

using Kind = InputSource::Kind;

Error bad_option(std::string what, std::string where, std::string expected, std::string found,
                 std::vector<std::string> tries = {}) {
  return Error(Exit::usage, {std::move(what), std::move(where), std::move(expected),
                             std::move(found), std::move(tries)});
}

constexpr std::string_view train_prefix = "train:";

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

bool is_plain_text(const InputSource& source) {
  return source.kind == Kind::text && source.packing == Packing::none;
}

bool all_plain(const PrepareOptions& options, const std::vector<InputSource>& sources) {
  return options.clean == Clean::none && std::all_of(sources.begin(), sources.end(), is_plain_text);
}

bool begins_character(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

// The byte of `text` where character number `index` begins.
std::int64_t byte_of_character(std::string_view text, std::int64_t index) {
  for (std::size_t at = 0; at < text.size(); ++at)
    if (begins_character(text[at]) && index-- == 0) return static_cast<std::int64_t>(at);
  return static_cast<std::int64_t>(text.size());
}

std::int64_t characters_in(const MappedFile& file) {
  const std::string_view text = file.text();
  const std::int64_t count = std::count_if(text.begin(), text.end(), begins_character);
  file.forget(file.bytes());
  return count;
}

}  // namespace

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
  const bool of_text =
      options.share_of == ShareOf::bytes || options.share_of == ShareOf::characters;
  require(!of_text || (!options.shuffle && options.clean == Clean::none), [&] {
    return bad_option("what is shuffled or cleaned is parted by documents", "--share-of",
                      "documents", options.share_of == ShareOf::bytes ? "bytes" : "characters");
  });
}

bool shares_documents(const PrepareOptions& options, const std::vector<InputSource>& sources) {
  if (options.share_of == ShareOf::automatic)
    return options.shuffle.has_value() || !all_plain(options, sources);
  return options.share_of == ShareOf::documents;
}

Error share_leaves_nothing(const PrepareOptions& options, const std::string& of) {
  return Error(Exit::input, {.what = "the share for validation leaves one side without text",
                             .where = "--validation",
                             .expected = "a share that gives both sides some of the text",
                             .found = fmt::format("{} of {}", options.validation, of),
                             .tries = {}});
}

std::optional<Cut> find_cut(const PrepareOptions& options,
                            const std::vector<InputSource>& sources) {
  if (options.validation == 0 || shares_documents(options, sources)) return std::nullopt;
  require(all_plain(options, sources), [&] {
    return bad_option("only plain text is parted by bytes or characters", "--share-of", "documents",
                      options.share_of == ShareOf::bytes ? "bytes" : "characters");
  });
  const bool characters = options.share_of == ShareOf::characters;
  std::vector<std::int64_t> sizes;
  std::int64_t total = 0;
  for (const InputSource& source : sources)
    total += sizes.emplace_back(characters ? characters_in(MappedFile(source.range.path))
                                           : source.bytes());
  // Characters as nanoGPT's preparation counts them: the first int(n * (1 - share)).
  const auto kept =
      characters
          ? static_cast<std::int64_t>(static_cast<double>(total) * (1 - options.validation))
          : total - static_cast<std::int64_t>(options.validation * static_cast<double>(total));
  const std::string of = fmt::format("{} {}", total, characters ? "characters" : "bytes");
  std::optional<Cut> last;  // the end of the training side
  std::int64_t before = 0;
  for (std::size_t i = 0; i < sources.size() && before < kept; before += sizes[i++]) {
    const MappedFile file(sources[i].range.path);
    const std::int64_t left = kept - before;
    const std::int64_t at =
        characters ? byte_of_character(file.text(), left)
                   : static_cast<std::int64_t>(char_boundary(
                         file.text(), std::min(static_cast<std::size_t>(left), file.size())));
    if (at > 0) last = Cut{i, at};
  }
  const bool nothing_left =
      last && last->source + 1 == sources.size() && last->at == sources.back().bytes();
  require(last && !nothing_left, [&] { return share_leaves_nothing(options, of); });
  return last;
}

std::string fingerprint_of(const PrepareOptions& options, const std::vector<InputSource>& sources,
                           const std::optional<Cut>& cut) {
  nlohmann::json out = {{"tokenizer", options.tokenizer},
                        {"pattern", options.pattern},
                        {"min_frequency", options.min_frequency},
                        {"end_of_text", options.end_of_text == EndOfText::after},
                        {"field", options.field},
                        {"clean", static_cast<int>(options.clean)}};
  if (cut) out["cut"] = {cut->source, cut->at};
  // A BPE that is learnt hangs on which documents are held out.
  if (vocabulary_to_train(options)) {
    out["validation"] = options.validation;
    if (options.shuffle) out["shuffle"] = *options.shuffle;
  }
  for (const InputSource& source : sources) {
    struct stat status = {};
    (void)::stat(source.range.path.c_str(), &status);
    out["sources"].push_back({source.range.name, source.range.begin, source.range.end,
                              static_cast<int>(source.kind), static_cast<int>(source.packing),
                              static_cast<std::int64_t>(status.st_mtim.tv_sec),
                              static_cast<std::int64_t>(status.st_mtim.tv_nsec)});
  }
  const std::string text = out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return hash128_hex(text.data(), text.size());
}

}  // namespace sluice
