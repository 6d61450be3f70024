// sluice report: what runs looked like, as a page with curves.
#include "report/report.h"

#include <filesystem>

#include "command.h"
#include "core/file.h"

namespace sluice {
namespace {

struct Options {
  std::vector<std::string> runs;
  std::string out;
};

nlohmann::json to_json(const RunHistory& run) {
  const auto known = [](double value) {
    return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
  };
  nlohmann::json out = {{"folder", run.folder},
                        {"name", run.name},
                        {"key", run.key},
                        {"digest", run.digest},
                        {"parameters", run.parameters},
                        {"steps", run.steps.back().step},
                        {"planned_steps", run.planned_steps},
                        {"tokens", known(run.tokens())},
                        {"flops", known(run.flops())},
                        {"seconds", known(run.seconds())},
                        {"loss", known(run.steps.back().loss)}};
  if (!run.validations.empty()) out["val_loss"] = known(run.validations.back().loss);
  return out;
}

int run(const Options& options, Context& context) {
  std::vector<RunHistory> runs;
  for (const std::string& folder : options.runs) runs.push_back(read_history(folder));
  const std::string page = report_page(runs);
  const std::string beside = (std::filesystem::path(options.runs[0]) / "report.html").string();
  const std::string& file = !options.out.empty()       ? options.out
                            : options.runs.size() == 1 ? beside
                                                       : std::string("report.html");
  write_file_atomic(file, page);
  if (context.json) {
    nlohmann::json rows = nlohmann::json::array();
    for (const RunHistory& one : runs) rows.push_back(to_json(one));
    write_json({{"file", file}, {"bytes", page.size()}, {"runs", rows}});
  } else {
    write_out(fmt::format("{}\n", file));
  }
  return 0;
}

}  // namespace

void add_report(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command = add_command(app, context, "report", "A page with the curves of runs", run, o);
  command->add_option("runs", o->runs, "folders that `sluice train` wrote; all in one picture")
      ->required()
      ->type_name("RUN");
  command
      ->add_option("--out", o->out,
                   "the page (default: report.html in the run, or here when there are several)")
      ->type_name("FILE");
}

}  // namespace sluice
