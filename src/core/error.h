// The one error type of Sluice, and how to say more about it.
//
// Anything that ends the command (bad file, bad option, shape mismatch, full disk) is thrown as an
// Error. A person sees the four-line form; `doing` adds the chain of "while …" lines, which are
// printed only with --debug. Expected absence is std::optional, our own mistakes are assert.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice {

// Exit codes are a contract with scripts; the numbers never change.
enum class Exit : int {
  ok = 0,
  internal = 1,
  usage = 2,     // command line or config
  input = 3,     // a file that cannot be used
  memory = 4,    // does not fit, predicted or real
  diverged = 5,  // non-finite numbers
  disk = 6,
  peer = 7,
  requeue = 75,  // saved after a signal: run me again
};

// What a person is told. `what` is one sentence; the others may be empty and are then not printed.
struct Report {
  std::string what;
  std::string where;
  std::string expected;
  std::string found;
  std::vector<std::string> tries;  // one line each, things to type
};

class Error : public std::runtime_error {
 public:
  Error(Exit code, Report report, const char* file = __builtin_FILE(), int line = __builtin_LINE());
  explicit Error(std::string what, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE());

  Exit code() const { return code_; }
  const Report& report() const { return report_; }
  Report& report() { return report_; }
  const std::vector<std::string>& chain() const { return chain_; }
  std::string_view source() const { return source_; }
  void add_context(std::string doing) { chain_.push_back(std::move(doing)); }

  // The text for stderr: "sluice: error: …" and its indented lines, each ending in '\n'. With
  // `debug`, the source line and the "while" chain follow.
  std::string text(bool debug = false) const;

 private:
  Exit code_;
  Report report_;
  std::vector<std::string> chain_;
  std::string source_;
};

// Throws what make_error() returns unless `ok`; the message is built only on failure.
template <class MakeError>
void require(bool ok, MakeError make_error) {
  if (!ok) throw make_error();
}

// Runs body(); an Error that escapes gains the line "while " + say().
template <class Say, class Body>
decltype(auto) doing(Say say, Body body) {
  try {
    return body();
  } catch (Error& e) {
    e.add_context(say());
    throw;
  }
}

// The nearest of `names` to `word` by edit distance, or "" when none is near enough to suggest.
std::string nearest(std::string_view word, const std::vector<std::string>& names);

}  // namespace sluice
