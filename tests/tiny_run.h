// A folder with tests/tiny.sh's corpus and config in it, and questions to the runs made there.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "core/test_folder.h"
#include "process.h"

namespace sluice {

class TinyRun {
 public:
  // `config`: tiny or tiled, the functions of tests/tiny.sh. `always`: options of every train().
  explicit TinyRun(const std::string& config = "tiny", const std::string& always = "")
      : always_(always) {
    const Ended setup = run("set -e; " + config);
    EXPECT_EQ(setup.exit, 0) << setup.err;
  }

  std::filesystem::path path(const std::string& name = "") const { return folder_.path() / name; }
  Ended run(const std::string& command) const { return run_command(command, folder_.path()); }
  std::string train_command(const std::string& out, const std::string& options = "") const {
    return "instead train tiny.toml --out " + out + " " + always_ + " " + options;
  }
  // `sluice train tiny.toml --out OUT …`, expected to end with `exit`. `options` win over those of
  // every train().
  Ended train(const std::string& out, const std::string& options = "", int exit = 0) const {
    const std::string command = train_command(out, options);
    const Ended ended = run(command);
    EXPECT_EQ(ended.exit, exit) << command << "\n" << ended.err;
    return ended;
  }

  // The rows of OUT/metrics.jsonl (or another file of rows).
  std::vector<nlohmann::json> rows(const std::string& out,
                                   const std::string& file = "metrics.jsonl") const {
    std::vector<nlohmann::json> rows;
    std::istringstream text(read_text(path(out) / file));
    for (std::string line; std::getline(text, line);) rows.push_back(nlohmann::json::parse(line));
    return rows;
  }
  // The last digest that OUT's metrics tell, which is that of the run's end.
  std::string digest(const std::string& out) const {
    std::string found = "none";
    for (const nlohmann::json& row : rows(out))
      if (row.contains("digest")) found = row["digest"];
    return found;
  }
  // Steps with a row of their loss, in the order of the file.
  std::vector<std::int64_t> steps(const std::string& out,
                                  const std::string& file = "metrics.jsonl") const {
    std::vector<std::int64_t> found;
    for (const nlohmann::json& row : rows(out, file))
      if (row.contains("loss")) found.push_back(row["step"]);
    return found;
  }
  // The newest checkpoint's tensors (weights, state, averages): a hash of each file.
  std::map<std::string, std::string> tensors(const std::string& out) const {
    std::map<std::string, std::string> found;
    const std::filesystem::path newest = path(out) / "checkpoints" / checkpoints(out).back();
    for (const auto& [name, hash] : contents_of(newest))
      if (name.ends_with(".safetensors")) found[name] = hash;
    return found;
  }
  // Names in OUT/checkpoints, sorted.
  std::vector<std::string> checkpoints(const std::string& out) const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(path(out) / "checkpoints"))
      found.push_back(entry.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  TestFolder folder_;
  std::string always_;
};

inline std::vector<std::int64_t> steps_to(std::int64_t last) {
  std::vector<std::int64_t> steps;
  for (std::int64_t step = 1; step <= last; ++step) steps.push_back(step);
  return steps;
}

}  // namespace sluice
