// The config of a run: model, data, batch, optimizer, plan and run, from a TOML file, a built-in
// name and the command line.
//
// Config is a plain value. Where each key was set travels with it, so that every later complaint
// can say "mine.toml:4 model.width". Everything here is Exit::usage when it refuses. Pure
// functions but for reading the file; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/options.h"
#include "models/config.h"
#include "optim/optim.h"
#include "program/plan.h"

namespace sluice {

struct DataConfig {
  std::string train;       // prefix of token shards
  std::string validation;  // the same; empty: no validation
  std::string documents = "join";
};

struct BatchConfig {
  std::int64_t tokens = 524'288;  // of the whole step, before any ramp
  std::string ramp;               // "DONE:TOKENS, …": after DONE tokens, steps have TOKENS
  std::int64_t sequence = 1024;   // tokens
};

struct RunConfig {
  std::int64_t tokens = 0;  // 0: not said; a plan needs none
  std::int64_t validate_every = 250;
  std::int64_t validate_tokens = 0;  // 0: all of them
  std::int64_t save_every = 500;
  std::int64_t sample_every = 0;
  std::int64_t keep_last = 3;
  std::int64_t keep_every = 0;  // steps; their checkpoints stay for good
  bool keep_best = false;       // by validation loss
  std::int64_t seed = 0;
  std::int64_t threads = 0;  // 0: those that this process may use
  std::string isa = "auto";
  std::string sample_prompt;
  std::int64_t sample_tokens = 64;
  std::int64_t norms_every = 0;  // steps
  bool tensorboard = false;
  bool log_hashes = false;
  bool poison = false;
  bool eager = false;
  bool sync = false;
  std::string name;  // empty in a file: the file's name without ".toml"
};

void describe(OptionTable& table, DataConfig& config);
void describe(OptionTable& table, BatchConfig& config);
void describe(OptionTable& table, RunConfig& config);

struct Config {
  ModelConfig model;
  DataConfig data;
  BatchConfig batch;
  OptimConfig optim;
  PlanConfig plan;
  RunConfig run;
  std::map<std::string, std::string, std::less<>> places;  // key → "mine.toml:4", "command line"

  // "mine.toml:4 model.width", or the key alone when it has its default.
  std::string place(std::string_view key) const;
};

// Every option of `config`, in the order of the saved file. It points into `config`.
OptionTable table_of(Config& config);

// A built-in name, or the path of a TOML file of at most 1 MiB. A file that has a published model's
// name, its run.name saying no other, must reach the parameters that were published; options on the
// command line come later and may make any model of it.
Config load_config(const std::string& name_or_path);
// The same from text; `file` is what errors call it.
Config parse_config(std::string_view toml, const std::string& file);
// "section.key=value" as on the command line: "--" in front is allowed, '-' in a key means '_', the
// value is bare text.
void apply_overrides(Config& config, std::span<const std::string> overrides);

// batch.ramp, read. Exit::usage unless it is a list of sizes in whole sequences whose boundaries
// ascend.
std::vector<RunLength::Boundary> ramp_of(const Config& config);

// The whole config as TOML; parse_config() of it gives the same config and the same key.
std::string to_toml(const Config& config);
// All options by section, for --help.
std::string help_text();
std::vector<std::string> builtin_names();
// The TOML of a built-in, comments included. REQUIRES: one of builtin_names().
std::string_view builtin_text(std::string_view name);

// Refuses a model that has the published `name` without its published parameters.
void check_published(const Config& config, const std::string& name);
// Refuses what makes no model, batch or run. run.tokens = 0 passes: a plan needs none.
void check(const Config& config);
// check(), and refuses what cannot be trained: no data.train, run.tokens below one step.
void check_trainable(const Config& config);

// Steps are whole: what is left of run.tokens after the last one is not trained on. A plan without
// run.tokens has 0 steps. REQUIRES: check() passed.
RunLength length_of(const Config& config);
// plan.attention, resolved: our own on a CPU, and where documents of a row are kept apart.
AttentionKernels attention_of(const Config& config, bool gpu);
// Whether GELU is made in its product (graph/numerics.h): on a GPU, in models up to a size.
bool gelu_in_product(const Config& config, bool gpu);
// program/plan.h's resolve() for this config, its errors with places. REQUIRES: check() passed.
Plan plan_of(const Config& config);

}  // namespace sluice
