#include "inference/session.h"

#include <algorithm>

#include "backend/cpu/cpu.h"
#include "backend/cpu/host.h"
#include "backend/cuda/cuda.h"
#include "checkpoint/model_files.h"
#include "checkpoint/weight_files.h"
#include "inference/assembly.h"
#include "planner/budget.h"
#include "planner/memory_report.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t evaluation_tokens = 2048;  // of one micro-batch, unless a window is longer

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

ModelFolder newest_of_run(const fs::path& run, CheckDepth depth) {
  NewestVerified newest = newest_verified(run, depth);
  if (!newest.checkpoint) {
    const std::string first = newest.skipped.empty() ? "none at all" : newest.skipped[0].what;
    throw Error(Exit::input, {"no checkpoint of this run can be used",
                              run.string(),
                              "a whole step in checkpoints/",
                              first,
                              {fmt::format("sluice verify {}", run.string())}});
  }
  return {newest.checkpoint->path, newest.checkpoint->step, newest.checkpoint->run,
          std::move(newest.skipped)};
}

// The programs, and where their weights live: of whole blocks, and where nobody has said so and
// these do not fit, of parts.
ProgramSpec place(const ModelConfig& model, InferenceOptions options, const PlanConfig& plan,
                  WeightPlacement& placement) {
  const auto as = [&](Blobs blobs) {
    options.blobs = blobs;
    ProgramSpec spec = inference_spec(model, standard_parametrization(), options);
    placement = place_weights(spec, plan);
    placement.blobs = blobs;
    spec.options.homes = placement.parsed;
    return spec;
  };
  if (plan.blobs == "parts") return as(Blobs::parts);
  try {
    return as(Blobs::layer);
  } catch (const BudgetError&) {
    if (plan.blobs == "layer") throw;
  }
  return as(Blobs::parts);
}

}  // namespace

ModelFolder resolve_checkpoint(const fs::path& path, CheckDepth depth) {
  if (present(path / "checkpoints")) return newest_of_run(path, depth);
  if (present(path / "manifest.json")) {
    Checkpoint step = open_checkpoint(path, depth);
    return {step.path, step.step, std::move(step.run), {}};
  }
  const bool config = present(path / "config.json"), weights = weight_file_of(path).has_value();
  if (config && weights) return {path, std::nullopt, nullptr, {}};
  throw Error(Exit::input,
              {"this is not a checkpoint",
               path.string(),
               "a run, one of its steps, or a folder with config.json and model.safetensors or "
               "pytorch_model.bin, whole or with an index",
               !present(path) ? "no such file or folder"
               : config       ? "config.json alone"
               : weights      ? "no config.json"
                              : "none of these",
               {}});
}

TokenizerPtr tokenizer_of(const ModelFolder& folder, const ModelConfig& model, std::string& why) {
  const bool lists = !folder.step && present(folder.path / "vocab.json");
  std::string file = "tokenizer.json";
  if (lists && !present(folder.path / file)) file = "vocab.json";
  const std::string path = (folder.path / file).string();
  if (!present(path)) {
    why = "the checkpoint has no tokenizer.json";
    return nullptr;
  }
  TokenizerPtr out;
  try {
    out = load_tokenizer(path);
  } catch (const Error& e) {
    // Any tokenizer may stand in a folder by others; in ours it is damage.
    if (folder.step) throw;
    why = e.report().what;
    return nullptr;
  }
  if (out->vocab_size() <= model.vocab) return out;
  if (!folder.step) {
    why = fmt::format("its {} has {} ids, the model {}", file, out->vocab_size(), model.vocab);
    return nullptr;
  }
  throw Error(Exit::input, {"the tokenizer has more ids than the model",
                            path,
                            fmt::format("at most {} ids", model.vocab),
                            fmt::format("{}", out->vocab_size()),
                            {}});
}

Session::Session(const ModelFolder& folder, const SessionOptions& options)
    : model_(read_model_config(folder.path)) {
  tokenizer_ = tokenizer_of(folder, model_, without_tokenizer_);
  sequence_ = options.sequence == 0 ? model_.context : options.sequence;

  InferenceOptions inference;
  inference.evaluation = {std::max<std::int64_t>(1, evaluation_tokens / sequence_), sequence_};
  if (options.rows > 0 && options.sequence == 1) inference.evaluation.batch = 1;
  inference.rows = options.rows;
  const int gpu = cuda_index(options.plan.device);
  if (gpu >= 0) (void)cuda_device(gpu);  // refused before anything is planned
  const int threads = options.threads > 0 ? options.threads : usable_threads();
  inference.packed = gpu < 0;
  inference.build.workers.threads = threads;
  inference.precision = options.precision.value_or(stored_precision(folder.path));
  const ProgramSpec spec = place(model_, inference, options.plan, placement_);
  const auto programs = std::make_shared<const ProgramSet>(build_programs(spec));
  const ProcessShape process = process_shape(*programs, threads, CpuBackend::scratch_bytes);
  const std::int64_t wanted =
      gpu < 0 ? memory_bytes(*programs, process_bytes(process)).total
              : memory_on_gpu(*programs, process_bytes(process), usual_cuda_rest).total;
  const std::int64_t available = gpu < 0 ? available_memory() : cuda_device(gpu).free;
  require(wanted <= available, [&] {
    return Error(Exit::memory, {"the model does not fit in memory",
                                folder.path.string(),
                                fmt::format("{} bytes", wanted),
                                fmt::format("{} bytes available", available),
                                {}});
  });

  backend_ = gpu < 0 ? std::make_unique<CpuBackend>(CpuBackend::Options{threads, best_isa()})
                     : make_cuda(gpu);
  if (const std::int64_t bytes = programs->memory.disk_bytes(); bytes > 0) {
    const std::string& path = options.plan.disk_path;
    faults_ = std::make_unique<Faults>();
    scratch_ =
        std::make_unique<ScratchFile>(path.empty() ? folder.path.string() : path, bytes,
                                      options.faults == nullptr ? *faults_ : *options.faults);
  }
  executor_ = std::make_unique<Executor>(
      *backend_, programs,
      ExecutorOptions{.poison = options.poison, .poison_seed = 1, .scratch = scratch_.get()});
  load_model(
      folder.path, model_, model_tensors(*programs->model, model_),
      [&](int layer, const std::string& value) { return executor_->tensor(layer, value); },
      options.weights);
  executor_->enqueue(programs->index_of("derive"), {});
  executor_->drain();
}

}  // namespace sluice
