// What the commands share: the context of one call, and the three ways to say something. Each
// command is one file with one function that adds it to the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/fault.h"
#include "inference/session.h"

namespace sluice {

struct Context {
  bool json = false;                   // one JSON object on stdout instead of text
  bool debug = false;                  // errors with their source and chain
  std::vector<std::string> overrides;  // "--section.key=value", in their order
  std::map<std::string, std::string, std::less<>> places;  // where options of a plan were said
  Faults faults;
  const std::atomic<int>* stop_signal = nullptr;
  std::function<void()> catch_signals;  // from here on SIGINT and friends only set stop_signal
  std::string assets;                   // folder with gpt2/vocab.bpe, unless --assets says another
  std::string machine_file;     // what `sluice doctor` measured of this machine; empty: nowhere
  std::string algorithms_file;  // tables of algorithms that runs left; empty: nowhere
  bool draws = false;           // stderr is a terminal that can redraw a line
  std::function<int()> action;  // what the parsed command does; gives the exit code
};

void add_prepare(CLI::App& app, Context& context);
void add_tokenize(CLI::App& app, Context& context);
void add_train(CLI::App& app, Context& context);
void add_eval(CLI::App& app, Context& context);
void add_generate(CLI::App& app, Context& context);
void add_plan(CLI::App& app, Context& context);
void add_export(CLI::App& app, Context& context);
void add_inspect(CLI::App& app, Context& context);
void add_verify(CLI::App& app, Context& context);
void add_diff(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);
void add_bench(CLI::App& app, Context& context);
void add_report(CLI::App& app, Context& context);
void add_completion(CLI::App& app, Context& context);
void add_man(CLI::App& app, Context& context);

// Thrown when stdout's reader has gone: the command ends quietly, as one killed by SIGPIPE.
struct OutputClosed {};

// Data, to stdout, at once. Error (Exit::disk) when it cannot be written.
void write_out(std::string_view text);
// One line of JSON; bytes that are no UTF-8 become U+FFFD.
void write_json(const nlohmann::json& object);
// A line for a person, to stderr: "sluice: " in front.
void note(std::string_view line);

nlohmann::json to_json(const Report& report);
Error usage_error(std::string what, std::string expected, std::string found);

// Checks of option values, in words shorter than CLI11's own.
CLI::Validator at_least(std::int64_t least);
CLI::Validator between(std::int64_t least, std::int64_t most);  // whole numbers
CLI::Validator one_of(std::vector<std::string> words);

// resolve_checkpoint() that tells of what it skipped.
ModelFolder find_checkpoint(const std::string& path, CheckDepth depth = CheckDepth::hashes);

// --plan FILE.
void add_plan_option(CLI::App& command, std::string& file);

// How a checkpoint is read for use, shared by eval and generate.
struct ReadOptions {
  std::string plan;
  std::string precision = "auto";
  bool average = false;
  int threads = 0;
};
void add_read_options(CLI::App& command, ReadOptions& options);
// Of the plan file and the overrides, those of [plan] that say where weights live; other overrides
// are refused, and a file that was made for another model or machine.
SessionOptions session_options(const ReadOptions& options, Context& context,
                               const ModelFolder& folder);
// The options of [plan] that eval and generate take.
std::span<const std::string_view> plan_keys_in_use();
// A Session, with a note when its weights stream; errors of its plan name the command line.
Session open_session(const ModelFolder& folder, const SessionOptions& options, Context& context);

// Adds a command whose action is run(options). OPTIONS is its struct of options, made here.
template <class Options>
CLI::App* add_command(CLI::App& app, Context& context, const char* name, const char* help,
                      int (*run)(const Options&, Context&), std::shared_ptr<Options>& options) {
  options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(name, help);
  command->add_flag("--json", context.json, "print one JSON object");
  command->callback([&context, run, options] {
    context.action = [&context, run, options] { return run(*options, context); };
  });
  return command;
}

}  // namespace sluice
