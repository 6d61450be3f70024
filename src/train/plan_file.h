// A plan as a file that a person can read and edit: `sluice plan CONFIG --save FILE` writes one,
// every run keeps one, `--plan FILE` loads it. Every choice is said in it, so nothing is chosen
// anew.
//
// The file names what the plan was made for, model, batch and machine, and is refused for anything
// else. It is read as something that anyone may have written: all of it is checked. Values; pure
// functions but for reading the file; any thread. Everything here is Exit::usage when it refuses.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "planner/description.h"
#include "train/config.h"
#include "train/options_toml.h"

namespace sluice {

struct ThisMachine;

// What of a machine a plan was made for.
struct PlanMachine {
  std::string device = "cpu";  // "cpu" or "cuda"
  std::string model;           // of the device
  std::string isa;             // of a CPU's kernels
  std::int64_t threads = 1;
  std::int64_t memory = 0, host_memory = 0;  // bytes: of the device, of the host
};
PlanMachine plan_machine(const Machine& machine, int threads);
PlanMachine plan_machine(const ThisMachine& machine);

struct PlanFile {
  static constexpr std::int64_t newest = 1;

  std::int64_t version = newest;
  ModelConfig model;
  BatchConfig batch;
  PlanMachine machine;
  PlanConfig plan;
  Places places;  // of each key, when it was read from a file

  std::string place(std::string_view key) const;
};

// The options of [plan] as they were chosen, none left to choose but budgets that nobody set, and
// the passes of a micro-batch-major schedule, which has its own.
PlanConfig chosen(const PlanConfig& asked, const Plan& plan, const PlanMachine& machine);
PlanFile plan_file(const Config& config, const Plan& plan, const PlanMachine& machine);

// With what each option means; parse_plan_file() of it gives the same.
std::string to_toml(const PlanFile& file);
// Refuses unknown keys, missing ones and other versions, too.
PlanFile parse_plan_file(std::string_view text, const std::string& name);
// At most 1 MiB.
PlanFile load_plan_file(const std::string& path);

// The config with the file's plan in the place of its own: what comes after it on the command line
// overrides that.
Config with_plan(Config config, const PlanFile& file);

// Refuses a plan that was made for another model or batch, naming each difference.
void require_made_for(const PlanFile& file, const Config& config);
// The same of a model alone, which is used and not trained: its sizes count.
void require_made_for(const PlanFile& file, const ModelConfig& model);
// Refuses a plan of another machine: device, its model, instruction set and threads must be the
// same, memory at least what it was. isa empty and threads 0: not looked at.
void require_made_for(const PlanFile& file, const PlanMachine& machine);

// What a run goes on with that began with the plan `kept`: numerics as `asked` where that says
// them, else as kept; the rest as kept, unless the command line says otherwise. Then what it leaves
// open is open again, as it is on a machine that the plan was not made for.
struct KeptPlan {
  Config config;
  bool planned_anew = false;
  std::vector<std::string> messages;  // for a person
};
KeptPlan with_kept(const Config& asked, const PlanFile& kept, const PlanMachine& machine);

}  // namespace sluice
