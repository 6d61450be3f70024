// sluice verify: is every byte what was written?
#include <filesystem>

#include "checkpoint/model_files.h"
#include "checkpoint/weight_files.h"
#include "command.h"
#include "data/shards.h"
#include "models/family.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string path;
};

// One thing that was checked.
struct Verdict {
  std::string path;
  std::string what;  // what its being good means
  std::vector<Report> problems;
};

bool found(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Verdict verify_step(const fs::path& folder) {
  Verification result = verify_checkpoint(folder);
  std::int64_t bytes = 0;
  for (const ManifestFile& file : result.manifest.files) bytes += file.size;
  return {folder.string(), fmt::format("{} files, {} bytes", result.manifest.files.size(), bytes),
          std::move(result.problems)};
}

std::vector<Verdict> verify_run(const fs::path& run) {
  std::vector<fs::path> folders;
  for (const fs::directory_entry& entry : fs::directory_iterator(run / "checkpoints"))
    if (step_of_folder(entry.path().filename().string()) >= 0) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  require(!folders.empty(), [&] {
    return Error(Exit::input,
                 {"this run has no checkpoint", run.string(), "checkpoints/step-…", "none", {}});
  });
  std::vector<Verdict> out;
  for (const fs::path& folder : folders) out.push_back(verify_step(folder));
  return out;
}

// Problems that readers throw are verdicts here.
template <class Check>
Verdict checked(const std::string& path, Check check) {
  try {
    return {path, check(), {}};
  } catch (const Error& e) {
    if (e.code() != Exit::input) throw;
    return {path, "", {e.report()}};
  }
}

Verdict verify_folder(const std::string& path) {
  return checked(path, [&] {
    const ModelFolder folder = resolve_checkpoint(path);
    const ModelConfig model = read_model_config(folder.path);
    const WeightFiles files = WeightFiles::open(folder.path);
    check_weights(files, model, model_tensors(model));
    const bool hashes = files.verify();
    return fmt::format("{} tensors, those of its config.json; {}", files.tensors().size(),
                       hashes ? "their CRC-32 agree" : "there are no hashes to compare");
  });
}

Verdict verify_tokens(const std::string& path) {
  return checked(path, [&] {
    const TokenFile tokens(path);
    tokens.verify();
    return fmt::format("{} tokens{}", tokens.tokens(),
                       tokens.tokenizer() ? "" : "; there are no hashes to compare");
  });
}

std::vector<Verdict> verify(const std::string& path) {
  if (found(fs::path(path) / "checkpoints")) return verify_run(path);
  if (found(fs::path(path) / "manifest.json")) return {verify_step(path)};
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return {verify_folder(path)};
  return {verify_tokens(path)};
}

int run(const Options& options, Context& context) {
  const std::vector<Verdict> verdicts = verify(options.path);
  bool good = true;
  nlohmann::json checked = nlohmann::json::array();
  for (const Verdict& verdict : verdicts) {
    good &= verdict.problems.empty();
    nlohmann::json problems = nlohmann::json::array();
    for (const Report& problem : verdict.problems) {
      problems.push_back(to_json(problem));
      fmt::print(stderr, "{}", Error(Exit::input, problem).text());
    }
    checked.push_back(
        {{"path", verdict.path}, {"ok", verdict.problems.empty()}, {"problems", problems}});
    if (!context.json && verdict.problems.empty())
      write_out(fmt::format("good: {} ({})\n", verdict.path, verdict.what));
  }
  if (context.json) write_json({{"ok", good}, {"checked", checked}});
  return static_cast<int>(good ? Exit::ok : Exit::input);
}

}  // namespace

void add_verify(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command =
      add_command(app, context, "verify",
                  "Check every file of a run, step or shard set against its hash", run, o);
  command->add_option("path", o->path, "a run, a step, a Hugging Face folder, or shards' prefix")
      ->required()
      ->type_name("PATH");
}

}  // namespace sluice
