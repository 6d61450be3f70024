#include "data/prepare_tokenizer.h"

#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "data/bpe_train.h"
#include "data/documents.h"
#include "data/find_tokenizer.h"
#include "data/numpy_shuffle.h"
#include "data/pipeline.h"
#include "data/token_store.h"
#include "data/unicode.h"

namespace sluice {
namespace {

// Calls `see` with every stretch of text, on any thread, and `take` with the pieces in order. Texts
// are cut at characters.
void read_all(const TokenizerRequest& request,
              const std::function<void(Piece&, int, std::string_view, bool)>& see,
              const std::function<void(Piece&)>& take) {
  const PrepareOptions& options = request.options;
  std::vector<std::unique_ptr<DocumentFinder>> finders;
  for (int i = 0; i < std::max(options.threads, 1); ++i)
    finders.push_back(std::make_unique<DocumentFinder>(options, request.sources));
  PipelineJob job;
  job.sources = request.sources.size();
  job.threads = static_cast<int>(finders.size());
  job.open = [&](std::size_t source) {
    ReaderOptions how;
    how.safe_cut = [](std::string_view text, std::size_t at) { return char_boundary(text, at); };
    how.whole_texts = options.clean != Clean::none;
    if (request.cut && request.cut->source == source) how.cut = request.cut->at;
    return open_reader(request.sources[source], how);
  };
  job.work = [&](Piece& piece, int thread) {
    finders[static_cast<std::size_t>(thread)]->each(
        piece, [&](std::string_view text, bool ends) { see(piece, thread, text, ends); });
  };
  job.take = [&](Piece& piece) {
    if (take) take(piece);
    if (request.tell) request.tell("reading", piece.source, piece);
  };
  run_pipeline(job);
}

std::vector<char32_t> alphabet_of(const TokenizerRequest& request) {
  const auto threads = static_cast<std::size_t>(std::max(request.options.threads, 1));
  std::vector<std::vector<bool>> seen(threads, std::vector<bool>(0x110000));
  const auto see = [&](Piece& piece, int thread, std::string_view text, bool /*ends*/) {
    std::vector<bool>& mine = seen[static_cast<std::size_t>(thread)];
    for (std::size_t at = 0; at < text.size();) {
      const Utf8Char c = first_char(text.substr(at));
      require(c.valid, [&] {
        const InputSource& source = request.sources[piece.source];
        const bool plain = source.kind == InputSource::Kind::text;
        const auto byte = piece.begin + static_cast<std::int64_t>(at);
        return not_utf8(
            plain ? fmt::format("{} byte {}", source.range.name, byte) : source.range.name, c.code);
      });
      mine[c.code] = true;
      at += static_cast<std::size_t>(c.bytes);
    }
  };
  read_all(request, see, nullptr);
  std::vector<char32_t> out;
  for (char32_t code = 0; code < 0x110000; ++code)
    for (const std::vector<bool>& mine : seen)
      if (mine[code]) {
        out.push_back(code);
        break;
      }
  require(!out.empty(), [&] {
    return Error(Exit::input, {.what = "there is no text in the input",
                               .where = request.options.inputs.front(),
                               .expected = "at least one character",
                               .found = "none",
                               .tries = {}});
  });
  return out;
}

BpeTrainOptions how_to_train(const PrepareOptions& options, std::int32_t vocab) {
  BpeTrainOptions how;
  how.vocab = vocab;
  how.min_frequency = options.min_frequency;
  how.threads = options.threads;
  if (!options.pattern.empty()) how.splitter = *splitter_named(options.pattern);
  return how;
}

// The texts of the training side where they lie: plain files before the cut.
TokenizerPtr train_in_place(const TokenizerRequest& request, std::int32_t vocab) {
  std::vector<MappedFile> files;
  std::vector<std::string_view> texts;
  for (std::size_t i = 0; i < request.sources.size(); ++i) {
    if (request.cut && i > request.cut->source) break;
    const std::string_view text = files.emplace_back(request.sources[i].range.path).text();
    const bool cut_here = request.cut && i == request.cut->source;
    texts.push_back(cut_here ? text.substr(0, static_cast<std::size_t>(request.cut->at)) : text);
  }
  return make_bpe_tokenizer(train_bpe(texts, how_to_train(request.options, vocab)));
}

// The same of what has to be unpacked or parsed first: the documents go into a file that is mapped.
TokenizerPtr train_from_copy(const TokenizerRequest& request, std::int32_t vocab) {
  TokenStore copy(request.options.out + ".text", request.fingerprint, 1, request.options.faults);
  const auto see = [](Piece& piece, int /*thread*/, std::string_view text, bool ends) {
    const auto* const bytes = reinterpret_cast<const std::byte*>(text.data());
    piece.ids.insert(piece.ids.end(), bytes, bytes + text.size());
    piece.open.tokens += static_cast<std::int64_t>(text.size());
    if (!ends) return;
    piece.ends.push_back(piece.open);
    piece.open = {};
  };
  read_all(request, see, [&](Piece& piece) { copy.add(piece); });
  const MappedFile file(copy.tokens_path());
  const Sides sides = find_sides(request.options, copy.documents(), -1);
  std::vector<bool> held_out(static_cast<std::size_t>(copy.documents()));
  for (std::int64_t i = 0; i < sides.validation; ++i)
    held_out[sides.order.empty() ? static_cast<std::size_t>(sides.split + i)
                                 : sides.order[static_cast<std::size_t>(i)]] = true;
  std::vector<TokenStore::Document> documents(held_out.size());
  if (!documents.empty()) copy.read_documents(0, documents);
  std::vector<std::string_view> texts;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const auto begin = static_cast<std::size_t>(documents[i].begin);
    if (!held_out[i])
      texts.push_back(
          file.text().substr(begin, static_cast<std::size_t>(documents[i].end) - begin));
  }
  return make_bpe_tokenizer(train_bpe(texts, how_to_train(request.options, vocab)));
}

TokenizerPtr make_from_text(const TokenizerRequest& request) {
  const auto vocab = vocabulary_to_train(request.options);
  if (!vocab) return make_chars_tokenizer(alphabet_of(request));
  for (const InputSource& source : request.sources)
    if (source.kind != InputSource::Kind::text || source.packing != Packing::none ||
        request.options.clean != Clean::none)
      return train_from_copy(request, *vocab);
  return train_in_place(request, *vocab);
}

}  // namespace

Sides find_sides(const PrepareOptions& options, std::int64_t documents, std::int64_t split) {
  Sides out;
  out.documents = documents;
  if (split >= 0) {
    out.split = split;
    out.validation = documents - split;
    return out;
  }
  // As datasets' train_test_split() has it.
  out.validation =
      static_cast<std::int64_t>(std::ceil(options.validation * static_cast<double>(documents)));
  out.split = documents - out.validation;
  if (!options.shuffle) return out;
  require(documents < std::int64_t{1} << 32, [&] {
    return Error(Exit::input, {.what = "there are too many documents to shuffle",
                               .where = "--shuffle",
                               .expected = "fewer than 4294967296",
                               .found = fmt::format("{}", documents),
                               .tries = {}});
  });
  out.order = numpy_permutation(documents, *options.shuffle);
  return out;
}

TokenizerPtr prepare_tokenizer(const TokenizerRequest& request) {
  const PrepareOptions& options = request.options;
  if (options.tokenizer != "chars" && !vocabulary_to_train(options))
    return find_tokenizer({options.tokenizer, options.pattern, options.assets});
  const std::string folder = TokenStore::folder_of(options.out);
  const std::string file = folder + "/tokenizer.json", of = folder + "/tokenizer.of";
  if (std::filesystem::exists(of) && read_file(of, 1024) == request.fingerprint)
    return load_tokenizer(file);
  TokenizerPtr made = make_from_text(request);
  std::error_code failed;  // is seen where the folder is used
  std::filesystem::create_directories(folder, failed);
  if (!failed) {
    write_file_atomic(file, made->tokenizer_json());
    write_file_atomic(of, request.fingerprint);
  }
  return made;
}

}  // namespace sluice
