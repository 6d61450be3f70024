// The configs of configs/*.toml, embedded by the build so that the binary needs no files.
#pragma once

#include <span>
#include <string_view>

namespace sluice {

struct Builtin {
  std::string_view name;  // "gpt2-124m"
  std::string_view toml;
};

std::span<const Builtin> builtins();  // sorted by name; defined in a generated file

}  // namespace sluice
