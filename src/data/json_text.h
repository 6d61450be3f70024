// The text in a JSON object of one line.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

// Belongs to one thread. Memory: 14 bytes for each byte of the longest line up to short_line, a few
// bytes for each byte of a longer one.
class JsonText {
 public:
  // Bytes that must be readable after a line, whatever they are.
  static constexpr std::size_t slack = 64;
  static constexpr std::size_t short_line = std::size_t{1} << 20;

  explicit JsonText(std::string field);
  ~JsonText();

  // The string that `field` holds in the object, the last one if it is there twice; valid until the
  // next call. Absent: the line is no JSON object of that kind, and problem() says why. Checks the
  // whole line, the UTF-8 included. REQUIRES: `slack` bytes after the line.
  std::optional<std::string_view> find(std::string_view line);
  const std::string& problem() const { return problem_; }

 private:
  struct Parser;
  std::optional<std::string_view> find_slowly(std::string_view line);

  std::string field_;
  std::unique_ptr<Parser> parser_;
  std::string text_, problem_;
};

}  // namespace sluice
