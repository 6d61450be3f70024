// Options as TOML says them: what configs and plan files are read with. Pure functions; any thread.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "core/options.h"

namespace sluice {

// Where each key was said: "mine.toml:4".
using Places = std::map<std::string, std::string, std::less<>>;

// Sets what `text` says in the table, from the top; `file` is what errors call it. Exit::usage for
// what is no TOML, and for keys that the table has not, which `known` describes (empty: those that
// `sluice train --help` lists).
Places read_options(std::string_view text, const std::string& file, OptionTable& table,
                    const std::string& known);

}  // namespace sluice
