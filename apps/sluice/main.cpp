// The command line: argv, the environment and signals are seen here and nowhere else.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <sstream>

#include "command.h"

namespace sluice {
namespace {

constexpr std::string_view version = "sluice 0.1.0\n";

constexpr std::string_view welcome =
    "sluice trains GPT-style language models and uses them: text to tokens, tokens to a\n"
    "checkpoint that Transformers loads, a checkpoint to text. Larger than memory, it streams.\n"
    "\n"
    "Three things to try:\n"
    "  sluice prepare book.txt --tokenizer bytes --out data/book --validation 0.1\n"
    "  sluice train gpt2-124m --data.train=data/book --out runs/book\n"
    "  sluice generate --checkpoint runs/book --prompt \"It was\" --interactive\n"
    "\n"
    "  sluice train --list     what is built in     sluice doctor    what this machine can do\n"
    "  sluice report RUN       its curves           sluice plan X    what a run would take\n"
    "\n"
    "sluice --help lists all commands, sluice COMMAND --help its options, sluice man the pages.\n";

// A handler may touch nothing but this.
std::atomic<int> stop_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);

void catch_signals() {
  struct sigaction action = {};
  action.sa_handler = [](int signal) { stop_signal.store(signal, std::memory_order_relaxed); };
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) sigaction(signal, &action, nullptr);
}

std::string default_assets() {
  if (const char* folder = std::getenv("SLUICE_ASSETS")) return folder;
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  return (program.parent_path().parent_path() / "assets").string();
}

// Where XDG's rules put what can be measured again.
std::string cache_file(const char* file) {
  const auto folder = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value != nullptr && value[0] == '/' ? value : "";  // a relative path is to be ignored
  };
  std::string cache = folder("XDG_CACHE_HOME");
  if (const std::string home = folder("HOME"); cache.empty() && !home.empty())
    cache = home + "/.cache";
  return cache.empty() ? cache : cache + "/sluice/" + file;
}

// NO_COLOR needs no look: nothing is coloured.
bool stderr_draws() {
  const char* terminal = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && terminal != nullptr && terminal[0] != '\0' &&
         std::string_view(terminal) != "dumb";
}

// The command's name: the first argument that is no option of ours.
std::string command_of(const std::vector<std::string>& arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--fault")
      ++i;
    else if (!arguments[i].starts_with('-'))
      return arguments[i];
  }
  return {};
}

// Takes "--section.key=value" out of `arguments`: the option table reads them, not the parser.
std::vector<std::string> take_overrides(std::vector<std::string>& arguments) {
  const auto is_override = [](const std::string& argument) {
    const std::string_view key = std::string_view(argument).substr(0, argument.find('='));
    return key.starts_with("--") && key.find('.') != std::string_view::npos;
  };
  std::vector<std::string> out;
  std::copy_if(arguments.begin(), arguments.end(), std::back_inserter(out), is_override);
  std::erase_if(arguments, is_override);
  return out;
}

Error parse_error(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> parsed =
      const_cast<CLI::App&>(app).get_subcommands();  // the const form lists all of them
  const CLI::App& command = parsed.empty() ? app : *parsed.front();
  Report report;
  report.where = "command line";
  report.tries = {fmt::format("sluice {}--help", parsed.empty() ? "" : command.get_name() + " ")};
  const std::vector<std::string> extras = app.remaining(true);
  if (extras.empty()) {
    report.what = error.what();
    return Error(Exit::usage, report);
  }
  const std::string word = extras.front().substr(0, extras.front().find('='));
  report.what = fmt::format("{} is not expected here", word);
  report.found = extras.front();
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  if (const std::string near = nearest(word, names); !near.empty()) report.tries = {near};
  return Error(Exit::usage, report);
}

void require_command(const CLI::App& app, const std::string& name) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  if (name.empty() || std::find(names.begin(), names.end(), name) != names.end()) return;
  const std::string near = nearest(name, names);
  throw Error(Exit::usage, {fmt::format("there is no command {}", name),
                            "command line",
                            fmt::format("one of {}", fmt::join(names, ", ")),
                            name,
                            {near.empty() ? "sluice --help" : "sluice " + near}});
}

int run(std::vector<std::string> arguments, Context& context) {
  CLI::App app("Trains GPT-style language models and uses them.", "sluice");
  app.require_subcommand(0, 1);
  app.fallthrough();
  bool show_version = false;
  std::string fault;
  app.add_flag("--version", show_version, "print the version");
  app.add_flag("--debug", context.debug, "errors with their source line and what led to them");
  app.add_flag("--json", context.json)->group("");  // before the command's name
  app.add_option("--fault", fault)->group("");      // for tests: core/fault.h
  for (const auto& add : {add_prepare, add_tokenize, add_train, add_eval, add_generate, add_export,
                          add_plan, add_inspect, add_verify, add_diff, add_doctor, add_bench,
                          add_report, add_completion, add_man})
    add(app, context);

  const std::string command = command_of(arguments);
  require_command(app, command);
  const std::vector<std::string> with_options{"train", "plan", "eval", "generate", "bench"};
  if (std::find(with_options.begin(), with_options.end(), command) != with_options.end())
    context.overrides = take_overrides(arguments);
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    app.parse(arguments);
  } catch (const CLI::Success& success) {  // --help
    std::ostringstream out, err;
    app.exit(success, out, err);
    write_out(out.str());
    return 0;
  } catch (const CLI::ParseError& error) {
    throw parse_error(app, error);
  }
  context.faults = Faults::parse(fault);
  if (show_version) write_out(version);
  if (!context.action && !show_version) write_out(welcome);
  return context.action ? context.action() : 0;
}

int report(const Error& error, const Context& context) {
  fmt::print(stderr, "{}", error.text(context.debug));
  if (context.json) {
    nlohmann::json object = to_json(error.report());
    object["code"] = static_cast<int>(error.code());
    write_json({{"error", object}});
  }
  return static_cast<int>(error.code());
}

int guarded_main(std::vector<std::string> arguments) {
  Context context;
  context.stop_signal = &stop_signal;
  context.catch_signals = catch_signals;
  context.assets = default_assets();
  context.machine_file = cache_file("machine.json");
  context.algorithms_file = cache_file("algorithms.json");
  context.draws = stderr_draws();
  // Known before parsing, so that errors of the parser obey them too.
  const auto given = [&](const char* flag) {
    return std::find(arguments.begin(), arguments.end(), flag) != arguments.end();
  };
  context.json = given("--json");
  context.debug = given("--debug");
  try {
    return run(std::move(arguments), context);
  } catch (const Error& e) {
    return report(e, context);
  } catch (const std::bad_alloc&) {
    return report(Error(Exit::memory, {"out of memory", {}, {}, {}, {}}), context);
  } catch (const std::exception& e) {
    return report(Error(Exit::internal, {e.what(), {}, {}, {}, {}}), context);
  }
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error that write() returns
  try {
    return sluice::guarded_main({argv + 1, argv + argc});
  } catch (const sluice::OutputClosed&) {
    return 128 + SIGPIPE;
  } catch (const sluice::Error&) {
    return static_cast<int>(sluice::Exit::disk);  // stdout failed while an error was told
  }
}
