#include "train/plan_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "core/file.h"
#include "train/this_machine.h"

namespace sluice {
namespace {

constexpr std::size_t most_bytes = std::size_t{1} << 20;
constexpr const char* anew = "sluice plan CONFIG --save FILE, to plan for this one";

std::string section_of(const std::string& key) { return key.substr(0, key.find('.')); }

// The model in sizes that leave nothing to a rule.
ModelConfig sized(ModelConfig model) {
  model.inner = model.inner_width();
  return model;
}

void describe(OptionTable& table, PlanMachine& c) {
  const Effect free = Effect::free;
  table.add("machine.device", &c.device, free, "what computes").choices = {"cpu", "cuda"};
  table.add("machine.model", &c.model, free, "of the device");
  table.add("machine.isa", &c.isa, free, "instructions of a CPU");
  table.add("machine.threads", &c.threads, free, "that compute");
  table.add("machine.memory", &c.memory, free, "bytes of the device, at least");
  table.add("machine.host_memory", &c.host_memory, free, "bytes of the host, at least");
}

// Points into the file.
OptionTable table_of(PlanFile& file) {
  OptionTable table;
  table.add("version", &file.version, Effect::free, "of this format");
  describe(table, file.model);
  describe(table, file.batch);
  describe(table, file.machine);
  describe(table, file.plan);
  return table;
}

struct Difference {
  std::string key, needed, found;
};

// Keys of `section`, but for those of `but`, that two tables say otherwise.
std::vector<Difference> differences(const OptionTable& file, const OptionTable& present,
                                    std::string_view section,
                                    const std::vector<std::string_view>& but = {}) {
  std::vector<Difference> out;
  for (const Option& now : present.options()) {
    if (section_of(now.key) != section || std::find(but.begin(), but.end(), now.key) != but.end())
      continue;
    const std::string was = file.require_key(now.key, "").text();
    if (was != now.text()) out.push_back({now.key, now.text(), was});
  }
  return out;
}

void require_none(const PlanFile& file, const std::vector<Difference>& found, const char* what) {
  if (found.empty()) return;
  std::vector<std::string> expected, is;
  for (const Difference& one : found) {
    expected.push_back(fmt::format("{} = {}", one.key, one.needed));
    is.push_back(fmt::format("{} = {}", one.key, one.found));
  }
  throw Error(Exit::usage, {fmt::format("the plan was made for another {}", what),
                            file.place(found.front().key),
                            fmt::format("{}", fmt::join(expected, ", ")),
                            fmt::format("{}", fmt::join(is, ", ")),
                            {anew}});
}

std::vector<Difference> machine_differences(const PlanMachine& file, const PlanMachine& present) {
  std::vector<Difference> out;
  const auto compare = [&](bool same, const char* key, const auto& needed, const auto& found) {
    if (!same) out.push_back({key, fmt::format("{}", needed), fmt::format("{}", found)});
  };
  compare(file.device == present.device, "machine.device", present.device, file.device);
  compare(file.model == present.model, "machine.model", present.model, file.model);
  compare(present.isa.empty() || file.isa == present.isa, "machine.isa", present.isa, file.isa);
  compare(present.threads == 0 || file.threads == present.threads, "machine.threads",
          present.threads, file.threads);
  compare(file.memory <= present.memory, "machine.memory",
          fmt::format("at most {}", present.memory), file.memory);
  compare(file.host_memory <= present.host_memory, "machine.host_memory",
          fmt::format("at most {}", present.host_memory), file.host_memory);
  return out;
}

void require_version(const PlanFile& file, const std::string& name) {
  require(file.version == PlanFile::newest, [&] {
    return Error(Exit::usage, {"the plan file is of another version",
                               file.places.contains("version") ? file.place("version") : name,
                               fmt::format("{}", PlanFile::newest),
                               fmt::format("{}", file.version),
                               {"sluice plan CONFIG --save FILE, for one of this version"}});
  });
}

void require_whole(const OptionTable& table, const std::string& name) {
  for (const Option& option : table.options())
    require(table.was_set(option.key) || option.key == "plan.blobs", [&] {
      return Error(Exit::usage, {fmt::format("the plan file does not say {}", option.key),
                                 name,
                                 fmt::format("{} = {}", option.key, option.type_text()),
                                 "nothing",
                                 {"sluice plan CONFIG --save FILE, for a whole one"}});
    });
}

}  // namespace

PlanMachine plan_machine(const Machine& machine, int threads) {
  return {machine.device,
          machine.model,
          machine.isa,
          threads,
          static_cast<std::int64_t>(machine.device_memory.value),
          static_cast<std::int64_t>(machine.host_memory.value)};
}

PlanMachine plan_machine(const ThisMachine& machine) {
  return {"cpu",          machine.id.cpu, machine.id.isa, machine.id.threads,
          machine.memory, machine.memory};
}

std::string PlanFile::place(std::string_view key) const {
  const auto found = places.find(key);
  return found == places.end() ? std::string(key) : fmt::format("{} {}", found->second, key);
}

PlanConfig chosen(const PlanConfig& asked, const Plan& plan, const PlanMachine& machine) {
  PlanConfig out = asked;
  if (machine.device == "cpu" || out.device == "auto") out.device = machine.device;
  out.micro_batch = plan.micro_batch;
  out.head_chunk = plan.head_chunk;
  out.schedule = plan.passes == 0 ? "micro-batch-major" : "layer-major";
  out.passes = plan.passes;
  out.homes = plan.homes;
  out.blobs = name_of(plan.blobs);
  out.slots = plan.slots;
  out.stash = !plan.spill_stash               ? "kept"
              : plan.stash_slots > plan.slots ? fmt::format("spilled@{}", plan.stash_slots)
                                              : "spilled";
  out.recompute = name_of(plan.recompute);
  out.precision = plan.numerics.precision == DType::bf16 ? "bf16" : "float32";
  out.state = name_of(plan.numerics.state);
  out.gradients = name_of(plan.numerics.gradients);
  out.attention = name_of(plan.numerics.attention);
  return out;
}

PlanFile plan_file(const Config& config, const Plan& plan, const PlanMachine& machine) {
  PlanFile out;
  out.model = sized(config.model);
  out.batch = config.batch;
  out.machine = machine;
  out.plan = chosen(config.plan, plan, machine);
  return out;
}

std::string to_toml(const PlanFile& file) {
  PlanFile copy = file;
  const OptionTable table = table_of(copy);
  std::string out =
      "# How a run is cut and where everything lives. --plan with this file takes it as it is;\n"
      "# [plan] may be edited, and \"auto\" leaves a choice to the planner.\n";
  std::string section;
  for (const Option& option : table.options()) {
    const std::string own = section_of(option.key);
    if (own == option.key) {
      out += fmt::format("{} = {}\n", option.key, option.text());
      continue;
    }
    if (own != section) out += fmt::format("\n[{}]\n", own);
    if (own == "model" && own != section) out += "# What it was made for, from here to [plan].\n";
    section = own;
    const std::string line =
        fmt::format("{} = {}", option.key.substr(own.size() + 1), option.text());
    const bool explained = own == "plan" || own == "machine";
    out += explained ? fmt::format("{:<36} # {}\n", line, option.help) : line + "\n";
  }
  return out;
}

PlanFile parse_plan_file(std::string_view text, const std::string& name) {
  PlanFile out;
  OptionTable table = table_of(out);
  try {
    out.places = read_options(text, name, table, "a key of plan files");
  } catch (const Error&) {
    require_version(out, name);  // another one may have other keys
    throw;
  }
  require_version(out, name);
  if (!table.was_set("plan.blobs")) {  // of before blocks could be cut
    out.plan.blobs = name_of(Blobs::layer);
    out.places["plan.blobs"] = name;
  }
  require_whole(table, name);
  return out;
}

PlanFile load_plan_file(const std::string& path) {
  try {
    return parse_plan_file(read_file(path, most_bytes), path);
  } catch (const Error& e) {
    throw Error(Exit::usage, e.report());  // an unusable file is wrong usage, as a config is
  }
}

Config with_plan(Config config, const PlanFile& file) {
  config.plan = file.plan;
  for (const auto& [key, place] : file.places)
    if (key.starts_with("plan.")) config.places[key] = place;
  return config;
}

void require_made_for(const PlanFile& file, const Config& config) {
  PlanFile was = file, now = file;
  now.model = sized(config.model);
  was.model = sized(file.model);
  now.batch = config.batch;
  const OptionTable before = table_of(was), present = table_of(now);
  require_none(file, differences(before, present, "model"), "model");
  require_none(file, differences(before, present, "batch"), "batch");
}

void require_made_for(const PlanFile& file, const ModelConfig& model) {
  PlanFile was = file, now = file;
  now.model = sized(model);
  was.model = sized(file.model);
  require_none(file,
               differences(table_of(was), table_of(now), "model",
                           {"model.context", "model.gelu", "model.norm_eps", "model.dropout",
                            "model.init.kind", "model.init.std", "model.init.output_std",
                            "model.init.embedding_std"}),
               "model");
}

void require_made_for(const PlanFile& file, const PlanMachine& machine) {
  require_none(file, machine_differences(file.machine, machine), "machine");
}

namespace {

bool is_auto(const Option& option) { return option.text() == "\"auto\""; }

// Assigns the value of another table's option.
void take(OptionTable& table, const Option& from) {
  std::string text = from.text();
  RawValue value{.value = text, .bare = true, .where = from.key};
  if (const auto* const* said = std::get_if<std::string*>(&from.target)) value.value = **said;
  if (text == "\"auto\"") value.value = "auto";
  table.set(from.key, value);
}

}  // namespace

KeptPlan with_kept(const Config& asked, const PlanFile& kept, const PlanMachine& machine) {
  KeptPlan out{asked, false, {}};
  Config before = asked;
  before.plan = kept.plan;
  OptionTable was = table_of(before), now = table_of(out.config);
  Config copy = asked;
  const OptionTable said = table_of(copy);
  if (const auto other = machine_differences(kept.machine, machine); !other.empty()) {
    out.planned_anew = true;
    out.messages.push_back(fmt::format("planned anew: the run's plan was made for {} = {}",
                                       other.front().key, other.front().found));
  }
  const auto on_line = [&](const std::string& key) {
    const auto found = asked.places.find(key);
    return found != asked.places.end() && found->second == "command line";
  };
  const auto is_free = [](const Option& option) {
    return option.effect == Effect::free && option.key != "plan.disk_path";
  };
  for (const Option& option : was.options())
    if (is_free(option) && on_line(option.key))
      out.planned_anew =
          out.planned_anew || said.require_key(option.key, "").text() != option.text();
  for (const Option& option : was.options()) {
    if (section_of(option.key) != "plan" || on_line(option.key)) continue;
    const Option& here = said.require_key(option.key, "");
    const bool differs = here.text() != option.text();
    if (!differs || (out.planned_anew && is_free(option))) continue;
    if (option.effect == Effect::numerics && !is_auto(here)) continue;
    if (!is_auto(here) && asked.places.contains(option.key))
      out.messages.push_back(fmt::format("the run keeps its plan, {} = {}, not that of {}",
                                         option.key, option.text(), asked.place(option.key)));
    take(now, option);
    out.config.places[option.key] = kept.places.find(option.key)->second;
  }
  return out;
}

}  // namespace sluice
