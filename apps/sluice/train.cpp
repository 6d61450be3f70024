// sluice train: the one loop.
#include <sstream>

#include "command.h"
#include "train/key.h"
#include "train/run.h"

namespace sluice {
namespace {

struct Options {
  std::string config, out, change, resume = "auto";
  bool list = false, log_hashes = false;
};

int list_builtins(const Context& context) {
  const std::vector<std::string> names = builtin_names();
  if (context.json)
    write_json({{"configs", names}});
  else
    write_out(fmt::format("{}\n", fmt::join(names, "\n")));
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
  std::vector<std::string> overrides = context.overrides;
  if (options.log_hashes) overrides.push_back("run.log_hashes=true");
  apply_overrides(request.config, overrides);
  request.out = options.out;
  if (!options.change.empty()) request.accepted_changes = parse_accepted(options.change);
  request.resume = options.resume;
  request.faults = &context.faults;
  request.stop_signal = context.stop_signal;
  request.json = context.json;
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
  command->add_option("--out", o->out, "the run's folder (default: runs/NAME-KEY)")
      ->type_name("DIR");
  command->add_option("--resume", o->resume, "auto: go on where the folder's run stopped; or never")
      ->check(one_of({"auto", "never"}))
      ->type_name("HOW");
  command->add_option("--change", o->change, "options that may differ from the run's, a,b,…")
      ->type_name("KEYS");
  command->add_flag("--log-hashes", o->log_hashes, "for sluice diff: a hash of every tensor");
  command->footer([] { return "\n--section.key=value sets an option:\n\n" + help_text(); });
}

}  // namespace sluice
