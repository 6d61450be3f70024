#include "inference/text_stream.h"

#include <algorithm>

namespace sluice {
namespace {

// Reading one sequence at the front: its bytes, and whether they are well-formed. Ill-formed and
// `unfinished`: all that is there is the beginning of a sequence.
struct Sequence {
  std::size_t bytes;
  bool valid, unfinished;
};

// Unicode 15, table 3-7: lengths by first byte, and the narrower range of some second bytes.
Sequence first_sequence(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {1, true, false};
  if (lead < 0xC2 || lead > 0xF4) return {1, false, false};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {i, false, true};
    unsigned char low = 0x80, high = 0xBF;
    if (i == 1) {
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    }
    if (at(i) < low || at(i) > high) return {i, false, false};
  }
  return {length, true, false};
}

}  // namespace

std::string valid_utf8(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const Sequence next = first_sequence(bytes);
    out += next.valid ? bytes.substr(0, next.bytes) : std::string_view("\xEF\xBF\xBD");
    bytes.remove_prefix(next.bytes);
  }
  return out;
}

TextStream::TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, "");
}

std::size_t TextStream::held_for_stop() const {
  std::size_t held = 0;
  for (const std::string& stop : stops_)
    for (std::size_t n = std::min(stop.size() - 1, pending_.size()); n > held; --n)
      if (pending_.ends_with(std::string_view(stop).substr(0, n))) held = n;
  return held;
}

std::string TextStream::push(std::string_view bytes) {
  if (stopped_) return {};
  pending_ += bytes;
  std::size_t stop_at = std::string::npos;
  for (const std::string& stop : stops_) stop_at = std::min(stop_at, pending_.find(stop));
  if (stop_at != std::string::npos) {
    stopped_ = true;
    pending_.resize(stop_at);
    return finish();
  }
  const std::size_t free = pending_.size() - held_for_stop();
  std::size_t shown = 0;
  while (shown < free) {
    const Sequence next = first_sequence(std::string_view(pending_).substr(shown));
    if (next.unfinished || shown + next.bytes > free) break;
    shown += next.bytes;
  }
  std::string out = valid_utf8(std::string_view(pending_).substr(0, shown));
  pending_.erase(0, shown);
  return out;
}

std::string TextStream::finish() {
  std::string out = valid_utf8(pending_);
  pending_.clear();
  return out;
}

}  // namespace sluice
