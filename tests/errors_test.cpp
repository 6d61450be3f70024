// tests/errors.tsv: what a person reads when something is wrong, word for word. One row is one
// command; six columns, with \n, \t and \\ inside a cell written so:
//   name | set-up, shell | command, shell | exit code | what may change | the whole of stderr
// "What may change" is "none": no file at all; or "keeps PATH": anything but what lies at PATH. In
// stderr, <any> stands for a run of characters without white space: speeds, hashes, times; <isas>
// for the instruction sets of this machine. A set-up that exits with 77 says that this machine has
// what the row is about the lack of: then the command must succeed.
#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <regex>
#include <stdexcept>
#include <vector>

#include "backend/cpu/isa.h"
#include "core/error.h"
#include "core/test_folder.h"
#include "process.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;
using Contents = std::map<std::string, std::string>;

struct Row {
  std::string name, setup, command;
  int exit = 0;
  std::string changes, err;
};

std::string unescaped(std::string_view cell) {
  std::string out;
  for (std::size_t i = 0; i < cell.size(); ++i) {
    if (cell[i] != '\\' || i + 1 == cell.size()) {
      out += cell[i];
      continue;
    }
    const char next = cell[++i];
    out += next == 'n' ? '\n' : next == 't' ? '\t' : next;
  }
  return out;
}

Row parse_row(std::string_view line) {
  std::vector<std::string> cells;
  for (std::size_t at = 0; at <= line.size();) {
    const std::size_t end = std::min(line.find('\t', at), line.size());
    cells.push_back(unescaped(line.substr(at, end - at)));
    at = end + 1;
  }
  if (cells.size() != 6) throw std::runtime_error("a row without six cells: " + std::string(line));
  return {cells[0], cells[1], cells[2], std::stoi(cells[3]), cells[4], cells[5]};
}

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  std::ifstream file(SLUICE_SOURCE_DIR "/tests/errors.tsv");
  for (std::string line; std::getline(file, line);)
    if (!line.empty() && line[0] != '#') rows.push_back(parse_row(line));
  return rows;
}

std::string with_isas(std::string pattern) {
  std::vector<std::string_view> names;
  for (const Isa isa : available_isas()) names.push_back(name_of(isa));
  constexpr std::string_view all = "<isas>";
  const std::size_t at = pattern.find(all);
  if (at != std::string::npos)
    pattern.replace(at, all.size(), fmt::format("{}", fmt::join(names, ", ")));
  return pattern;
}

// Whether `text` is `pattern`, <any> standing for whatever has no white space.
bool matches(std::string_view text, std::string_view pattern) {
  constexpr std::string_view any = "<any>";
  std::string expression;
  while (!pattern.empty()) {
    if (pattern.starts_with(any)) {
      expression += "\\S+";
      pattern.remove_prefix(any.size());
      continue;
    }
    if (std::string_view("\\^$.|?*+()[]{}").find(pattern[0]) != std::string_view::npos)
      expression += '\\';
    expression += pattern[0];
    pattern.remove_prefix(1);
  }
  return std::regex_match(text.begin(), text.end(), std::regex(expression));
}

// The part of `contents` that must not change.
Contents kept(const Contents& contents, const std::string& changes) {
  if (changes == "none") return contents;
  if (!changes.starts_with("keeps ")) throw std::runtime_error("what may change? " + changes);
  const std::string path = changes.substr(6);
  Contents out;
  for (const auto& [name, hash] : contents)
    if (name == path || name.starts_with(path + "/")) out[name] = hash;
  return out;
}

// What is wrong with how a row's command ended, or nothing.
std::optional<std::string> complaint(const Row& row, const Ended& ended, const Contents& before,
                                     const Contents& after) {
  if (ended.exit != row.exit)
    return fmt::format("exit code {} instead of {}; stderr:\n{}", ended.exit, row.exit, ended.err);
  if (!matches(ended.err, with_isas(row.err)))
    return fmt::format("stderr is\n{}instead of\n{}", ended.err, row.err);
  const Contents was = kept(before, row.changes), now = kept(after, row.changes);
  if (was.empty() && row.changes != "none") return "there was nothing to keep: " + row.changes;
  if (was == now) return std::nullopt;
  std::string out = "files changed:";
  for (const auto& [name, hash] : was)
    if (!now.contains(name) || now.at(name) != hash) out += " " + name;
  for (const auto& [name, hash] : now)
    if (!was.contains(name)) out += " +" + name;
  return out;
}

std::optional<std::string> check(const Row& row) {
  const TestFolder folder;
  const Ended setup = run_command("set -e\n" + row.setup, folder.path());
  if (setup.exit == 77) {
    const Ended ended = run_command(row.command, folder.path());
    if (ended.exit == 0) return std::nullopt;
    return fmt::format("nothing is lacking here, and yet ({}):\n{}", ended.exit, ended.err);
  }
  if (setup.exit != 0) return fmt::format("the set-up failed ({}):\n{}", setup.exit, setup.err);
  const Contents before = contents_of(folder.path());
  const Ended ended = run_command(row.command, folder.path());
  return complaint(row, ended, before, contents_of(folder.path()));
}

class Errors : public testing::TestWithParam<Row> {};

TEST_P(Errors, SayWhatIsWrongAndChangeNothing) {
  const std::optional<std::string> problem = check(GetParam());
  EXPECT_FALSE(problem) << GetParam().command << "\n" << *problem;
}

INSTANTIATE_TEST_SUITE_P(Table, Errors, testing::ValuesIn(all_rows()), [](const auto& instance) {
  std::string name = instance.param.name;
  for (char& c : name)
    if (c == ' ' || c == '-' || c == '.') c = '_';
  return name;
});

// The judge itself: each thing it must see, it sees.
TEST(ErrorsJudge, SeesWrongTextExitCodeAndFiles) {
  const Row row{"row", "", "", 2, "none", "sluice: error: a (b) took <any> s\n"};
  const Ended ended{.exit = 2, .out = "", .err = "sluice: error: a (b) took 0.5 s\n"};
  const Contents files{{"run", "folder"}, {"run/a", "1"}};
  EXPECT_FALSE(complaint(row, ended, files, files));

  Ended other = ended;
  other.exit = 3;
  EXPECT_TRUE(complaint(row, other, files, files));
  for (const char* text : {"", "sluice: error: a (b) took 0.5 s", "sluice: error: a b took 0.5 s\n",
                           "sluice: error: a (b) took 0 5 s\n", "sluice: error: a (b) took  s\n",
                           "sluice: error: a (b) took 0.5 s\nmore\n"}) {
    other = ended;
    other.err = text;
    EXPECT_TRUE(complaint(row, other, files, files)) << text;
  }
  for (const Contents& changed :
       {Contents{{"run", "folder"}, {"run/a", "2"}}, Contents{{"run", "folder"}},
        Contents{{"run", "folder"}, {"run/a", "1"}, {"run/b", "1"}}})
    EXPECT_TRUE(complaint(row, ended, files, changed));
}

TEST(ErrorsJudge, KeepsAPathAndNothingElse) {
  const Row row{"row", "", "", 0, "keeps run/a", ""};
  const Contents files{{"run/a", "folder"}, {"run/a/x", "1"}, {"run/ab", "1"}};
  Contents changed = files;
  changed["run/ab"] = "2";
  EXPECT_FALSE(complaint(row, {}, files, changed));
  changed["run/a/x"] = "2";
  EXPECT_TRUE(complaint(row, {}, files, changed));
  EXPECT_TRUE(complaint(row, {}, {}, {})) << "a path that is not there keeps nothing";
}

TEST(ErrorsJudge, KnowsTheInstructionSetsOfThisMachine) {
  const std::string list = with_isas("one of <isas>.");
  EXPECT_TRUE(list.starts_with("one of portable"));
  EXPECT_TRUE(list.ends_with(std::string(name_of(best_isa())) + ".")) << list;
}

TEST(ErrorsJudge, RunsTheCommand) {
  Row row{"row", "text", "printf oh >&2; exit 3", 3, "none", "oh"};
  EXPECT_FALSE(check(row));
  row.err = "ah";
  EXPECT_TRUE(check(row));
  row.err = "oh", row.exit = 2;
  EXPECT_TRUE(check(row));
  row.exit = 3, row.command = "echo more >> text.txt; " + row.command;
  EXPECT_TRUE(check(row));
  row.setup = "false";
  EXPECT_TRUE(check(row));
  row.setup = "exit 77", row.command = "true";
  EXPECT_FALSE(check(row));
  row.command = "false";
  EXPECT_TRUE(check(row));
}

}  // namespace
}  // namespace sluice
