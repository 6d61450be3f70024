#include "data/documents.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "data/encode_each.h"

namespace sluice {

DocumentFinder::DocumentFinder(const PrepareOptions& options,
                               const std::vector<InputSource>& sources)
    : options_(options), sources_(sources), json_(options.field) {}

void DocumentFinder::each(Piece& piece, const Take& take) {
  if (sources_[piece.source].kind == InputSource::Kind::lines) return each_line(piece, take);
  for (const Piece::Part& part : piece.parts) {
    std::string_view text = piece.view().substr(part.begin, part.end - part.begin);
    if (options_.clean != Clean::none) {
      cleaned_ = text;
      clean(options_.clean, cleaned_);
      text = cleaned_;
    }
    take(text, part.ends_document);
  }
}

void DocumentFinder::each_line(Piece& piece, const Take& take) {
  if (piece.bad.count > 0 && options_.on_bad_line == OnBadLine::fail)
    refuse(piece, piece.line - 1, fmt::format("more than {} bytes", longest_document));
  const std::string_view text = piece.view();
  std::int64_t line = piece.line;
  for (std::size_t at = 0; at < text.size(); ++line) {
    const void* const feed = std::memchr(text.data() + at, '\n', text.size() - at);
    const std::size_t end =
        feed != nullptr ? static_cast<std::size_t>(static_cast<const char*>(feed) - text.data())
                        : text.size();
    const std::string_view one = text.substr(at, end - at);
    at = end + 1;
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::optional<std::string_view> found = json_.find(one);
    if (!found) {
      refuse(piece, line, json_.problem());
      continue;
    }
    if (options_.clean == Clean::none) {
      take(*found, true);
      continue;
    }
    cleaned_ = *found;
    clean(options_.clean, cleaned_);
    take(cleaned_, true);
  }
}

void DocumentFinder::refuse(Piece& piece, std::int64_t line, const std::string& problem) const {
  const std::string where = fmt::format("{} line {}", sources_[piece.source].range.name, line);
  if (options_.on_bad_line == OnBadLine::skip)
    return piece.bad.add({1, fmt::format("{}: {}", where, problem)});
  throw Error(Exit::input,
              {.what = "a line holds no document",
               .where = where,
               .expected = fmt::format("a JSON object with a string in \"{}\"", options_.field),
               .found = problem,
               .tries = {"--on-bad-line skip, which leaves such lines out and counts them"}});
}

DocumentEncoder::DocumentEncoder(const Tokenizer& tokenizer, const PrepareOptions& options,
                                 const std::vector<InputSource>& sources, std::mutex& alone)
    : tokenizer_(tokenizer),
      end_of_text_(options.end_of_text == EndOfText::after),
      wide_(id_width(tokenizer) == 4),
      sources_(sources),
      finder_(options, sources),
      alone_(alone) {}

void DocumentEncoder::encode(Piece& piece) {
  try {
    texts_.reserve(piece.size);
    finder_.each(piece, [&](std::string_view text, bool ends) { add(text, ends, piece); });
    flush(piece);
  } catch (Error& e) {
    if (e.report().where.empty()) e.report().where = sources_[piece.source].range.name;
    throw;
  }
}

void DocumentEncoder::add(std::string_view text, bool ends, Piece& piece) {
  if (text.size() > 2 * piece_bytes) {
    flush(piece);
    add_large(text, piece);
    if (ends) end(piece);
    return;
  }
  texts_ += text;
  waiting_.push_back({text.size(), ends});
  if (texts_.size() > 2 * piece_bytes) flush(piece);
}

void DocumentEncoder::flush(Piece& piece) {
  views_.clear();
  ids_.clear();
  ends_.clear();
  std::size_t at = 0;
  for (const Waiting& one : waiting_) {
    views_.push_back(std::string_view(texts_).substr(at, one.bytes));
    at += one.bytes;
  }
  encode_each(tokenizer_, views_, ids_, ends_);
  std::size_t from = 0;
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    piece.open.text_bytes += static_cast<std::int64_t>(waiting_[i].bytes);
    put(std::span(ids_).subspan(from, ends_[i] - from), piece);
    from = ends_[i];
    if (waiting_[i].ends) end(piece);
  }
  texts_.clear();
  waiting_.clear();
}

// In parts, of which one may be much larger than the others.
void DocumentEncoder::add_large(std::string_view text, Piece& piece) {
  piece.open.text_bytes += static_cast<std::int64_t>(text.size());
  while (!text.empty()) {
    const std::size_t bytes = tokenizer_.safe_cut(text, std::min(piece_bytes, text.size()));
    require(bytes <= longest_stretch + piece_bytes, [&] {
      return Error(Exit::input,
                   {.what = "a stretch of text is too long",
                    .where = "",
                    .expected = fmt::format("at most {} bytes", longest_stretch),
                    .found = fmt::format("{}, without white space where it could be cut", bytes),
                    .tries = {}});
    });
    ids_.clear();
    std::unique_lock lock(alone_, std::defer_lock);
    if (bytes > 2 * piece_bytes) lock.lock();
    tokenizer_.encode(text.substr(0, bytes), ids_);
    put(ids_, piece);
    text.remove_prefix(bytes);
  }
}

void DocumentEncoder::end(Piece& piece) {
  if (end_of_text_) {
    const std::int32_t id = tokenizer_.end_of_text();
    put({&id, 1}, piece);
  }
  piece.ends.push_back(piece.open);
  piece.open = {};
}

void DocumentEncoder::put(std::span<const std::int32_t> ids, Piece& piece) {
  piece.open.tokens += static_cast<std::int64_t>(ids.size());
  const std::size_t at = piece.ids.size();
  if (wide_) {
    piece.ids.resize(at + ids.size_bytes());
    std::memcpy(piece.ids.data() + at, ids.data(), ids.size_bytes());
    return;
  }
  piece.ids.resize(at + 2 * ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto id = static_cast<std::uint16_t>(ids[i]);
    std::memcpy(piece.ids.data() + at + 2 * i, &id, sizeof id);
  }
}

void encode_each(const Tokenizer& tokenizer, std::span<const std::string_view> texts,
                 std::vector<std::int32_t>& out, std::vector<std::size_t>& ends) {
  if (const auto* each = dynamic_cast<const EncodesEach*>(&tokenizer))
    return each->encode_each(texts, out, ends);
  for (const std::string_view text : texts) {
    tokenizer.encode(text, out);
    ends.push_back(out.size());
  }
}

int id_width(const Tokenizer& tokenizer) { return tokenizer.vocab_size() > 65536 ? 4 : 2; }

}  // namespace sluice
