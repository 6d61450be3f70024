// Text to token ids and back: bytes, chars, or a byte-level BPE.
//
// A Tokenizer is immutable after its making: any number of threads may use one. Text is bytes; only
// chars asks for UTF-8. What encode() makes, decode_append() turns into the same bytes again. The
// end-of-text id marks documents; encode() never makes it, whatever the text says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual std::string_view kind() const = 0;  // "bytes" | "chars" | "gpt2" | "bpe"
  virtual int vocab_size() const = 0;         // ids are [0, vocab_size), end of text included
  virtual int end_of_text() const = 0;

  // Appends the ids of `text`. Time O(n log n) in its bytes. chars: Error (Exit::input) with the
  // byte offset for invalid UTF-8 or a code point outside the alphabet; the others take all bytes.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& out) const = 0;
  // The smallest position >= `at` where `text` may be cut: the ids of the two parts are, together,
  // the ids of the whole. text.size() when there is none.
  virtual std::size_t safe_cut(std::string_view text, std::size_t at) const = 0;

  // The bytes of one id; empty for end of text, other special tokens and ids outside the vocabulary
  // (a model's may be larger than its tokenizer's). The view lives as long as the tokenizer.
  virtual std::string_view bytes_of(std::int32_t id) const = 0;
  std::int64_t byte_length(std::int32_t id) const {
    return static_cast<std::int64_t>(bytes_of(id).size());
  }
  void decode_append(std::span<const std::int32_t> ids, std::string& bytes) const {
    for (const std::int32_t id : ids) bytes += bytes_of(id);
  }

  // SHA-256 of the defining data: two tokenizers with one hash make the same ids. gpt2: that of
  // vocab.bpe.
  virtual std::string hash() const = 0;
  // The content of a Hugging Face tokenizer.json that gives the same ids for valid UTF-8, except
  // that Hugging Face reads special tokens ("<|endoftext|>") inside text as such.
  virtual std::string tokenizer_json() const = 0;
};

using TokenizerPtr = std::unique_ptr<const Tokenizer>;

// id = byte, 256 = end of text.
TokenizerPtr make_bytes_tokenizer();
// id = place in the alphabet, which is sorted and freed of repeats; end of text last.
// Errors: an empty alphabet, a value that is no Unicode scalar.
TokenizerPtr make_chars_tokenizer(std::vector<char32_t> alphabet);
// From the content of GPT-2's published vocab.bpe. Errors: any other content (SHA-256 is checked).
TokenizerPtr make_gpt2_tokenizer(std::span<const char> vocab_bpe);

// The tokenizer in a file or folder; which kind of file it is, its content says.
//   tokenizer.json            Hugging Face's: byte-level BPE with a splitter that is known, and
//   what
//                             tokenizer_json() wrote
//   vocab.json + merges.txt   either file, or the folder of both; split as GPT-2 does
//   a .tiktoken file          lines "BASE64 RANK"; `splitter` has to be named, the file holds none
// `splitter`: "", or a name of splitter.h, which a tokenizer.json takes from nobody.
// A BPE without a token <|endoftext|>, <|end_of_text|>, </s> or <eos> gets <|endoftext|> as its
// last id. Errors: Exit::input, naming the part that is damaged or not supported; Exit::usage for
// `splitter`. Memory is bounded by the file's size, nothing recurses on its content.
TokenizerPtr load_tokenizer(const std::string& path, std::string_view splitter = "");

}  // namespace sluice
