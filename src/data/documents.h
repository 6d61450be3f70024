// The documents of a piece, and their tokens: what the threads of prepare() do.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "data/json_text.h"
#include "data/pieces.h"
#include "data/prepare.h"
#include "data/tokenizer.h"

namespace sluice {

// Finds them: one for each thread.
class DocumentFinder {
 public:
  DocumentFinder(const PrepareOptions& options, const std::vector<InputSource>& sources);

  // What of a document lies in the piece, cleaned; `ends`: the document ends with it. The view is
  // valid during the call.
  using Take = std::function<void(std::string_view text, bool ends)>;
  // Lines that are no document are added to piece.bad, or are an Error (Exit::input) with
  // OnBadLine::fail.
  void each(Piece& piece, const Take& take);

 private:
  void each_line(Piece& piece, const Take& take);
  void refuse(Piece& piece, std::int64_t line, const std::string& problem) const;

  const PrepareOptions& options_;
  const std::vector<InputSource>& sources_;
  JsonText json_;
  std::string cleaned_;
};

// Fills in what comes of pieces: one for each thread.
class DocumentEncoder {
 public:
  // `alone` is held while a stretch of more than two pieces is encoded, which takes 52 bytes of
  // memory for each byte: all threads share it.
  DocumentEncoder(const Tokenizer& tokenizer, const PrepareOptions& options,
                  const std::vector<InputSource>& sources, std::mutex& alone);
  void encode(Piece& piece);

 private:
  void add(std::string_view text, bool ends, Piece& piece);
  void add_large(std::string_view text, Piece& piece);
  void flush(Piece& piece);
  void put(std::span<const std::int32_t> ids, Piece& piece);
  void end(Piece& piece);

  const Tokenizer& tokenizer_;
  bool end_of_text_, wide_;
  const std::vector<InputSource>& sources_;
  DocumentFinder finder_;
  std::mutex& alone_;
  std::string texts_;  // that wait to be encoded together
  struct Waiting {
    std::size_t bytes = 0;
    bool ends = true;
  };
  std::vector<Waiting> waiting_;
  std::vector<std::string_view> views_;
  std::vector<std::int32_t> ids_;
  std::vector<std::size_t> ends_;
};

// Bytes of an id in a .bin.
int id_width(const Tokenizer& tokenizer);

}  // namespace sluice
