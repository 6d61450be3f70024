// Recipes: the options of `sluice prepare` for a known data set, from configs/data/.
#pragma once

#include <span>
#include <string_view>

namespace sluice {

struct Recipe {
  std::string_view name, text;  // the text is TOML: [prepare] and its options
};

// The built-in ones, generated from the files.
std::span<const Recipe> recipes();

}  // namespace sluice
