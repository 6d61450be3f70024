// One table describes every option: it makes the parser, --help, the schema, the saved config and
// the numerics key. A struct of settings adds its fields with a line each; nothing else lists
// options.
//
// An Option points at a field; the table must not outlive the struct. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/error.h"

namespace sluice {

// numerics: may change the bits of a run, so it is part of the run's key. free: may not.
enum class Effect : std::uint8_t { numerics, free };

struct Option {
  using Target = std::variant<std::int64_t*, double*, bool*, std::string*>;
  std::string key;  // "section.name"
  Target target;
  Effect effect;
  std::string help;
  bool allows_auto = false;          // the word "auto" is stored as 0 (numbers)
  std::vector<std::string> choices;  // of a string; empty: any

  std::string text() const;       // the value as TOML writes it
  std::string type_text() const;  // "an integer", "a number", "true or false", "a string"
};

// A value as it was read: from TOML with its type, or from the command line as bare text.
struct RawValue {
  std::variant<std::int64_t, double, bool, std::string> value;
  bool bare = false;  // command-line text: read as whatever the option holds
  std::string where;  // "mine.toml:4" or "command line"
};

class OptionTable {
 public:
  Option& add(std::string key, Option::Target target, Effect effect, std::string help);

  const std::vector<Option>& options() const { return options_; }
  // Throws Exit::usage with the nearest key as a suggestion when there is none.
  const Option& require_key(std::string_view key, const std::string& where) const;
  // Sets one option; wrong type or an unknown choice is Exit::usage, naming `where`.
  void set(std::string_view key, const RawValue& value);
  // True when set() was called for the key.
  bool was_set(std::string_view key) const;

  // Every option as TOML, one "[section]" after the other: reproduces the run.
  std::string toml() const;
  // Every option with its value, what it means and its choices, by section; '*' marks numerics.
  std::string help() const;
  // "key = value" lines of the numerics options, sorted: what the key hashes.
  std::string numerics_text() const;

 private:
  std::vector<Option> options_;
  std::vector<std::string> set_keys_;
};

}  // namespace sluice
