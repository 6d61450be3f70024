#include "train/measure_ops.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>

#include "backend/around.h"
#include "backend/cpu/measure.h"
#include "core/random.h"
#include "executor/executor.h"
#include "graph/initial.h"
#include "inference/staging.h"
#include "planner/costs.h"
#include "train/assembly.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

struct Variant {
  std::int64_t layers, width, heads, vocab, sequence, micro_batch;
  DType precision;
  StateFormat state;
};
constexpr Variant variants[] = {
    {2, 256, 4, 257, 256, 8, DType::bf16, StateFormat::exact},
    {2, 256, 4, 257, 256, 1, DType::bf16, StateFormat::exact},
    {1, 768, 12, 4096, 1024, 2, DType::bf16, StateFormat::exact},
    {2, 512, 8, 1024, 512, 2, DType::bf16, StateFormat::compact},
    {2, 256, 4, 257, 256, 8, DType::f32, StateFormat::exact},
    {2, 256, 4, 257, 256, 1, DType::f32, StateFormat::exact},
    {1, 768, 12, 4096, 1024, 2, DType::f32, StateFormat::exact},
};

// Runs ops on one backend in the memory of another, a clock around each. What ops are is looked at
// when they run first.
class Timed final : public AroundBackend {
 public:
  Timed(Backend& memory, CpuBackend& cpu) : AroundBackend(memory), cpu_(cpu) {}

  void run(const Op& op, const Frame& frame) override {
    const Clock::time_point begin = Clock::now();
    cpu_.run(op, frame);
    const double seconds = seconds_between(begin, Clock::now());
    Times& times = times_[&op];
    if (times.of.name.empty()) {
      std::vector<ValueType> types;
      for (const Tensor& value : frame.values) types.push_back({value.dtype(), value.shape()});
      times.of = class_of(op, types);
    }
    if (keeps) times.seconds.push_back(seconds);
    sum += seconds, ++count;
  }

  struct Times {
    OpClass of;
    std::vector<double> seconds;
  };
  const std::map<const Op*, Times>& times() const { return times_; }
  bool keeps = false;
  double sum = 0;
  std::int64_t count = 0;

 private:
  CpuBackend& cpu_;
  std::map<const Op*, Times> times_;
};

std::shared_ptr<const ProgramSet> programs_of(const Variant& v, int threads) {
  ModelConfig model;
  model.layers = v.layers, model.width = v.width, model.heads = v.heads;
  model.context = v.sequence, model.vocab = v.vocab;
  TrainingOptions options;
  options.shape = {v.micro_batch, v.sequence};
  options.numerics.precision = v.precision;
  options.numerics.state = v.state;
  options.build.micro_batches = 1;
  options.build.recompute = Recompute::selective;
  options.build.workers = {threads};
  return std::make_shared<const ProgramSet>(
      assemble_training(model, OptimConfig{}, standard_parametrization(), options));
}

void fill(Staging& staging, std::int64_t vocab) {
  const BatchView view = staging.view(0);
  for (std::size_t i = 0; i < view.ids.size(); ++i) {
    const auto draw = [&](std::uint64_t stream) {
      return static_cast<std::int32_t>(random_uniform(1, stream, i) * static_cast<double>(vocab));
    };
    view.ids[i] = draw(1), view.targets[i] = draw(2);
    view.positions[i] = static_cast<std::int32_t>(i) % static_cast<std::int32_t>(view.time);
    view.starts[i] = 0, view.weights[i] = 1;
  }
  double* const control = staging.control(0);
  control[Control::lr] = 1e-4, control[Control::step] = 1, control[Control::first_row] = 0;
}

void initialize(Executor& executor) {
  const ModelGraphs& model = *executor.programs().model;
  const Parametrization scales = standard_parametrization();
  for (int layer = 0; layer < model.layer_count(); ++layer)
    for (const Parameter& p : model.of(model.kind_of(layer)).parameters) {
      const Tensor low = p.low == no_value ? Tensor{} : executor.tensor(layer, "low." + p.name);
      fill_initial(executor.tensor(layer, p.name), low, p, p.name, 1, scales);
    }
  executor.enqueue(executor.programs().index_of("derive"), {});
  executor.drain();
}

using Found = std::map<std::pair<std::string, std::array<std::int64_t, 3>>,
                       std::pair<double, std::vector<double>>>;

// Steps for about so many seconds, two at least. Returns the seconds between ops.
double measure(const Variant& v, CpuBackend& cpu, const std::shared_ptr<const ProgramSet>& programs,
               double seconds, Found& found) {
  CpuBackend memory({.threads = 1, .isa = Isa::portable});  // gives it back at the end
  Timed timed(memory, cpu);
  Executor executor(timed, programs, {});
  initialize(executor);
  Staging staging(programs->named("steady").batch, 1);
  fill(staging, v.vocab);
  const auto step = [&](const char* name) {
    executor.wait(executor.enqueue(programs->index_of(name), staging.blocks()));
  };
  const Clock::time_point begin = Clock::now();
  step("first");
  step("steady");
  timed.keeps = true, timed.sum = 0, timed.count = 0;
  const Clock::time_point warm = Clock::now();
  for (int steps = 0; steps < 2 || (steps < 15 && seconds_between(begin, Clock::now()) < seconds);
       ++steps)
    step("steady");
  const double wall = seconds_between(warm, Clock::now());
  for (const auto& [op, times] : timed.times()) {
    if (times.seconds.empty()) continue;
    const auto& s = times.of.sizes;
    auto& [work, all] = found[{times.of.name, {s[0], s[1], s[2]}}];
    work = times.of.work;
    all.insert(all.end(), times.seconds.begin(), times.seconds.end());
  }
  return std::max(0.0, wall - timed.sum) / static_cast<double>(timed.count);
}

}  // namespace

MeasuredOps measure_ops(CpuBackend& cpu, double seconds, std::int64_t memory) {
  MeasuredOps out;
  Found found;
  std::vector<double> between;
  for (const Variant& v : variants) {
    if (v.precision == DType::bf16 && !multiplies_bf16(cpu.isa())) continue;
    const auto programs = programs_of(v, cpu.pool().threads());
    if (programs->memory.total() > memory) continue;
    between.push_back(
        measure(v, cpu, programs, seconds / static_cast<double>(std::size(variants)), found));
  }
  for (const auto& [key, value] : found) {
    const auto& [name, sizes] = key;
    const double rate = value.first / std::max(1e-9, median(value.second));
    out.ops.push_back({name, {sizes[0], sizes[1], sizes[2]}, std::max(1.0, rate)});
  }
  if (!between.empty()) out.between_ops = *std::min_element(between.begin(), between.end());
  return out;
}

Beside measure_beside(CpuBackend& cpu, double seconds) {
  constexpr std::int64_t copied = 8 << 20;
  std::vector<std::byte> from(copied), to(copied);
  const auto steps_for = [&](double share) {  // products a second
    ProductOptions how;
    how.seconds = share, how.tokens = 256, how.repeats = 3;
    double flops = 0, time = 0;
    for (const MeasuredProduct& p : measure_products(cpu, product_types()[0], how)) {
      if (p.of.count == 1) continue;
      flops += 2.0 * static_cast<double>(p.m) * static_cast<double>(p.k) * static_cast<double>(p.n);
      time += p.seconds;
    }
    return flops / time;
  };
  const double alone = steps_for(seconds / 2);
  std::atomic<bool> stop = false;
  double rate = 0;
  std::thread copier([&] {
    const Clock::time_point begin = Clock::now();
    std::int64_t copies = 0;
    for (; !stop.load(); ++copies) {
      std::memcpy(to.data(), from.data(), copied);
      asm volatile("" ::: "memory");
    }
    rate = 2.0 * static_cast<double>(copies * copied) / seconds_between(begin, Clock::now());
  });
  const double beside = steps_for(seconds / 2);
  stop = true;
  copier.join();
  return {std::max(1.0, rate), std::min(1.0, std::max(0.01, beside / alone))};
}

}  // namespace sluice
