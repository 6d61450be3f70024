// Bytes of generated ids to text that can be shown at once: valid UTF-8, cut before a stop string.
//
// Held back are the end of an unfinished UTF-8 sequence and whatever may be the beginning of a stop
// string. Bytes that are no UTF-8 become U+FFFD. One thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice {

class TextStream {
 public:
  // Empty stop strings are ignored.
  explicit TextStream(std::vector<std::string> stops);

  // Adds bytes and returns the text that may be shown now, often nothing. Once stopped() it returns
  // nothing more.
  std::string push(std::string_view bytes);
  // What is still held back: there will be no more bytes.
  std::string finish();

  bool stopped() const { return stopped_; }  // a stop string was met; it is not part of the text

 private:
  std::size_t held_for_stop() const;  // bytes at the end that may begin a stop string

  std::vector<std::string> stops_;
  std::string pending_;
  bool stopped_ = false;
};

// `bytes` with every maximal ill-formed part replaced by U+FFFD.
std::string valid_utf8(std::string_view bytes);

}  // namespace sluice
