#include "core/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace sluice {
namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      out += {'\\', c};
    else if (c == '\n')
      out += "\\n";
    else if (code < 0x20 || code == 0x7f)
      out += fmt::format("\\u{:04x}", code);
    else
      out += c;
  }
  return out + "\"";
}

// The shortest text that reads back as the same double, and as a float in TOML.
std::string number_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

std::string without_underscores(const std::string& text) {
  std::string out;
  std::copy_if(text.begin(), text.end(), std::back_inserter(out), [](char c) { return c != '_'; });
  return out;
}

template <class Number>
bool parse_number(const std::string& text, Number& out) {
  const std::string plain = without_underscores(text);
  const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), out);
  return error == std::errc{} && end == plain.data() + plain.size();
}

std::string raw_text(const RawValue& raw) {
  if (const auto* text = std::get_if<std::string>(&raw.value))
    return raw.bare ? *text : quoted(*text);
  if (const auto* flag = std::get_if<bool>(&raw.value)) return *flag ? "true" : "false";
  if (const auto* integer = std::get_if<std::int64_t>(&raw.value))
    return fmt::format("{}", *integer);
  return number_text(std::get<double>(raw.value));
}

bool is_auto(const Option& option, const RawValue& raw) {
  const auto* text = std::get_if<std::string>(&raw.value);
  return option.allows_auto && text != nullptr && *text == "auto";
}

bool assign(const Option& option, const RawValue& raw, std::int64_t* target) {
  if (const auto* value = std::get_if<std::int64_t>(&raw.value)) return *target = *value, true;
  if (is_auto(option, raw)) return *target = 0, true;
  const auto* text = std::get_if<std::string>(&raw.value);
  return raw.bare && text != nullptr && parse_number(*text, *target);
}

bool assign(const Option& option, const RawValue& raw, double* target) {
  if (const auto* value = std::get_if<double>(&raw.value))
    return *target = *value, std::isfinite(*value);
  if (const auto* value = std::get_if<std::int64_t>(&raw.value))
    return *target = static_cast<double>(*value), true;
  if (is_auto(option, raw)) return *target = 0, true;
  const auto* text = std::get_if<std::string>(&raw.value);
  return raw.bare && text != nullptr && parse_number(*text, *target) && std::isfinite(*target);
}

bool assign(const Option&, const RawValue& raw, bool* target) {
  if (const auto* value = std::get_if<bool>(&raw.value)) return *target = *value, true;
  const auto* text = std::get_if<std::string>(&raw.value);
  if (!raw.bare || text == nullptr || (*text != "true" && *text != "false")) return false;
  return *target = *text == "true", true;
}

bool assign(const Option& option, const RawValue& raw, std::string* target) {
  const auto* text = std::get_if<std::string>(&raw.value);
  if (text == nullptr) return false;
  const auto& choices = option.choices;
  if (!choices.empty() && std::find(choices.begin(), choices.end(), *text) == choices.end())
    return false;
  return *target = *text, true;
}

// "lr" and "train.lr" mean optim.lr when no other section has an lr.
std::string suggest(std::string_view key, const std::vector<std::string>& keys) {
  std::string near = nearest(key, keys);
  if (!near.empty()) return near;
  const std::string tail = fmt::format(".{}", key.substr(key.rfind('.') + 1));
  const auto same = [&](const std::string& other) { return other.ends_with(tail); };
  const auto found = std::find_if(keys.begin(), keys.end(), same);
  return std::count_if(keys.begin(), keys.end(), same) == 1 ? *found : std::string();
}

std::string section_of(const std::string& key) { return key.substr(0, key.rfind('.')); }

}  // namespace

std::string Option::text() const {
  struct Printer {
    const Option& option;
    std::string operator()(const std::int64_t* p) const {
      return option.allows_auto && *p == 0 ? "\"auto\"" : fmt::format("{}", *p);
    }
    std::string operator()(const double* p) const {
      return option.allows_auto && *p == 0 ? "\"auto\"" : number_text(*p);
    }
    std::string operator()(const bool* p) const { return *p ? "true" : "false"; }
    std::string operator()(const std::string* p) const { return quoted(*p); }
  };
  return std::visit(Printer{*this}, target);
}

std::string Option::type_text() const {
  if (!choices.empty()) return fmt::format("one of {}", fmt::join(choices, ", "));
  static constexpr const char* types[] = {"an integer", "a number", "true or false", "a string"};
  std::string out = types[target.index()];
  return allows_auto ? out + " or \"auto\"" : out;
}

Option& OptionTable::add(std::string key, Option::Target target, Effect effect, std::string help) {
  options_.push_back({std::move(key), target, effect, std::move(help), false, {}});
  return options_.back();
}

const Option& OptionTable::require_key(std::string_view key, const std::string& where) const {
  std::vector<std::string> keys;
  for (const Option& option : options_) {
    if (option.key == key) return option;
    keys.push_back(option.key);
  }
  const std::string suggestion = suggest(key, keys);
  Report report{fmt::format("no option is called {}", key),
                fmt::format("{} {}", where, key),
                "a key that `sluice train --help` lists",
                std::string(key),
                {}};
  if (!suggestion.empty()) report.tries.push_back(suggestion);
  throw Error(Exit::usage, std::move(report));
}

void OptionTable::set(std::string_view key, const RawValue& value) {
  const Option& option = require_key(key, value.where);
  const bool ok =
      std::visit([&](auto* target) { return assign(option, value, target); }, option.target);
  require(ok, [&] {
    return Error(Exit::usage, {fmt::format("{} cannot be {}", key, raw_text(value)),
                               fmt::format("{} {}", value.where, key),
                               option.type_text(),
                               raw_text(value),
                               {}});
  });
  set_keys_.emplace_back(key);
}

bool OptionTable::was_set(std::string_view key) const {
  return std::find(set_keys_.begin(), set_keys_.end(), key) != set_keys_.end();
}

std::string OptionTable::toml() const {
  std::string out, section;
  for (const Option& option : options_) {
    const std::string own = section_of(option.key);
    if (own != section) out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", own);
    section = own;
    out += fmt::format("{} = {}\n", option.key.substr(own.size() + 1), option.text());
  }
  return out;
}

std::string OptionTable::help() const {
  std::string out, section;
  for (const Option& option : options_) {
    const std::string own = section_of(option.key);
    if (own != section) out += fmt::format("{}{}\n", out.empty() ? "" : "\n", own);
    section = own;
    std::string value = option.text();  // as typed: no quotes
    if (value.starts_with('"')) value = value.substr(1, value.size() - 2);
    out += fmt::format("  {} {:<34} {}", option.effect == Effect::numerics ? '*' : ' ',
                       fmt::format("--{}={}", option.key, value), option.help);
    if (!option.choices.empty()) out += fmt::format(": {}", fmt::join(option.choices, ", "));
    out += '\n';
  }
  return out + "\n* numerics: may change the bits of a run. Every other option may not.\n";
}

std::string OptionTable::numerics_text() const {
  std::vector<std::string> lines;
  for (const Option& option : options_)
    if (option.effect == Effect::numerics)
      lines.push_back(fmt::format("{} = {}\n", option.key, option.text()));
  std::sort(lines.begin(), lines.end());
  return fmt::format("{}", fmt::join(lines, ""));
}

}  // namespace sluice
