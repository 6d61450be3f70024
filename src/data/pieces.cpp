#include "data/pieces.h"

#include <algorithm>

#include "core/error.h"
#include "data/json_text.h"
#include "data/tar.h"

namespace sluice {
namespace {

Error too_long(std::string what, std::string where, std::size_t most, std::string found) {
  return Error(Exit::input, {.what = std::move(what),
                             .where = std::move(where),
                             .expected = fmt::format("at most {} bytes", most),
                             .found = std::move(found),
                             .tries = {}});
}

// What the readers share: the unpacked bytes that no piece has taken yet.
class Reader : public PieceReader {
 public:
  Reader(const InputSource& source, ReaderOptions options, const ReadPlace& from)
      : options_(std::move(options)),
        name_(source.range.name),
        from_(Unpacker::open(source.range, source.packing, from.point)),
        at_(from.unpacked),
        first_(source.range.begin) {
    from_->skip_to(from.unpacked);
  }

 protected:
  // Reads until `bytes` are at hand, or all that there are.
  void fill(std::size_t bytes) {
    while (!ended_ && buffer_.size() < bytes) {
      const std::size_t have = buffer_.size(), room = std::max(bytes - have, std::size_t{1} << 16);
      buffer_.resize(have + room);
      const std::size_t got = from_->read(buffer_.data() + have, room);
      buffer_.resize(have + got);
      ended_ = got == 0;
    }
  }
  // Moves the first `bytes` of the buffer into the piece.
  void give(Piece& piece, std::size_t bytes) {
    std::string rest(buffer_, bytes);
    buffer_.resize(bytes);
    piece.text = std::move(buffer_);
    buffer_ = std::move(rest);
    piece.begin = at_;
    at_ += static_cast<std::int64_t>(bytes);
  }
  // The last things to say of a piece whose text is there.
  void close(Piece& piece) {
    piece.size = piece.text.size();
    piece.text.append(JsonText::slack, '\0');
    piece.packed = from_->packed() - first_;
  }
  ReadPlace place() { return {from_->point_before(at_), at_, line_}; }

  ReaderOptions options_;
  std::string name_;
  std::unique_ptr<Unpacker> from_;
  std::string buffer_;
  bool ended_ = false;   // nothing is left but the buffer
  std::int64_t at_ = 0;  // of the buffer, in the unpacked file
  std::int64_t line_ = 1;

 private:
  std::int64_t first_;
};

class TextReader final : public Reader {
 public:
  using Reader::Reader;

  bool next(Piece& piece) override {
    const std::size_t aim = options_.whole_texts ? longest_document : piece_bytes;
    std::size_t bytes = 0;
    for (std::size_t want = aim + 4096;; want += piece_bytes) {
      fill(want);
      if (buffer_.empty()) return false;
      bytes = cut(aim);
      if (bytes > 0) break;
      if (buffer_.size() > longest_stretch + aim) throw unbroken();
    }
    const bool at_cut = at_ + static_cast<std::int64_t>(bytes) == options_.cut;
    const bool last = ended_ && bytes == buffer_.size();
    give(piece, bytes);
    piece.parts = {{0, bytes, last || at_cut}};
    piece.cut_after = at_cut;
    piece.after = place();
    close(piece);
    return true;
  }

 private:
  Error unbroken() const {
    if (options_.whole_texts)
      return too_long("a document is too long", name_, longest_document, "more");
    return too_long("a stretch of text is too long",
                    fmt::format("{} after byte {}", name_, at_ + 1), longest_stretch,
                    "more, without white space where it could be cut");
  }
  // How many bytes of the buffer are the piece; 0: more of them have to be seen.
  std::size_t cut(std::size_t aim) const {
    std::string_view text = buffer_;
    const std::int64_t left = options_.cut - at_;
    const bool bounded = left > 0 && left <= static_cast<std::int64_t>(text.size());
    if (bounded) text = text.substr(0, static_cast<std::size_t>(left));
    if (text.size() <= aim) return text.size();
    if (options_.whole_texts) throw unbroken();
    const std::size_t at = options_.safe_cut(text, aim);
    // What follows the text may tell whether its last characters may be parted.
    constexpr std::size_t doubtful = 16;
    if (!ended_ && !bounded && at + doubtful > text.size()) return 0;
    if (at > aim + longest_stretch) throw unbroken();
    return at;
  }
};

class LineReader final : public Reader {
 public:
  LineReader(const InputSource& source, ReaderOptions options, const ReadPlace& from)
      : Reader(source, std::move(options), from) {
    line_ = from.line;
  }

  bool next(Piece& piece) override {
    std::size_t bytes = 0;
    for (std::size_t want = piece_bytes; bytes == 0; want *= 2) {
      fill(want);
      if (buffer_.empty()) return false;
      bytes = ended_ ? buffer_.size() : buffer_.rfind('\n') + 1;
      if (bytes == 0 && buffer_.size() >= longest_document) return skip_line(piece);
    }
    give(piece, bytes);
    piece.line = line_;
    line_ += std::count(piece.text.begin(), piece.text.end(), '\n');
    piece.after = place();
    close(piece);
    return true;
  }

 private:
  // A line that is too long to be looked at.
  bool skip_line(Piece& piece) {
    piece.bad = {1, fmt::format("{} line {}: more than {} bytes", name_, line_, longest_document)};
    std::size_t end = 0;
    while ((end = buffer_.find('\n')) == std::string::npos) {
      at_ += static_cast<std::int64_t>(buffer_.size());
      buffer_.clear();
      if (ended_) break;
      fill(piece_bytes);
    }
    if (end != std::string::npos) {
      buffer_.erase(0, end + 1);
      at_ += static_cast<std::int64_t>(end + 1);
    }
    piece.line = ++line_;
    piece.after = place();
    close(piece);
    return true;
  }
};

class TarReader final : public Reader {
 public:
  using Reader::Reader;

  bool next(Piece& piece) override {
    piece.begin = at_;
    const ReadAll read = [this](char* out, std::size_t bytes) { return take(out, bytes); };
    while (piece.text.size() < piece_bytes) {
      const std::optional<TarEntry> entry = next_tar_entry(read, name_);
      if (!entry) break;
      if (entry->file && entry->name.ends_with(".txt"))
        add(*entry, piece);
      else
        pass(*entry);
    }
    if (piece.parts.empty()) return false;
    piece.after = place();
    close(piece);
    return true;
  }

 private:
  bool take(char* out, std::size_t bytes) {
    fill(bytes);
    if (buffer_.size() < bytes) return false;
    std::copy_n(buffer_.data(), bytes, out);
    buffer_.erase(0, bytes);
    at_ += static_cast<std::int64_t>(bytes);
    return true;
  }
  void add(const TarEntry& entry, Piece& piece) {
    const auto size = static_cast<std::size_t>(entry.size);
    if (size > longest_document)
      throw too_long("a document is too long", fmt::format("{}: {}", name_, entry.name),
                     longest_document, fmt::format("{} bytes", size));
    const std::size_t begin = piece.text.size();
    piece.text.resize(begin + static_cast<std::size_t>(in_blocks(entry.size)));
    require(take(piece.text.data() + begin, piece.text.size() - begin), [&] { return ends(); });
    piece.text.resize(begin + size);
    piece.parts.push_back({begin, begin + size, true});
  }
  void pass(const TarEntry& entry) {
    for (const std::string_view end : {".xz", ".gz", ".zst", ".jsonl", ".tar"}) {
      require(!entry.file || !entry.name.ends_with(end), [&] {
        return Error(Exit::input, {.what = "a packed archive holds packed files",
                                   .where = fmt::format("{}: {}", name_, entry.name),
                                   .expected = "texts (.txt) in it",
                                   .found = std::string(end),
                                   .tries = {fmt::format("tar -xf {}, and the folder", name_)}});
      });
    }
    std::string block(tar_block, '\0');
    for (std::int64_t left = in_blocks(entry.size); left > 0; left -= tar_block)
      require(take(block.data(), block.size()), [&] { return ends(); });
  }
  Error ends() const {
    return Error(Exit::input, {.what = "the archive is truncated",
                               .where = name_,
                               .expected = "the whole of its last file",
                               .found = fmt::format("{} bytes, and then nothing", at_),
                               .tries = {}});
  }
};

}  // namespace

std::unique_ptr<PieceReader> open_reader(const InputSource& source, ReaderOptions options,
                                         const ReadPlace& from) {
  switch (source.kind) {
    case InputSource::Kind::text:
      return std::make_unique<TextReader>(source, std::move(options), from);
    case InputSource::Kind::lines:
      return std::make_unique<LineReader>(source, std::move(options), from);
    case InputSource::Kind::tar:
      return std::make_unique<TarReader>(source, std::move(options), from);
  }
  throw Error("no such kind of input");
}

}  // namespace sluice
