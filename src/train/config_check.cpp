#include <algorithm>
#include <tuple>

#include "backend/cpu/isa.h"
#include "backend/cuda/cuda.h"
#include "models/published.h"
#include "program/tiers.h"
#include "train/config.h"

namespace sluice {
namespace {

// Of a micro-batch, unless one sequence is longer: a few tiles of products high and small in
// memory; on a GPU enough for all of its multiprocessors.
constexpr std::int64_t cpu_tokens_at_once = 2048, gpu_tokens_at_once = 16384;
constexpr std::int64_t most = std::int64_t{1} << 52;  // sums and products of a few stay exact

// Checks of other rooms name keys; here they become places.
template <class Body>
auto with_places(const Config& config, Body body) {
  try {
    return body();
  } catch (Error& e) {
    if (config.places.contains(e.report().where)) e.report().where = config.place(e.report().where);
    throw;
  }
}

void require_range(const Config& config, const char* key, std::int64_t value, std::int64_t least,
                   std::int64_t largest = most) {
  require(value >= least && value <= largest, [&] {
    return Error(Exit::usage, {fmt::format("{} is out of range", key),
                               config.place(key),
                               fmt::format("an integer from {} to {}", least, largest),
                               fmt::format("{}", value),
                               {}});
  });
}

void check_batch(const Config& config) {
  const std::int64_t tokens = config.batch.tokens, sequence = config.batch.sequence;
  require_range(config, "batch.tokens", tokens, 1);
  require_range(config, "batch.sequence", sequence, 1);
  require(sequence <= config.model.context, [&] {
    return Error(Exit::usage, {"a sequence is longer than the model's context",
                               config.place("batch.sequence"),
                               fmt::format("at most {} tokens", config.model.context),
                               fmt::format("{}", sequence),
                               {fmt::format("batch.sequence = {}", config.model.context)}});
  });
  require(tokens % sequence == 0, [&] {
    const std::int64_t nearest_count =
        std::max<std::int64_t>(1, (tokens + sequence / 2) / sequence);
    return Error(Exit::usage,
                 {fmt::format("a step of {} tokens is no whole number of sequences", tokens),
                  config.place("batch.tokens"),
                  fmt::format("a multiple of {}", sequence),
                  fmt::format("{}", tokens),
                  {fmt::format("batch.tokens = {}", nearest_count * sequence)}});
  });
  ramp_of(config);
}

void require_one_step(const Config& config) {
  require(config.run.tokens >= config.batch.tokens, [&] {
    return Error(Exit::usage, {"the run is shorter than one step",
                               config.place("run.tokens"),
                               fmt::format("at least batch.tokens = {}", config.batch.tokens),
                               fmt::format("{}", config.run.tokens),
                               {fmt::format("run.tokens = {}", config.batch.tokens)}});
  });
}

bool asks_for_library(const Config& config) {
  return config.plan.attention == name_of(AttentionKernels::library) ||
         config.plan.attention == name_of(AttentionKernels::unordered);
}

void check_attention(const Config& config) {
  require(!asks_for_library(config) || config.data.documents == "join", [&] {
    return Error(Exit::usage, {"cuDNN's attention does not keep the documents of a row apart",
                               config.place("plan.attention"),
                               "own, where data.documents is separate",
                               config.plan.attention,
                               {"plan.attention = \"own\"", "data.documents = \"join\""}});
  });
}

// What is never made cannot be kept.
void check_kept(const Config& config) {
  const RunConfig& run = config.run;
  require(run.keep_every == 0 || run.save_every == 0 || run.keep_every % run.save_every == 0, [&] {
    const std::int64_t saves = std::max<std::int64_t>(1, run.keep_every / run.save_every);
    return Error(Exit::usage, {"run.keep_every names steps that are not saved",
                               config.place("run.keep_every"),
                               fmt::format("a multiple of run.save_every = {}", run.save_every),
                               fmt::format("{}", run.keep_every),
                               {fmt::format("run.keep_every = {}", saves * run.save_every)}});
  });
  require(!run.keep_best || (run.validate_every > 0 && !config.data.validation.empty()), [&] {
    return Error(Exit::usage, {"the best checkpoint is that of the least validation loss",
                               config.place("run.keep_best"),
                               "data.validation, and run.validate_every above 0",
                               run.validate_every > 0 ? "no data.validation" : "no validation",
                               {"run.keep_best = false"}});
  });
}

void check_run(const Config& config) {
  const RunConfig& run = config.run;
  require_range(config, "run.tokens", run.tokens, 0);
  require_range(config, "run.validate_every", run.validate_every, 0);
  require_range(config, "run.validate_tokens", run.validate_tokens, 0);
  require_range(config, "run.save_every", run.save_every, 0);
  require_range(config, "run.sample_every", run.sample_every, 0);
  require_range(config, "run.sample_tokens", run.sample_tokens, 0);
  require_range(config, "run.keep_last", run.keep_last, 1);
  require_range(config, "run.keep_every", run.keep_every, 0);
  require_range(config, "run.norms_every", run.norms_every, 0);
  check_kept(config);
  require_range(config, "run.seed", run.seed, 0, INT64_MAX);
  require_range(config, "run.threads", run.threads, 0, 4096);
  if (run.tokens != 0) require_one_step(config);
  require(run.name.find('/') == std::string::npos && run.name != "." && run.name != "..", [&] {
    return Error(Exit::usage, {"run.name names no folder",
                               config.place("run.name"),
                               "a name without \"/\"",
                               run.name,
                               {}});
  });
}

}  // namespace

void check(const Config& config) {
  with_places(config, [&] {
    check(config.model);
    check(config.optim);
  });
  check_batch(config);
  check_run(config);
  check_attention(config);
  with_places(config, [&] { check(config.optim, length_of(config)); });
  plan_of(config);
}

void check_trainable(const Config& config) {
  check(config);
  require(!config.data.train.empty(), [&] {
    return Error(Exit::usage, {"there is nothing to train on",
                               config.place("data.train"),
                               "a prefix that `sluice prepare` wrote",
                               "nothing",
                               {"--data.train=PREFIX"}});
  });
  require_one_step(config);
}

void check_published(const Config& config, const std::string& name) {
  const PublishedModel* published = find_published(name);
  if (published == nullptr) return;
  with_places(config, [&] { check(config.model); });
  const std::int64_t found = parameters_of(config.model);
  if (published->parameters.reached_by(found)) return;
  Report report{fmt::format("this is not the {} that was published", name),
                config.place("run.name"),
                fmt::format("{:.0f} parameters", published->parameters.value),
                fmt::format("{}", found),
                {}};
  for (const auto& [key, is, was] : {std::tuple{"layers", config.model.layers, published->layers},
                                     {"width", config.model.width, published->width},
                                     {"inner", config.model.inner_width(), published->inner},
                                     {"vocab", config.model.vocab, published->vocab},
                                     {"context", config.model.context, published->context}}) {
    if (is == was) continue;
    if (report.tries.empty()) report.where = config.place(fmt::format("model.{}", key));
    report.tries.push_back(fmt::format("model.{} = {}", key, was));
  }
  report.tries.emplace_back("run.name = \"another\" in the file, for a model of its own");
  throw Error(Exit::usage, std::move(report));
}

RunLength length_of(const Config& config) {
  return {config.batch.tokens, ramp_of(config), config.run.tokens};
}

AttentionKernels attention_of(const Config& config, bool gpu) {
  if (!gpu || config.plan.attention == name_of(AttentionKernels::own)) return AttentionKernels::own;
  if (config.plan.attention == name_of(AttentionKernels::unordered))
    return AttentionKernels::unordered;
  return config.data.documents == "join" ? AttentionKernels::library : AttentionKernels::own;
}

// A product that makes GELU saves a twentieth of an MLP's time, and costs that GELU's result is
// kept where recompute is selective: too much for models that fill a GPU.
bool gelu_in_product(const Config& config, bool gpu) {
  constexpr std::int64_t most_parameters = 2'500'000'000;
  return gpu && parameters_of(config.model) <= most_parameters;
}

Plan plan_of(const Config& config) {
  return with_places(config, [&] {
    std::vector<std::int64_t> sequences{config.batch.tokens / config.batch.sequence};
    for (const RunLength::Boundary& boundary : ramp_of(config))
      sequences.push_back(boundary.tokens_per_step / config.batch.sequence);
    const bool gpu = cuda_index(config.plan.device) >= 0;
    const bool fast_bf16 = gpu || multiplies_bf16(parse_isa(config.run.isa));
    Plan plan = resolve(config.plan, sequences, config.batch.sequence, fast_bf16,
                        gpu ? gpu_tokens_at_once : cpu_tokens_at_once);
    plan.packed = !gpu;
    plan.numerics.attention = attention_of(config, gpu);
    plan.numerics.gelu_in_product = gelu_in_product(config, gpu);
    parse_homes(plan.homes, static_cast<int>(config.model.layers));  // refuses what is none
    return plan;
  });
}

}  // namespace sluice
