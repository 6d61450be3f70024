#include "train/key.h"

#include <algorithm>
#include <map>

#include "core/hash.h"

namespace sluice {
namespace {

using Lines = std::map<std::string, std::string>;

constexpr std::string_view separator = " = ";
// What a device decides, unless an option was set.
constexpr const char* device_keys[] = {"backend", "fusions", "plan.attention", "run.isa"};
constexpr const char* fact_keys[] = {"algorithms", "backend", "data.checksum", "formats",
                                     "fusions"};

Lines lines_of(std::string_view text) {
  Lines lines;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t split = line.find(separator);
    if (split != std::string_view::npos)
      lines[std::string(line.substr(0, split))] = line.substr(split + separator.size());
  }
  return lines;
}

std::string quoted(const std::string& text) { return fmt::format("\"{}\"", text); }

std::string shown(const std::string& value) { return value.empty() ? "nothing" : value; }

bool is_model(std::string_view key) { return key.starts_with("model."); }
// Steps, cursor and schedule count in the batches that the run began with; another model has other
// tensors; and it began where it began.
bool is_fixed(std::string_view key) {
  return is_model(key) || key.starts_with("batch.") || key == "from";
}

}  // namespace

std::string NumericsKey::hash() const { return hex64(hash64(text)); }

NumericsKey numerics_key(const Config& config, const KeyFacts& facts) {
  Config copy = config;
  Lines lines = lines_of(table_of(copy).numerics_text());
  if (!facts.algorithms.empty()) lines["algorithms"] = quoted(facts.algorithms);
  lines["backend"] = quoted(facts.backend);
  lines["data.checksum"] = quoted(facts.data);
  lines["formats"] = quoted(facts.formats);
  lines["fusions"] = quoted(facts.fusions);
  if (!facts.from.empty()) lines["from"] = quoted(facts.from);
  lines["run.isa"] = quoted(facts.isa);
  lines["plan.micro_batch"] = fmt::format("{}", facts.plan.micro_batch);
  lines["plan.precision"] =
      quoted(facts.plan.numerics.precision == DType::bf16 ? "bf16" : "float32");
  lines["plan.state"] = quoted(std::string(name_of(facts.plan.numerics.state)));
  lines["plan.gradients"] = quoted(std::string(name_of(facts.plan.numerics.gradients)));
  // A CPU has one, as it had before there was a choice.
  lines.erase("plan.attention");
  if (facts.backend != "cpu")
    lines["plan.attention"] = quoted(std::string(name_of(facts.plan.numerics.attention)));
  lines["plan.head_chunk"] = fmt::format("{}", facts.plan.head_chunk);
  NumericsKey key;
  for (const auto& [name, value] : lines)
    key.text += fmt::format("{}{}{}\n", name, separator, value);
  return key;
}

std::vector<Change> compare_keys(std::string_view was, std::string_view now) {
  const Lines old_lines = lines_of(was), new_lines = lines_of(now);
  std::map<std::string, Change> changes;
  for (const auto& [key, value] : old_lines) changes[key] = {key, value, {}};
  for (const auto& [key, value] : new_lines) changes[key].key = key, changes[key].now = value;
  std::vector<Change> out;
  for (const auto& [key, change] : changes)
    if (change.was != change.now) out.push_back(change);
  return out;
}

std::string take_other_device(std::string_view was, std::string_view now,
                              std::vector<Change>& changes) {
  const Lines before = lines_of(was), after = lines_of(now);
  const auto of = [](const Lines& lines, const char* key) {
    const auto found = lines.find(key);
    return found == lines.end() ? std::string("nothing") : found->second;
  };
  const std::string old_backend = of(before, "backend"), backend = of(after, "backend");
  const std::string old_model = of(before, "run.isa"), model = of(after, "run.isa");
  const bool other_gpu = backend == quoted("cuda") && old_model != model;
  if (old_backend == backend && !other_gpu) return {};
  std::erase_if(changes, [](const Change& change) {
    return std::find(std::begin(device_keys), std::end(device_keys), change.key) !=
           std::end(device_keys);
  });
  return fmt::format(
      "this run goes on on another device: {} {}, until now {} {}; from here on its numbers may "
      "differ in their last bits, and its key is a new one",
      backend, model, old_backend, old_model);
}

std::vector<std::string> parse_accepted(std::string_view names) {
  Config defaults;
  const OptionTable table = table_of(defaults);
  std::vector<std::string> accepted;
  while (!names.empty()) {
    const std::string name(names.substr(0, names.find(',')));
    names.remove_prefix(std::min(names.size(), name.size() + 1));
    if (std::find(std::begin(fact_keys), std::end(fact_keys), name) == std::end(fact_keys))
      table.require_key(name, "command line --change");
    require(!is_fixed(name), [&] {
      return Error(Exit::usage, {fmt::format("{} cannot change within a run", name),
                                 fmt::format("command line --change {}", name),
                                 "an option outside [model] and [batch]",
                                 name,
                                 {"--out DIR for a run of its own"}});
    });
    accepted.push_back(name);
  }
  return accepted;
}

void require_accepted(const std::vector<Change>& changes, const std::vector<std::string>& accepted,
                      const std::string& where) {
  std::vector<std::string> found, all = accepted;
  bool same_model = true, acceptable = true;
  for (const Change& change : changes) {
    same_model = same_model && !is_model(change.key);
    acceptable = acceptable && !is_fixed(change.key);
    if (std::find(accepted.begin(), accepted.end(), change.key) != accepted.end()) continue;
    all.push_back(change.key);
    found.push_back(fmt::format("{} {} → {}", change.key, shown(change.was), shown(change.now)));
  }
  if (found.empty()) return;
  std::vector<std::string> tries{"--out DIR for a run of its own"};
  if (acceptable) tries.insert(tries.begin(), fmt::format("--change {}", fmt::join(all, ",")));
  throw Error(Exit::usage, {same_model ? "options that change the numbers differ from the run's"
                                       : "the folder holds a run of another model",
                            where, "what the run began with",
                            fmt::format("{}", fmt::join(found, "\n         ")), std::move(tries)});
}

}  // namespace sluice
