// Inputs cut into pieces of about a megabyte: what one thread works on at a time.
//
// Where a piece ends depends on the input and the tokenizer alone, never on threads. A PieceReader
// belongs to one thread at a time. Errors: Exit::input.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/clean.h"
#include "data/inputs.h"

namespace sluice {

inline constexpr std::size_t piece_bytes = std::size_t{1} << 20;
// What has to be in memory as a whole: a line or a member of an archive, and the text between two
// places where it may be cut.
inline constexpr std::size_t longest_document = std::size_t{64} << 20;
inline constexpr std::size_t longest_stretch = std::size_t{16} << 20;

// Where reading a source goes on.
struct ReadPlace {
  ReadPoint point;
  std::int64_t unpacked = 0;  // what has been read of it
  std::int64_t line = 1;      // the number of the next line
};

// Lines or documents that were left out, and the first of them.
struct BadLines {
  std::int64_t count = 0;
  std::string first;
  void add(const BadLines& other) {
    if (count == 0) first = other.first;
    count += other.count;
  }
};

struct Piece {
  struct Part {
    std::size_t begin = 0, end = 0;
    bool ends_document = true;
  };
  std::size_t source = 0;
  std::string text;         // of its parts, or whole lines; JsonText::slack bytes lie behind it
  std::size_t size = 0;     // without these
  std::vector<Part> parts;  // where it is no lines
  std::int64_t line = 1;    // the number of its first line
  std::int64_t begin = 0;   // of the text, in the unpacked file
  std::int64_t packed = 0;  // bytes of the file read so far
  bool cut_after = false;   // validation begins here
  std::optional<ReadPlace> after;
  std::exception_ptr failure;

  // What comes of it.
  struct Ended {
    std::int64_t tokens = 0, text_bytes = 0;  // since the document before
  };
  std::vector<std::byte> ids;
  std::vector<Ended> ends;  // one for each document that ends here
  Ended open;               // of the one that goes on in the next piece
  BadLines bad;

  std::string_view view() const { return {text.data(), size}; }
};

class PieceReader {
 public:
  virtual ~PieceReader() = default;
  virtual bool next(Piece& piece) = 0;  // false: the end
};

// The smallest position >= `at` where a text may be cut, as Tokenizer::safe_cut().
using SafeCut = std::function<std::size_t(std::string_view, std::size_t)>;

struct ReaderOptions {
  SafeCut safe_cut;
  bool whole_texts = false;  // a text is one piece, since it is to be cleaned
  std::int64_t cut = -1;     // of a text: the unpacked byte where validation begins; -1: nowhere
};

std::unique_ptr<PieceReader> open_reader(const InputSource& source, ReaderOptions options,
                                         const ReadPlace& from = {});

}  // namespace sluice
