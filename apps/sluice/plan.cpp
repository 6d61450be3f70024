// sluice plan: what a run would take, without taking it.
#include "backend/cpu/host.h"
#include "command.h"
#include "train/assembly.h"
#include "train/config.h"

namespace sluice {
namespace {

struct Options {
  std::string config, show;
};

int run(const Options& options, Context& context) {
  Config config = load_config(options.config);
  apply_overrides(config, context.overrides);
  check(config);
  (void)options;
  return 0;
}

}  // namespace

void add_plan(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "plan", "Say what a run would take, without taking it", run, o);
  command->add_option("config", o->config, "a TOML file or a built-in name")
      ->required()
      ->type_name("CONFIG");
  command->add_option("--show", o->show, "graph, program or memory")
      ->check(CLI::IsMember({"graph", "program", "memory"}))
      ->type_name("WHAT");
}

}  // namespace sluice
