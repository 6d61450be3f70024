// sluice train: the one loop.
#include <algorithm>

#include "command.h"
#include "models/published.h"
#include "train/key.h"
#include "train/run.h"

namespace sluice {
namespace {

struct Options {
  std::string config, from, out, change, machine, plan, algorithms, resume = "auto";
  bool list = false, log_hashes = false, eager = false, sync = false;
  std::int64_t trace = 0;
};

struct Listed {
  std::string name;
  std::int64_t parameters = 0, tokens = 0;
};

// The built-in configs, those of one paper together and by size.
std::vector<Listed> builtins_by_size() {
  std::vector<Listed> out;
  for (const std::string& name : builtin_names()) {
    const Config config = load_config(name);
    out.push_back({name, parameters_of(config.model), config.run.tokens});
  }
  const auto order = [](const Listed& listed) {
    return std::pair(listed.name.substr(0, listed.name.rfind('-')), listed.parameters);
  };
  std::sort(out.begin(), out.end(),
            [&](const Listed& a, const Listed& b) { return order(a) < order(b); });
  return out;
}

int list_builtins(const Context& context) {
  nlohmann::json configs = nlohmann::json::array();
  for (const auto& [name, parameters, tokens] : builtins_by_size()) {
    configs.push_back({{"name", name}, {"parameters", parameters}, {"tokens", tokens}});
    if (!context.json)
      write_out(fmt::format("{:<18} {:>16} parameters {:>16} tokens\n", name, parameters, tokens));
  }
  if (context.json) write_json({{"configs", configs}});
  return 0;
}

int run(const Options& options, Context& context) {
  if (options.list) return list_builtins(context);
  require(!options.config.empty(), [] {
    return Error(Exit::usage, {"train what?",
                               "command line",
                               "a config file or the name of a built-in config",
                               "nothing",
                               {"sluice train --list"}});
  });
  TrainRequest request;
  request.config = load_config(options.config);
  if (!options.plan.empty()) {
    request.plan = load_plan_file(options.plan);
    request.config = with_plan(std::move(request.config), *request.plan);
  }
  std::vector<std::string> overrides = context.overrides;
  if (options.log_hashes) overrides.push_back("run.log_hashes=true");
  if (options.eager) overrides.push_back("run.eager=true");
  if (options.sync) overrides.push_back("run.sync=true");
  apply_overrides(request.config, overrides);
  if (!options.from.empty()) {
    request.from = find_checkpoint(options.from);
    request.config = with_model_of(std::move(request.config), *request.from);
  }
  request.out = options.out;
  if (!options.change.empty()) request.accepted_changes = parse_accepted(options.change);
  request.resume = options.resume;
  request.faults = &context.faults;
  request.stop_signal = context.stop_signal;
  request.json = context.json;
  request.trace = options.trace;
  request.bar = context.draws;
  request.machine = options.machine;
  request.machine_file = context.machine_file;
  request.algorithms = options.algorithms;
  request.algorithms_file = context.algorithms_file;
  context.catch_signals();
  return static_cast<int>(train(request));
}

}  // namespace

void add_train(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "train", "Train a model, or go on training it", run, o);
  command->add_option("config", o->config, "a TOML file or a built-in name")->type_name("CONFIG");
  command->add_flag("--list", o->list, "list the built-in configs");
  command
      ->add_option("--from", o->from,
                   "begin with the weights and the model of a checkpoint: a run, a step or a "
                   "Hugging Face folder")
      ->type_name("DIR");
  command->add_option("--out", o->out, "the run's folder (default: runs/NAME-KEY)")
      ->type_name("DIR");
  command->add_option("--resume", o->resume, "auto: go on where the folder's run stopped; or never")
      ->check(one_of({"auto", "never"}))
      ->type_name("HOW");
  command->add_option("--change", o->change, "options that may differ from the run's, a,b,…")
      ->type_name("KEYS");
  command
      ->add_option("--machine", o->machine,
                   "what `sluice doctor --save` wrote of this machine: the run is compared with it")
      ->type_name("FILE");
  add_plan_option(*command, o->plan);
  command
      ->add_option("--algorithms", o->algorithms,
                   "multiply by the algorithms.json of another run on such a GPU, untuned")
      ->type_name("FILE");
  command->add_flag("--log-hashes", o->log_hashes, "for sluice diff: a hash of every tensor");
  command->add_flag("--eager", o->eager, "on a GPU, launch every kernel by itself");
  command->add_flag("--sync", o->sync, "on a GPU, wait after every op: an error then names it");
  command
      ->add_option("--trace", o->trace,
                   "record N steady steps in the run's trace.json, for ui.perfetto.dev")
      ->check(between(1, 1000))
      ->type_name("N");
  command->footer([] { return "\n--section.key=value sets an option:\n\n" + help_text(); });
}

}  // namespace sluice
