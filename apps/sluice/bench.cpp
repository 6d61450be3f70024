// sluice bench: whole training steps on random data, and the roof of that very command.
#include <algorithm>

#include "backend/cpu/measure.h"
#include "command.h"
#include "planner/memory_report.h"
#include "train/algorithms.h"
#include "train/assembly.h"
#include "train/bench_steps.h"
#include "train/device.h"
#include "train/metrics.h"
#include "train/peaks.h"
#include "train/roof.h"

namespace sluice {
namespace {

struct Options {
  std::string config, plan;
  double seconds = 10, roof_seconds = 5;
  std::int64_t steps = 10;
  bool no_roof = false;
};

struct Bench {
  Config config;
  Plan plan;
  std::string device;
  bool gpu = false;
  MemoryBytes memory;
  std::int64_t taken = 0;  // bytes of a GPU
  BenchSteps steps;
  double flops_per_token = 0, peak = 0;  // peak 0: not known
  double ceiling = 0;                    // FLOPs per second of the largest square product
  std::optional<Roof> roof;

  double tokens_per_second() const {
    return static_cast<double>(config.batch.tokens) / median(steps.seconds);
  }
  double roof_tokens() const { return static_cast<double>(config.batch.tokens) / roof->seconds(); }
};

constexpr int warm_steps = 3;

// The config as it is run: on random tokens, for as long as anybody may want.
Config config_of(const Options& options, const Context& context) {
  Config config = load_config(options.config);
  if (!options.plan.empty()) config = with_plan(std::move(config), load_plan_file(options.plan));
  apply_overrides(config, context.overrides);
  config.run.tokens = 1'000'000 * config.batch.tokens;
  config.run.sample_every = 0;
  config.batch.ramp.clear();
  if (const std::string why = settle_device(config); !why.empty()) note(why);
  return config;
}

// As a run does before its first step, if the device's products want it.
void tune(Backend& backend, const ProgramSet& programs, const Context& context) {
  ProductTuner* const tuner = backend.tuner();
  if (tuner == nullptr) return;
  AlgorithmSources sources;
  sources.cache_file = context.algorithms_file;
  for (const std::string& line :
       settle_algorithms(*tuner, training_products(*tuner, programs), sources).messages)
    note(line);
}

void run_training(const Device& device, const Options& options, const Context& context,
                  Bench& bench) {
  const auto programs = std::make_shared<const ProgramSet>(
      assemble_training(bench.config, bench.plan, device.workers()));
  bench.memory = memory_of(*programs, device.counted());
  const std::int64_t available = device.available();
  require_fits(bench.memory, available,
               [&] { return changes_that_fit(bench.config, device.counted(), available); });
  const std::int64_t tokens =
      std::max<std::int64_t>(std::int64_t{1} << 20, 2 * bench.config.batch.sequence + 1);
  const RandomTokens random(bench.config.model.vocab, tokens);
  bench.config.data.train = random.path();
  TokenFile file(random.path());
  RowOptions rows;
  rows.sequence = bench.config.batch.sequence;
  const TrainingBatches batches(file, rows, 1);
  const std::unique_ptr<Backend> backend = device.take();
  tune(*backend, *programs, context);
  Trainer trainer(bench.config, bench.plan, *backend, programs, batches, {});
  fill_quickly(trainer);
  bench.steps = run_steps(trainer, warm_steps, static_cast<int>(options.steps), options.seconds);
  if (device.is_gpu()) bench.taken = device.bytes_taken();
}

void run_roof(const Device& device, const Options& options, Bench& bench) {
  const std::unique_ptr<Backend> backend = device.take();
  const ProgramSet programs = assemble_training(bench.config, bench.plan, device.workers());
  const std::int64_t most = std::int64_t{1} << (device.is_gpu() ? 32 : 28);
  const std::int64_t room = std::min<std::int64_t>(device.available() / 8, most);
  Ceilings ceilings(*backend, room, device.workers());
  const DType type = bench.plan.numerics.precision;
  const std::int64_t side = device.is_gpu() ? 8192 : 1024;
  const LooseOp large = product_op(type, side, side, side);
  ceilings.tune({large});
  bench.ceiling = ceilings.rate(large, 0.1 * options.roof_seconds);
  bench.roof = measure_roof(ceilings, programs.named("steady"), bench.config.model, bench.plan,
                            options.roof_seconds);
}

std::string roof_text(const Bench& b) {
  const Roof& r = *b.roof;
  const double tokens = static_cast<double>(b.config.batch.tokens);
  const auto row = [&](const char* name, double seconds, const std::string& why) {
    return fmt::format("  {:<12}{:9.4f} us a token, {:4.1f}%  {}\n", name, 1e6 * seconds / tokens,
                       100 * seconds / r.seconds(), why);
  };
  std::string out = fmt::format("roof of this command: {:.0f} tokens/s\n", b.roof_tokens());
  out += row("products", r.products,
             fmt::format("{:.1f} TFLOP/s, back to back for {:.1f} s",
                         r.product_flops / r.products / 1e12, r.measured));
  if (r.attention > 0)
    out += row("attention", r.attention,
               fmt::format("{:.1f} TFLOP/s", r.attention_flops / r.attention / 1e12));
  out += row("elementwise", r.elementwise,
             fmt::format("{:.0f} bytes a token at {:.3f} TB/s",
                         elementwise_bytes(b.config.model, b.plan), r.memory_rate / 1e12));
  out += row("update", r.update,
             fmt::format("{:.0f} bytes a token", update_bytes(b.config.model, b.plan) / tokens));
  return out + fmt::format("reached: {:.1f}% of the roof\n",
                           100 * b.tokens_per_second() / b.roof_tokens());
}

void print(const Bench& b) {
  const Plan& p = b.plan;
  const auto [fastest, slowest] =
      std::minmax_element(b.steps.seconds.begin(), b.steps.seconds.end());
  const auto tokens = static_cast<double>(b.config.batch.tokens);
  std::string out = fmt::format(
      "{} on {}: {}, {} micro-batches of {} x {}, head chunk {}, recompute {}, homes {}\n",
      b.config.run.name, b.device, p.numerics.precision == DType::bf16 ? "bf16" : "float32",
      p.micro_batches, p.micro_batch, b.config.batch.sequence, p.head_chunk, name_of(p.recompute),
      p.homes);
  out +=
      fmt::format("{:.0f} tokens/s, the median of {} steps ({:.0f} to {:.0f}), {:.2f} ms a step\n",
                  b.tokens_per_second(), b.steps.seconds.size(), tokens / *slowest,
                  tokens / *fastest, 1e3 * median(b.steps.seconds));
  const double flops = b.tokens_per_second() * b.flops_per_token;
  if (b.peak > 0)
    out += fmt::format("{:.1f}% MFU: {:.4g} FLOPs a token over {:.1f} TFLOP/s\n",
                       100 * flops / b.peak, b.flops_per_token, b.peak / 1e12);
  if (b.ceiling > 0)
    out += fmt::format("{:.1f}% of a large product's {:.1f} TFLOP/s as measured now\n",
                       100 * flops / b.ceiling, b.ceiling / 1e12);
  out += fmt::format("memory: {} planned", human_bytes(b.memory.total));
  if (b.taken > 0)
    out +=
        fmt::format(", {} taken, {:+.1f}%", human_bytes(b.taken),
                    100 * (static_cast<double>(b.taken) / static_cast<double>(b.memory.total) - 1));
  out += "\n";
  write_out(out + (b.roof ? roof_text(b) : ""));
}

nlohmann::json json_of(const Bench& b) {
  const auto or_null = [](double value) {
    return value > 0 ? nlohmann::json(value) : nlohmann::json();
  };
  const double flops = b.tokens_per_second() * b.flops_per_token;
  nlohmann::json out = {{"config", b.config.run.name},
                        {"device", b.device},
                        {"tokens_per_second", b.tokens_per_second()},
                        {"step_seconds", b.steps.seconds},
                        {"micro_batch", b.plan.micro_batch},
                        {"micro_batches", b.plan.micro_batches},
                        {"recompute", name_of(b.plan.recompute)},
                        {"homes", b.plan.homes},
                        {"mfu", b.peak > 0 ? nlohmann::json(flops / b.peak) : nlohmann::json()},
                        {"flops_per_token", b.flops_per_token},
                        {"peak_flops", or_null(b.peak)},
                        {"ceiling_flops", or_null(b.ceiling)},
                        {"memory", to_json(b.memory)},
                        {"device_bytes", b.taken}};
  if (b.roof)
    out["roof"] = {{"tokens_per_second", b.roof_tokens()},
                   {"products", b.roof->products},
                   {"attention", b.roof->attention},
                   {"elementwise", b.roof->elementwise},
                   {"update", b.roof->update},
                   {"product_flops", b.roof->product_flops},
                   {"memory_rate", b.roof->memory_rate},
                   {"share", b.tokens_per_second() / b.roof_tokens()}};
  return out;
}

int run(const Options& options, Context& context) {
  Bench bench;
  bench.config = config_of(options, context);
  check(bench.config);
  const Device device(bench.config, context.machine_file);
  bench.device = device.text();
  bench.gpu = device.is_gpu();
  bench.plan =
      placed_or_told(bench.config, plan_of(bench.config), device.counted(), device.available());
  const bool bf16 = bench.plan.numerics.precision == DType::bf16;
  bench.flops_per_token = causal_flops(bench.config.model, bench.config.batch.sequence);
  bench.peak = device.peak_flops(bf16);
  run_training(device, options, context, bench);
  if (!options.no_roof) run_roof(device, options, bench);
  if (context.json)
    write_json(json_of(bench));
  else
    print(bench);
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  std::shared_ptr<Options> o;
  CLI::App* command = add_command(
      app, context, "bench", "Time whole training steps on random data beside their roof", run, o);
  command->add_option("config", o->config, "a TOML file or a built-in name")
      ->required()
      ->type_name("CONFIG");
  command->add_option("--seconds", o->seconds, "of steps, about (default: 10)")
      ->check(between(0, 3600))
      ->type_name("S");
  command->add_option("--steps", o->steps, "that are timed at least (default: 10)")
      ->check(between(1, 100000))
      ->type_name("N");
  command
      ->add_option("--roof-seconds", o->roof_seconds,
                   "of the step's products back to back (default: 5)")
      ->check(between(0, 3600))
      ->type_name("S");
  command->add_flag("--no-roof", o->no_roof, "the steps alone");
  add_plan_option(*command, o->plan);
}

}  // namespace sluice
