#include "train/run.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "backend/cpu/host.h"
#include "core/file.h"
#include "graph/fusion.h"
#include "planner/simulate.h"
#include "train/algorithms.h"
#include "train/assembly.h"
#include "train/attention.h"
#include "train/device.h"
#include "train/disk_use.h"
#include "train/fit.h"
#include "train/hash_log.h"
#include "train/loop.h"
#include "train/peaks.h"
#include "train/planted.h"
#include "train/sampler.h"
#include "train/this_machine.h"
#include "train/tracing.h"
#include "train/validator.h"

namespace sluice {
namespace {

// Tokens on disk and what made them, and the weights that training begins with.
struct Data {
  explicit Data(const TrainRequest& request) : train(request.config.data.train) {
    const Config& config = request.config;
    if (!config.data.validation.empty()) validation.emplace(config.data.validation);
    for (TokenFile* file : {&train, validation ? &*validation : nullptr}) {
      if (file == nullptr) continue;
      file->limit_ids(static_cast<int>(config.model.vocab));
      if (train.tokenizer() && file != &train)
        require_tokenizer(*file, *train.tokenizer(), train.name());
    }
    if (train.tokenizer()) {
      require_vocabulary(request);
      tokenizer_path = train.tokenizer_path();
      tokenizer = load_tokenizer(tokenizer_path);
    }
    from = kept_start(request.out);
    if (request.from) use(open_start(*request.from, config.model));
  }

  void require_vocabulary(const TrainRequest& request) const {
    const TokenizerIdentity& tokens = *train.tokenizer();
    const std::int64_t vocab = request.config.model.vocab;
    if (tokens.vocab <= vocab) return;
    std::string remedy = fmt::format("model.vocab = {}", tokens.vocab);
    if (request.from)
      remedy = fmt::format("sluice prepare INPUT.txt --tokenizer {} --out PREFIX",
                           request.from->path.string());
    throw Error(Exit::usage, {"the model's vocabulary is smaller than the tokenizer's",
                              request.config.place("model.vocab"),
                              fmt::format("at least {} ({} tokenizer of {})", tokens.vocab,
                                          tokens.kind, train.name()),
                              fmt::format("{}", vocab),
                              {remedy}});
  }

  void use(Start checkpoint) {
    start = std::move(checkpoint);
    from = start->hash;
    if (tokenizer) return require_same_ids(train, *tokenizer, *start);
    tokenizer = std::move(start->tokenizer);
    tokenizer_path = start->tokenizer_path;
  }

  RowOptions rows(const Config& config) const {
    RowOptions out;
    out.sequence = config.batch.sequence;
    out.documents = config.data.documents == "separate" ? Documents::separate : Documents::joined;
    if (train.tokenizer()) out.end_of_text = train.tokenizer()->end_of_text;
    return out;
  }

  TokenFile train;
  std::optional<TokenFile> validation;
  TokenizerPtr tokenizer;  // null: raw ids
  std::string tokenizer_path;
  std::optional<Start> start;
  std::string from;  // KeyFacts::from
};

NumericsKey key_of(const Config& config, const Data& data, const Plan& plan, const Device& device,
                   const std::string& algorithms = {}) {
  KeyFacts facts;
  facts.backend = device.backend();
  facts.isa = device.model();
  facts.data = data.train.checksum();
  if (data.train.tokenizer()) facts.data += " " + data.train.tokenizer()->hash;
  facts.fusions = fusion_set(device.is_gpu(), plan.numerics.gelu_in_product);
  facts.algorithms = algorithms;
  facts.from = data.from;
  facts.formats = "exact 1, compact 1, int8 1, philox 1";
  facts.plan = plan;
  return numerics_key(config, facts);
}

// What utilization is stated against, and where that comes from.
struct Peak {
  double flops = 0;  // per second; 0: not known
  std::string text;
};

Peak peak_of(const TrainRequest& request, const Plan& plan, const FoundMachine& found,
             const Device& device) {
  const bool bf16 = plan.numerics.precision == DType::bf16;
  const char* precision = bf16 ? "bf16" : "float32";
  Peak peak;
  if (device.is_gpu()) {
    peak.flops = device.peak_flops(bf16);
    peak.text = peak.flops > 0 ? fmt::format(
                                     "MFU: 6 N + 6 L D T FLOPs a token, N of products, over {:.1f} "
                                     "TFLOP/s, the dense {} peak of {} by its data sheet",
                                     peak.flops / 1e12, precision, device.model())
                               : fmt::format("no MFU: the peak of {} is not known", device.model());
    return peak;
  }
  if (found.machine) peak.flops = product_flops(*found.machine, precision);
  if (peak.flops > 0)
    peak.text = fmt::format(
        "MFU: 6 N + 12 L D T FLOPs a token over {:.3f} TFLOP/s, the {} products of a step as "
        "`sluice doctor` measured them on {} ({})",
        peak.flops / 1e12, precision, found.machine->date, request.machine_file);
  else
    peak.text = fmt::format(
        "no MFU: {} (run `sluice doctor`)",
        found.machine ? fmt::format("{} products were not measured", precision) : found.reason);
  return peak;
}

// The machine that was described, which must be this one, or as `sluice doctor` measured it.
std::optional<Machine> machine_of(const TrainRequest& request, const ThisMachine& here,
                                  const Device& device) {
  if (request.machine.empty()) return device.is_gpu() ? device.described() : here.described();
  Machine machine = load_machine(request.machine);
  Present present{here.id.cpu, here.id.isa, here.id.threads, here.memory};
  if (device.is_gpu()) present = {device.model(), "", 1, device.memory(), "cuda"};
  require_same(machine, present, request.machine);
  return machine;
}

// When a run has ended: the planner's word beside what it did.
Exit with_prediction(Exit exit, MetricsLog& log, const std::optional<Machine>& machine,
                     const ProgramSet& programs, std::int64_t tokens) {
  const double measured = log.tokens_per_second();
  if (!machine || measured <= 0) return exit;
  const Simulated step = simulate(programs, *machine);
  const double predicted = static_cast<double>(tokens) / step.seconds;
  const MemoryMap& memory = programs.memory;
  const nlohmann::json row = {
      {"predicted", to_json(step, tokens)},
      {"machine", machine->name},
      {"measured", {{"tokens_per_second", measured}}},
      {"taken",
       {{"device", memory.total()}, {"host", memory.host_bytes()}, {"disk", memory.disk_bytes()}}}};
  log.row(row.dump());
  log.say(fmt::format(
      "sluice: predicted {:.4g} tokens/s on {}, bound by {}; measured {:.4g}, {:+.1f}%", predicted,
      machine->name, name_of(step.bound), measured, 100 * (measured / predicted - 1)));
  return exit;
}

MetricsOptions metrics_options(const TrainRequest& request, std::int64_t steps, double peak,
                               const Device& device, EventsFile* events) {
  const Config& config = request.config;
  const auto flops = device.is_gpu() ? causal_flops : utilization_flops;
  MetricsOptions out{.steps = steps,
                     .json = request.json,
                     .bar = request.bar,
                     .flops_per_token = flops(config.model, config.batch.sequence),
                     .peak_flops = peak,
                     .events = events};
  if (device.is_gpu()) out.memory = [&device] { return device.bytes_taken(); };
  return out;
}

// When a run on a GPU has ended: what it took of its memory beside what was planned.
void say_memory(MetricsLog& log, const Device& device, const MemoryBytes& planned) {
  if (!device.is_gpu()) return;
  const std::int64_t taken = device.bytes_taken(), arena = planned.total - planned.rest;
  const nlohmann::json row = {{"device_memory",
                               {{"planned", planned.total},
                                {"taken", taken},
                                {"rest", planned.rest},
                                {"measured_rest", taken - arena}}}};
  log.row(row.dump());
  log.say(fmt::format(
      "sluice: {:.3f} GiB of the GPU's memory were planned and {:.3f} taken, {:+.1f}%: {} beside "
      "the "
      "plan's regions",
      static_cast<double>(planned.total) / (1 << 30), static_cast<double>(taken) / (1 << 30),
      100 * (static_cast<double>(taken) / static_cast<double>(planned.total) - 1),
      human_bytes(taken - arena)));
}

void say(MetricsLog& log, const std::vector<std::string>& messages) {
  for (const std::string& message : messages) log.say("sluice: " + message);
}

void say_start(MetricsLog& log, const Peak& peak, const Config& config, const Plan& plan,
               const Device& device, const RunFiles& files) {
  const Isa isa = device.cpu().isa;
  if (!device.is_gpu() && plan.numerics.precision == DType::bf16 && !multiplies_bf16(isa))
    say(log,
        {fmt::format("{} has no bf16 products: float32 arithmetic on bf16 storage, which saves "
                     "memory, not time",
                     name_of(isa))});
  say(log, {peak.text});
  if (device.is_gpu()) say(log, {fmt::format("attention: {}", attention_text(config, plan))});
  say(log, files.messages());
  if (files.step() >= length_of(config).steps) log.say("sluice: all steps are done already");
}

std::string folder_of(const TrainRequest& request, const Data& data, const Device& device) {
  if (!request.out.empty()) return request.out;
  const Config& config = request.config;
  const NumericsKey key = key_of(config, data, plan_of(config), device);
  return fmt::format("runs/{}-{}", config.run.name, key.hash().substr(0, 8));
}

// Where the run began, if nobody says otherwise; else auto is settled. Returns what to tell of
// that.
std::string settle_device(TrainRequest& request) {
  Config& config = request.config;
  const bool asked = request.plan.has_value() || config.plan.device != "auto";
  if (!asked && request.resume != "never" && !request.out.empty())
    if (const auto kept = kept_plan(request.out)) config.plan.device = kept->plan.device;
  return settle_device(config);
}

void require_plan(const TrainRequest& request, const PlanMachine& machine) {
  if (!request.plan) return;
  require_made_for(*request.plan, request.config);
  require_made_for(*request.plan, machine);
}

// What is run: as the request says, and as the run was planned when it began.
struct Decided {
  Config config;
  Plan plan;
  std::vector<std::string> messages;
};

bool is_of(const PlanFile& file, const Config& config) {
  try {
    require_made_for(file, config);
    return true;
  } catch (const Error&) {  // the run's key tells what differs
    return false;
  }
}

Decided decide(const TrainRequest& request, const std::string& folder, const PlanMachine& machine,
               const Device& device) {
  const Config& config = request.config;
  const Counted counted = device.counted();
  std::optional<PlanFile> kept;
  if (!request.plan && request.resume != "never") kept = kept_plan(folder);
  const bool keeps = kept && is_of(*kept, config);
  if (keeps) {
    PlanMachine alike = machine;
    alike.threads = 0;  // as many as there are today
    KeptPlan all = with_kept(config, *kept, alike);
    try {
      check(all.config);
      const Plan plan = placed(all.config, plan_of(all.config), counted.threads);
      return {std::move(all.config), plan, std::move(all.messages)};
    } catch (const Error&) {
      if (all.planned_anew) throw;
    }
  }
  Decided out{config, placed_or_told(config, plan_of(config), counted, device.available()), {}};
  if (keeps) out.messages.emplace_back("planned anew: the run's plan does not fit any more");
  return out;
}

// Who sees what the executor does, as far as the run asks for it.
struct Watchers {
  Watchers(const TrainRequest& request, const RunFiles& files,
           const std::shared_ptr<const ProgramSet>& programs) {
    const Config& config = request.config;
    options.poison = config.run.poison;
    options.eager = config.run.eager;
    options.sync = config.run.sync;
    if (config.run.log_hashes)
      options.observer =
          &hashes.emplace((files.folder() / "hashes.jsonl").string(), programs, files.step());
    if (request.faults->plans("train.flip") || request.faults->plans("train.poison"))
      options.observer =
          &planted.emplace(*request.faults, model_tensors(*programs->model, config.model),
                           files.step(), options.observer);
    if (request.trace > 0)
      options.recorder = &recorder.emplace(*programs, static_cast<int>(request.trace));
  }

  ExecutorOptions options;
  std::optional<HashLog> hashes;
  std::optional<PlantedFaults> planted;
  std::optional<Recorder> recorder;
};

std::string scratch_folder(const Config& config, const RunFiles& files) {
  const std::string& path = config.plan.disk_path;
  require(path.empty() || std::filesystem::is_directory(path), [&] {
    return Error(Exit::disk, {"there is no folder for what is at home on disk",
                              config.place("plan.disk_path"),
                              "a folder that this user may write to",
                              path,
                              {"plan.disk_path = \"\" for the run's own folder"}});
  });
  return path.empty() ? files.folder().string() : path;
}

// What streams to a GPU has its homes in the host's memory.
void require_host(const MemoryBytes& memory) {
  const std::int64_t wanted = memory.host + memory.process, available = available_memory();
  require(wanted <= available, [&] {
    return Error(Exit::memory,
                 {fmt::format("the plan needs {} of the host and {} are there", human_bytes(wanted),
                              human_bytes(available)),
                  "memory",
                  fmt::format("at most {} bytes", available),
                  fmt::format("{} bytes", wanted),
                  {fmt::format("plan.host_memory = {}, the rest on disk",
                               std::max<std::int64_t>(1, available - 2 * memory.process)),
                   "plan.homes = \"device\""}});
  });
}

// Nothing is taken before both are known to fit.
void require_room(const Config& config, const Device& device, const MemoryBytes& memory,
                  const DiskUse& disk, const std::string& scratch, const RunFiles& files) {
  const std::int64_t available = device.available();
  require_fits(
      memory, available, [&] { return changes_that_fit(config, device.counted(), available); },
      device.is_gpu() ? device.taken() : 0);
  if (device.is_gpu()) require_host(memory);
  require_disk(config, disk, scratch, {files.folder().string(), files.step(), files.checkpoints()});
}

// Null when nothing is at home on disk.
std::unique_ptr<ScratchFile> take_scratch(const std::string& folder, const ProgramSet& programs,
                                          Faults& faults, MetricsLog& log) {
  if (programs.memory.disk_bytes() == 0) return nullptr;
  auto out = std::make_unique<ScratchFile>(folder, programs.memory.disk_bytes(), faults);
  if (!out->direct()) say(log, {out->without_direct()});
  return out;
}

std::optional<AlgorithmTable> given_algorithms(const TrainRequest& request, bool used) {
  if (request.algorithms.empty()) return {};
  AlgorithmTable out = load_algorithms(request.algorithms);
  require(used, [&] {
    return Error(Exit::usage, {"a table of algorithms is for a GPU",
                               "--algorithms",
                               "a run on a GPU",
                               "one on the CPU",
                               {"plan.device = \"cuda:0\""}});
  });
  return out;
}

// Of a backend whose products a library runs; none otherwise.
std::optional<SettledAlgorithms> algorithms_of(const TrainRequest& request, Backend& backend,
                                               const ProgramSet& programs, const RunFiles& files) {
  ProductTuner* const tuner = backend.tuner();
  AlgorithmSources sources;
  sources.given = given_algorithms(request, tuner != nullptr);
  if (tuner == nullptr) return {};
  const std::vector<std::string>& changes = request.accepted_changes;
  sources.run = kept_algorithms(files.folder());
  sources.given_file = request.algorithms;
  sources.accepted = std::find(changes.begin(), changes.end(), "algorithms") != changes.end();
  sources.cache_file = request.algorithms_file;
  return settle_algorithms(*tuner, training_products(*tuner, programs), sources);
}

std::string headline(const Config& config, const Plan& plan, const Device& device,
                     const NumericsKey& key, const ProgramSet& programs, const RunFiles& files,
                     std::int64_t bytes) {
  return fmt::format(
      "sluice: {} in {} | key {} | {} parameters | {} | {} micro-batches of {} x {} | {} | "
      "{:.2f} GiB planned",
      config.run.name, files.folder().string(), key.hash(), programs.model->parameters(),
      steps_text(length_of(config)), plan.micro_batches, plan.micro_batch, config.batch.sequence,
      device.text(), static_cast<double>(bytes) / (1 << 30));
}

}  // namespace

namespace {

MemoryBytes memory_of_run(const ProgramSet& programs, const Device& device,
                          const TrainRequest& request) {
  MemoryBytes out = memory_of(programs, device.counted());
  const std::int64_t recorded = Recorder::bytes(programs, static_cast<int>(request.trace));
  out.process += recorded;
  if (!device.is_gpu()) out.total += recorded;
  return out;
}

// What some runs have and others have not.
struct BesideTheLoop {
  BesideTheLoop(Trainer& trainer, const Config& config, const Data& data, const RunFiles& files) {
    if (data.validation)
      validator.emplace(trainer, *data.validation, data.tokenizer.get(), data.rows(config),
                        config.run.validate_tokens);
    if (config.run.sample_every > 0 && data.tokenizer)
      sampler.emplace(trainer, config, *data.tokenizer,
                      (files.folder() / "samples.jsonl").string());
  }
  std::optional<Validator> validator;
  std::optional<Sampler> sampler;
  std::optional<Tracing> tracing;
};

// A run that began with a checkpoint's weights, and never saved its own, needs them again.
void require_start(const Data& data, const RunFiles& files) {
  require(data.from.empty() || data.start || files.resumed(), [&] {
    return Error(Exit::usage, {"this run begins with the weights of a checkpoint",
                               files.folder().string(),
                               "--from with that checkpoint: the run has saved no step of its own",
                               "no --from",
                               {"--from DIR"}});
  });
}

void begin(Trainer& trainer, const Config& config, const Data& data, RunFiles& files,
           MetricsLog& log) {
  if (files.resumed()) {
    say(log, files.load(trainer, config.model));
  } else if (data.start) {
    trainer.start_from(data.start->folder.path);
    say(log, {fmt::format("begins with the weights of {}", data.start->folder.path.string())});
  } else {
    trainer.initialize();
  }
  trainer.derive();
}

// A device that a test lets fail, in front of the real one; null: no test does.
std::unique_ptr<Backend> broken_device(Backend& below, const TrainRequest& request,
                                       const RunFiles& files) {
  if (!request.faults->plans("train.break")) return nullptr;
  return std::make_unique<BrokenDevice>(below, *request.faults, files.step());
}

}  // namespace

Exit train(const TrainRequest& asked) {
  check_trainable(asked.config);
  TrainRequest request = asked;
  const std::string settled = settle_device(request);
  const Device device(request.config, request.machine_file);
  const ThisMachine here(request.machine_file, device.cpu().isa, device.cpu().threads);
  const std::optional<Machine> machine = machine_of(request, here, device);
  const PlanMachine planned_on = plan_machine(device, here);
  require_plan(request, planned_on);
  const Data data(request);
  const std::string folder = folder_of(request, data, device);
  const auto [config, plan, messages] = decide(request, folder, planned_on, device);
  const TrainingBatches batches(data.train, data.rows(config),
                                static_cast<std::uint64_t>(config.run.seed));
  RunFiles files(folder, key_of(config, data, plan, device), request.accepted_changes,
                 request.resume);
  require_start(data, files);
  const auto programs =
      std::make_shared<const ProgramSet>(assemble_training(config, plan, device.workers()));

  const MemoryBytes memory = memory_of_run(*programs, device, request);
  const std::string scratch_at = scratch_folder(config, files);
  require_room(config, device, memory, disk_use(config, *programs), scratch_at, files);
  const std::unique_ptr<Backend> backend = device.take();
  const auto algorithms = algorithms_of(request, *backend, *programs, files);
  const NumericsKey key =
      key_of(config, data, plan, device, algorithms ? algorithms->table.hash() : std::string());
  files.open(asked.config, key, plan_file(config, plan, planned_on), *request.faults);
  if (algorithms) keep_algorithms(files.folder(), algorithms->table);
  const RunLength length = length_of(config);
  const Peak peak = peak_of(request, plan, here.measured, device);
  std::optional<EventsFile> events;
  if (config.run.tensorboard) events.emplace(files.folder(), files.step());
  MetricsLog log(
      (files.folder() / "metrics.jsonl").string(),
      metrics_options(request, length.steps, peak.flops, device, events ? &*events : nullptr));
  log.say(headline(config, plan, device, key, *programs, files, memory.total));
  if (!settled.empty()) log.say("sluice: " + settled);
  say_start(log, peak, config, plan, device, files);
  say(log, messages);
  if (algorithms) say(log, algorithms->messages);

  Watchers watchers(request, files, programs);
  const auto scratch = take_scratch(scratch_at, *programs, *request.faults, log);
  watchers.options.scratch = scratch.get();
  const std::unique_ptr<Backend> broken = broken_device(*backend, request, files);
  Trainer trainer(config, plan, broken ? *broken : *backend, programs, batches, watchers.options);
  begin(trainer, config, data, files, log);

  BesideTheLoop beside(trainer, config, data, files);
  if (watchers.recorder)
    beside.tracing.emplace(*watchers.recorder, *backend, *programs, machine,
                           files.folder() / "trace.json", log);
  const LoopParts parts{config,
                        key,
                        trainer,
                        files,
                        log,
                        beside.validator ? &*beside.validator : nullptr,
                        beside.sampler ? &*beside.sampler : nullptr,
                        beside.tracing ? &*beside.tracing : nullptr,
                        data.tokenizer_path,
                        *request.faults,
                        request.stop_signal};
  const Exit exit = training_loop(parts);
  say_memory(log, device, memory);
  return with_prediction(exit, log, machine, *programs, config.batch.tokens);
}

}  // namespace sluice
