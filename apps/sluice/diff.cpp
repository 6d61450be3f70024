// sluice diff: where do two runs part, or in what weights do two checkpoints differ? Exit code 0:
// nowhere; 1: they differ (as diff has it).
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include "command.h"
#include "diff_weights.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string first, second;
};

// Reads a file of JSON rows step by step. Rows of one step may lie among those of the next (the
// update of step N runs with the forward pass of step N+1), never further.
class StepRows {
 public:
  using Group = std::pair<std::int64_t, std::vector<nlohmann::json>>;

  explicit StepRows(const fs::path& path) : path_(path), file_(path) {}

  std::optional<Group> next() {
    while (waiting_.size() < 3 && read_row()) continue;
    if (waiting_.empty()) return std::nullopt;
    Group group = std::move(*waiting_.begin());
    waiting_.erase(waiting_.begin());
    return group;
  }

 private:
  bool read_row() {
    std::string line;
    if (!std::getline(file_, line)) return false;
    ++line_;
    nlohmann::json row = nlohmann::json::parse(line, nullptr, false);
    if (!row.is_object() || !row.contains("step") || !row["step"].is_number_integer()) {
      require(file_.eof(), [&] {  // a last line may be torn by a kill
        return Error(Exit::input, {"this line is no row of a run",
                                   fmt::format("{}:{}", path_.string(), line_),
                                   "a JSON object with a step",
                                   line.substr(0, 60),
                                   {}});
      });
      return false;
    }
    waiting_[row["step"].get<std::int64_t>()].push_back(std::move(row));
    return true;
  }

  fs::path path_;
  std::ifstream file_;
  std::int64_t line_ = 0;
  std::map<std::int64_t, std::vector<nlohmann::json>> waiting_;
};

struct Difference {
  std::int64_t step = 0;
  nlohmann::json place;  // phase, layer, micro, name; or the metric's name
  std::string first, second;
};

struct Comparison {
  std::int64_t rows = 0;  // present in both
  std::optional<Difference> difference;
};

std::string key_of(const nlohmann::json& row) {
  std::string key;
  for (const char* name : {"phase", "layer", "micro", "name"})
    key += row.value(name, nlohmann::json()).dump() + "|";
  return key;
}

void compare_hashes(const StepRows::Group& a, const StepRows::Group& b, Comparison& result) {
  std::map<std::string, std::string> hashes;
  for (const nlohmann::json& row : b.second) hashes[key_of(row)] = row.value("hash", "");
  for (const nlohmann::json& row : a.second) {
    const auto other = hashes.find(key_of(row));
    if (other == hashes.end()) continue;  // another recompute level keeps other values
    ++result.rows;
    const std::string hash = row.value("hash", "");
    if (hash == other->second) continue;
    nlohmann::json place = row;
    place.erase("hash");
    place.erase("step");
    result.difference = {a.first, place, hash, other->second};
    return;
  }
}

// What must be equal in runs of one key; speed is not.
void compare_metrics(const StepRows::Group& a, const StepRows::Group& b, Comparison& result) {
  const auto values = [](const std::vector<nlohmann::json>& rows) {
    std::map<std::string, nlohmann::json> out;
    for (const nlohmann::json& row : rows)
      for (const char* name : {"loss", "grad_norm", "val_loss", "digest"})
        if (row.contains(name)) out[name] = row[name];
    return out;
  };
  const std::map<std::string, nlohmann::json> first = values(a.second), second = values(b.second);
  for (const char* name : {"loss", "grad_norm", "digest", "val_loss"}) {
    if (!first.contains(name) || !second.contains(name)) continue;
    ++result.rows;
    if (first.at(name) == second.at(name)) continue;
    result.difference = {a.first, {{"name", name}}, first.at(name).dump(), second.at(name).dump()};
    return;
  }
}

template <class Compare>
Comparison compare_files(const fs::path& first, const fs::path& second, Compare compare) {
  StepRows rows_a(first), rows_b(second);
  Comparison result;
  auto a = rows_a.next(), b = rows_b.next();
  while (a && b && !result.difference) {
    if (a->first == b->first) compare(*a, *b, result);
    const std::int64_t least = std::min(a->first, b->first);
    if (a->first == least) a = rows_a.next();
    if (b->first == least) b = rows_b.next();
  }
  return result;
}

std::string place_text(const nlohmann::json& place) {
  if (!place.contains("layer")) return place["name"].get<std::string>();
  return fmt::format("{} of {} {}, micro-batch {}", place["phase"].get<std::string>(),
                     place["layer"].get<std::string>(), place["name"].get<std::string>(),
                     place["micro"].dump());
}

bool has_file(const std::string& run, const char* name) {
  std::error_code ignored;
  return fs::exists(fs::path(run) / name, ignored);
}

bool is_run(const std::string& path) {
  return has_file(path, "metrics.jsonl") || has_file(path, "hashes.jsonl");
}

int run(const Options& options, Context& context) {
  if (!is_run(options.first) || !is_run(options.second))
    return diff_weights(options.first, options.second, context);
  const auto both = [&](const char* name) {
    return has_file(options.first, name) && has_file(options.second, name);
  };
  std::string what = "tensors";
  Comparison result;
  const fs::path a = options.first, b = options.second;
  if (both("hashes.jsonl"))
    result = compare_files(a / "hashes.jsonl", b / "hashes.jsonl", compare_hashes);
  if (result.rows == 0) {
    what = "numbers";
    note("no tensor hashes in both runs; train them with --log-hashes to see which tensor parts");
    result = compare_files(a / "metrics.jsonl", b / "metrics.jsonl", compare_metrics);
  }
  require(result.rows > 0, [&] {
    return Error(Exit::input,
                 {"the two runs have no step in common", options.first, "", options.second, {}});
  });
  const bool equal = !result.difference;
  if (context.json) {
    nlohmann::json out = {{"equal", equal}, {"compared", what}, {"rows", result.rows}};
    if (!equal) {
      out.update(result.difference->place);
      out["step"] = result.difference->step;
      out["first"] = result.difference->first;
      out["second"] = result.difference->second;
    }
    write_json(out);
  } else if (equal) {
    write_out(fmt::format("equal: {} {} compared\n", result.rows, what));
  } else {
    const Difference& d = *result.difference;
    write_out(fmt::format("the runs part at step {}: {}\n  {}: {}\n  {}: {}\n", d.step,
                          place_text(d.place), options.first, d.first, options.second, d.second));
  }
  return equal ? 0 : 1;
}

}  // namespace

void add_diff(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command = add_command(
      app, context, "diff",
      "Find where two runs part, or what weights of two checkpoints differ (exit code 1: "
      "they do)",
      run, o);
  command->add_option("first", o->first, "a run, or any checkpoint")->required()->type_name("RUN");
  command
      ->add_option("second", o->second,
                   "another: of two runs, their steps are compared; else weights")
      ->required()
      ->type_name("RUN");
}

}  // namespace sluice
