// The commands and all of their options as plain values, read from the parser and from the table of
// options: what completion and man pages are made of, so that neither can say anything else.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace sluice {

struct VerbOption {
  std::string name;                  // "out", or "optim.lr" of the table; of a positional: "CONFIG"
  std::string help, type;            // type: "DIR"; empty: a flag
  std::vector<std::string> choices;  // empty: any value
  bool in_table = false;             // given as --name=value
  std::string default_text;          // of the table's
};

struct Verb {
  std::string name, help;
  std::vector<VerbOption> options, positionals;
};

std::vector<Verb> verbs_of(const CLI::App& app);

}  // namespace sluice
