// With planner/description_toml.cpp the only sources that see toml++.
#include <toml++/toml.h>

#include <algorithm>

#include "train/config.h"
#include "train/options_toml.h"

namespace sluice {
namespace {

struct Leaf {
  std::string key;
  toml::source_position at;
  const toml::node* node;
};

std::string place_of(const std::string& file, const toml::source_position& at) {
  return fmt::format("{}:{}", file, at.line);
}

// Every value that is not a table; an empty table is a leaf too, so that its name is looked at.
void collect(const toml::table& table, const std::string& prefix, std::vector<Leaf>& leaves) {
  for (const auto& [name, node] : table) {
    const std::string key = prefix + std::string(name.str());
    const toml::table* inner = node.as_table();
    if (inner != nullptr && !inner->empty())
      collect(*inner, key + ".", leaves);
    else
      leaves.push_back({key, name.source().begin, &node});
  }
}

bool is_section(const OptionTable& table, const std::string& key) {
  const auto& options = table.options();
  return std::any_of(options.begin(), options.end(),
                     [&](const Option& option) { return option.key.starts_with(key + "."); });
}

std::string kind_of(const toml::node& node) {
  if (node.is_array()) return "an array";
  return node.is_table() ? "a table" : "a date or time";
}

RawValue raw_value(const toml::node& node, const std::string& key, const Option& option,
                   const std::string& where) {
  if (const auto* text = node.as_string()) return {text->get(), false, where};
  if (const auto* integer = node.as_integer()) return {integer->get(), false, where};
  if (const auto* number = node.as_floating_point()) return {number->get(), false, where};
  if (const auto* flag = node.as_boolean()) return {flag->get(), false, where};
  throw Error(Exit::usage, {fmt::format("{} cannot be {}", key, kind_of(node)),
                            fmt::format("{} {}", where, key),
                            option.type_text(),
                            kind_of(node),
                            {}});
}

// toml++ bounds the nesting of values, not of dotted keys, and frees tables by recursion: what
// could overflow the stack is not given to it. No config has so many dots, prose included.
constexpr std::ptrdiff_t most_dots = 4000;

void require_shallow(std::string_view text, const std::string& file) {
  const auto dots = std::count(text.begin(), text.end(), '.');
  require(dots <= most_dots, [&] {
    return Error(Exit::usage, {fmt::format("{} is no config", file),
                               file,
                               fmt::format("at most {} dots, in keys and elsewhere", most_dots),
                               fmt::format("{} dots", dots),
                               {}});
  });
}

toml::table parse(std::string_view text, const std::string& file) {
  require_shallow(text, file);
  try {
    return toml::parse(text, file);
  } catch (const toml::parse_error& e) {
    throw Error(Exit::usage, {fmt::format("{} is not TOML", file),
                              place_of(file, e.source().begin),
                              {},
                              std::string(e.description()),
                              {}});
  }
}

void require_known(const OptionTable& table, const std::string& key, const std::string& where,
                   const std::string& known) {
  if (known.empty()) return;  // the table says it
  std::vector<std::string> keys;
  for (const Option& option : table.options()) keys.push_back(option.key);
  if (std::find(keys.begin(), keys.end(), key) != keys.end()) return;
  Report report{
      fmt::format("no option is called {}", key), fmt::format("{} {}", where, key), known, key, {}};
  if (const std::string near = nearest(key, keys); !near.empty()) report.tries.push_back(near);
  throw Error(Exit::usage, std::move(report));
}

void set_leaf(Places& places, OptionTable& table, const Leaf& leaf, const std::string& file,
              const std::string& known) {
  const std::string where = place_of(file, leaf.at);
  const auto refuse = [&](std::string what, std::string expected) {
    throw Error(Exit::usage, {std::move(what),
                              fmt::format("{} {}", where, leaf.key),
                              std::move(expected),
                              leaf.key,
                              {}});
  };
  if (is_section(table, leaf.key)) {
    if (leaf.node->is_table()) return;  // "[model]" and nothing in it
    refuse(fmt::format("{} is a section, not an option", leaf.key),
           fmt::format("[{0}] or {0} = {{ … }}", leaf.key));
  }
  require_known(table, leaf.key, where, known);
  const Option& option = table.require_key(leaf.key, where);
  if (places.contains(leaf.key))  // "model.width" in quotes beside model = { width … }
    refuse(fmt::format("{} is there twice", leaf.key), "one value");
  table.set(leaf.key, raw_value(*leaf.node, leaf.key, option, where));
  places[leaf.key] = where;
}

}  // namespace

Places read_options(std::string_view text, const std::string& file, OptionTable& table,
                    const std::string& known) {
  const toml::table root = parse(text, file);
  std::vector<Leaf> leaves;
  collect(root, "", leaves);
  // toml++ sorts by name; a person reads from the top.
  std::sort(leaves.begin(), leaves.end(), [](const Leaf& a, const Leaf& b) {
    return std::tie(a.at.line, a.at.column) < std::tie(b.at.line, b.at.column);
  });
  Places places;
  for (const Leaf& leaf : leaves) set_leaf(places, table, leaf, file, known);
  return places;
}

Config parse_config(std::string_view text, const std::string& file) {
  Config config;
  OptionTable table = table_of(config);
  config.places = read_options(text, file, table, "");
  return config;
}

}  // namespace sluice
