// Where does a training step's time go, and what is the limit of each kind of op?
//
//   bench_step CONFIG [--machine FILE] [--steps 5] [--cpu-time] [--section.key=value]...
//
// Trains a few steps as `sluice train` does, each op timed between two looks at the clock. Prints
// for each kind of op its time in a step, its share, and the time that its FLOPs take at the rate
// of the products, or its bytes at the rate of the memory, whichever is longer: both rates as
// `sluice doctor` measured them (FILE: its machine.json). --cpu-time: the process's time, not the
// clock's: for one thread (--run.threads=1) on a machine that others use.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iostream>
#include <map>

#include "backend/around.h"
#include "backend/cpu/host.h"
#include "core/error.h"
#include "planner/machine.h"
#include "train/assembly.h"
#include "train/trainer.h"

namespace sluice {
namespace {

// Seconds, of the clock or of the process.
struct Stopwatch {
  bool cpu_time = false;
  double now() const {
    if (cpu_time) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
};

struct Row {
  double seconds = 0, flops = 0, bytes = 0;
  std::int64_t calls = 0;
};

// The backend with a clock around each op. One lane computes, so nothing is locked.
class Timed final : public AroundBackend {
 public:
  Timed(Backend& inner, Stopwatch watch) : AroundBackend(inner), watch_(watch) {}
  void run(const Op& op, const Frame& frame) override {
    const double begin = watch_.now();
    AroundBackend::run(op, frame);
    const double seconds = watch_.now() - begin;
    types_.clear();
    for (const Tensor& value : frame.values) types_.push_back({value.dtype(), value.shape()});
    const Cost cost = sluice::cost(op, types_);
    Row& row = rows[std::string(name_of(op))];
    row.seconds += seconds;
    row.flops += cost.flops;
    row.bytes += cost.read_bytes + cost.write_bytes;
    ++row.calls;
  }

  std::map<std::string, Row> rows;

 private:
  Stopwatch watch_;
  std::vector<ValueType> types_;
};

struct Rates {
  double flops = 0, bytes = 0;  // per second
};

struct Request {
  std::string config, machine;
  int steps = 5;
  Stopwatch watch;
  std::vector<std::string> overrides;
};

Request parse(int count, char** arguments) {
  Request out;
  for (int i = 1; i < count; ++i) {
    const std::string word = arguments[i];
    const auto value = [&] {
      require(i + 1 < count, [&] {
        return Error(Exit::usage, {word + " needs a value", "command line", {}, {}, {}});
      });
      return std::string(arguments[++i]);
    };
    if (word == "--machine")
      out.machine = value();
    else if (word == "--steps")
      out.steps = std::stoi(value());
    else if (word == "--cpu-time")
      out.watch.cpu_time = true;
    else if (word.starts_with("--"))
      out.overrides.push_back(word.substr(2));
    else
      out.config = word;
  }
  return out;
}

void print(const std::map<std::string, Row>& rows, double step_seconds, int steps,
           const Rates& rates) {
  std::vector<std::pair<std::string, Row>> sorted(rows.begin(), rows.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  fmt::print("{:<26}{:>7}{:>10}{:>8}{:>10}{:>10}  limited by\n", "op", "calls", "ms", "share",
             "limit ms", "of limit");
  const auto line = [&](const std::string& name, const Row& row) {
    const double ms = 1e3 * row.seconds / steps;
    const double by_flops = 1e3 * row.flops / rates.flops / steps;
    const double by_bytes = 1e3 * row.bytes / rates.bytes / steps;
    const double limit = std::max(by_flops, by_bytes);
    fmt::print("{:<26}{:>7}{:>10.2f}{:>7.1f}%{:>10.2f}{:>9.0f}%  {}\n", name, row.calls / steps, ms,
               100 * row.seconds / steps / step_seconds, limit, 100 * limit / ms,
               by_flops > by_bytes ? "products" : "memory");
  };
  double timed = 0;
  for (const auto& [name, row] : sorted) {
    line(name, row);
    timed += row.seconds;
  }
  fmt::print("{:<26}{:>7}{:>10.2f}{:>7.1f}%\n", "between ops", "",
             1e3 * (step_seconds - timed / steps), 100 * (1 - timed / steps / step_seconds));
}

int run(int count, char** arguments) {
  const Request request = parse(count, arguments);
  Config config = load_config(request.config);
  apply_overrides(config, request.overrides);
  check_trainable(config);
  const Plan plan = plan_of(config);
  const int threads =
      config.run.threads == 0 ? usable_threads() : static_cast<int>(config.run.threads);
  const Isa isa = parse_isa(config.run.isa);
  const FoundMachine machine =
      find_machine(request.machine, {host_facts("").cpu, std::string(name_of(isa)), threads});
  require(machine.machine.has_value(), [&] {
    return Error(Exit::usage,
                 {machine.reason, "--machine", "the file that sluice doctor kept", {}, {}});
  });
  const char* precision = plan.numerics.precision == DType::bf16 ? "bf16" : "float32";
  const Rates rates{product_flops(*machine.machine, precision), machine.machine->copy_all};

  TokenFile tokens(config.data.train);
  tokens.limit_ids(static_cast<int>(config.model.vocab));
  const TrainingBatches batches(tokens, {.sequence = config.batch.sequence}, 0);
  const auto programs =
      std::make_shared<const ProgramSet>(assemble_training(config, plan, threads));
  CpuBackend cpu({threads, isa});
  Timed timed(cpu, request.watch);
  Trainer trainer(config, plan, timed, programs, batches, {});
  trainer.initialize();
  trainer.derive();
  constexpr int warm = 2;
  for (int step = 1; step <= warm; ++step) {
    trainer.enqueue(step);
    trainer.result(step);
  }
  timed.rows.clear();
  const double begin = request.watch.now();
  for (int step = warm + 1; step <= warm + request.steps; ++step) {
    trainer.enqueue(step);
    trainer.result(step);
  }
  const double seconds = (request.watch.now() - begin) / request.steps;
  fmt::print(
      "{}, {}, {} threads, {}: {:.1f} ms a step of {} tokens, {:.0f} tokens/s; products {:.0f} "
      "GFLOP/s, memory {:.1f} GB/s\n",
      request.config, precision, threads, name_of(isa), 1e3 * seconds, config.batch.tokens,
      static_cast<double>(config.batch.tokens) / seconds, rates.flops / 1e9, rates.bytes / 1e9);
  print(timed.rows, seconds, request.steps, rates);
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int count, char** arguments) {
  try {
    return sluice::run(count, arguments);
  } catch (const sluice::Error& error) {
    std::cerr << error.text();
    return static_cast<int>(error.code());
  }
}
