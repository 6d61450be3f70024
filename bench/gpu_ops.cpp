// Where does the GPU's time of a training step go, and what is the limit of each kind of op?
//
//   bench_gpu_ops CONFIG [--steps 3] [--algorithms FILE] [--first-answers] [--section.key=value]...
//
// Trains a few steps as `sluice train` does, a mark in the stream before and after each op. Prints
// for each kind of op its time on the GPU, and the time that its FLOPs or its bytes take at rates
// that were measured on an H200. FILE keeps the table of algorithms; --first-answers: none is
// tuned. The last rows: what no op ran in, and how long the host took to enqueue.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <iostream>
#include <map>

#include "backend/around.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/gpu.h"
#include "train/algorithms.h"
#include "train/assembly.h"
#include "train/trainer.h"

namespace sluice {
namespace {

constexpr double flops_rate = 660e12, bytes_rate = 4.3e12;

double host_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Row {
  double seconds = 0, flops = 0, bytes = 0;
  std::int64_t calls = 0;
};

// A mark before and after each op. One lane computes, so nothing is locked.
class Marked final : public AroundBackend {
 public:
  explicit Marked(CudaBackend& inner) : AroundBackend(inner), gpu_(inner) {}

  void run(const Op& op, const Frame& frame) override {
    if (!on) return AroundBackend::run(op, frame);
    if (used_ == marks_.size()) marks_.emplace_back();
    Pair& pair = marks_[used_++];
    const double begin = host_now();
    pair.begin.record(gpu_.stream());
    AroundBackend::run(op, frame);
    pair.end.record(gpu_.stream());
    host_seconds += host_now() - begin;
    types_.clear();
    for (const Tensor& value : frame.values) types_.push_back({value.dtype(), value.shape()});
    const Cost cost = sluice::cost(op, types_);
    Row& row = rows[label(op, frame)];
    row.flops += cost.flops, row.bytes += cost.read_bytes + cost.write_bytes;
    ++row.calls;
    pair.row = &row;
  }

  // After the device has ended: times go to their rows. Returns first mark to last.
  double collect() {
    for (std::size_t i = 0; i < used_; ++i)
      marks_[i].row->seconds += marks_[i].end.seconds_since(marks_[i].begin);
    const double all = used_ == 0 ? 0 : marks_[used_ - 1].end.seconds_since(marks_[0].begin);
    used_ = 0;
    return all;
  }

  bool on = false;
  double host_seconds = 0;
  std::map<std::string, Row> rows;

 private:
  struct Pair {
    CudaTimer begin, end;
    Row* row = nullptr;
  };
  // Products by what they map.
  static std::string label(const Op& op, const Frame& frame) {
    const auto sizes = [&](Id x, Id y) {
      return fmt::format(" {}>{}", features(frame[x].shape()), features(frame[y].shape()));
    };
    std::string out(name_of(op));
    if (const auto* one = std::get_if<Linear>(&op)) out += sizes(one->x, one->y);
    if (const auto* one = std::get_if<LinearGelu>(&op)) out += sizes(one->x, one->y);
    if (const auto* one = std::get_if<LinearGradInput>(&op)) out += sizes(one->dy, one->dx);
    if (const auto* one = std::get_if<LinearGeluGrad>(&op)) out += sizes(one->dy, one->dh);
    if (const auto* one = std::get_if<LinearGradWeight>(&op))
      if (frame.has(one->dw)) out += sizes(one->x, one->dy);
    return out;
  }

  CudaBackend& gpu_;
  std::deque<Pair> marks_;
  std::size_t used_ = 0;
  std::vector<ValueType> types_;
};

struct Request {
  std::string config, algorithms;
  int steps = 3;
  bool first_answers = false;
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
    if (word == "--steps")
      out.steps = std::stoi(value());
    else if (word == "--algorithms")
      out.algorithms = value();
    else if (word == "--first-answers")
      out.first_answers = true;
    else if (word.starts_with("--"))
      out.overrides.push_back(word.substr(2));
    else
      out.config = word;
  }
  return out;
}

void print(const Marked& marked, double all, double wall, int steps, std::int64_t tokens) {
  std::vector<std::pair<std::string, Row>> sorted(marked.rows.begin(), marked.rows.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  const double unit = 1e6 / static_cast<double>(tokens) / steps;
  fmt::print("{:<32}{:>7}{:>10}{:>8}{:>10}{:>9}{:>9}{:>9}\n", "op", "calls", "us/token", "share",
             "limit", "TFLOP/s", "TB/s", "us/call");
  double ops = 0;
  for (const auto& [name, row] : sorted) {
    ops += row.seconds;
    const double limit = std::max(row.flops / flops_rate, row.bytes / bytes_rate);
    fmt::print("{:<32}{:>7}{:>10.4f}{:>7.1f}%{:>10.4f}{:>9.1f}{:>9.2f}{:>9.1f}\n", name,
               row.calls / steps, row.seconds * unit, 100 * row.seconds / all, limit * unit,
               row.flops / row.seconds / 1e12, row.bytes / row.seconds / 1e12,
               1e6 * row.seconds / static_cast<double>(row.calls));
  }
  fmt::print("{:<32}{:>7}{:>10.4f}{:>7.1f}%\n", "between ops", "", (all - ops) * unit,
             100 * (all - ops) / all);
  fmt::print("{:<32}{:>7}{:>10.4f}\n", "first mark to last", "", all * unit);
  fmt::print("{:<32}{:>7}{:>10.4f}\n", "the host's enqueueing, marked", "",
             marked.host_seconds * unit);
  fmt::print("{:<32}{:>7}{:>10.4f}  {:.0f} tokens/s\n", "a step without marks", "", wall * unit,
             static_cast<double>(tokens) * steps / wall);
}

int run(int count, char** arguments) {
  const Request request = parse(count, arguments);
  Config config = load_config(request.config);
  apply_overrides(config, request.overrides);
  const Plan plan = plan_of(config);
  TokenFile tokens(config.data.train);
  tokens.limit_ids(static_cast<int>(config.model.vocab));
  const TrainingBatches batches(tokens, {.sequence = config.batch.sequence}, 0);
  const auto programs = std::make_shared<const ProgramSet>(assemble_training(config, plan, 1));
  const int index = cuda_index(config.plan.device);
  CudaBackend gpu((cuda_device(index), index));
  if (!request.first_answers) {
    const auto settled = settle_algorithms(gpu, training_products(gpu, *programs),
                                           {.cache_file = request.algorithms});
    for (const std::string& line : settled.messages) fmt::print("{}\n", line);
    for (const auto& [shape, tuned] : settled.table.products)
      fmt::print("{:<72} {:8.1f} us, first answer {:8.1f} us {:+.1f}%{}\n", shape.text(),
                 1e6 * tuned.seconds, 1e6 * tuned.first_seconds,
                 100 * (tuned.seconds / tuned.first_seconds - 1), tuned.own ? " own" : "");
  }
  Marked marked(gpu);
  Trainer trainer(config, plan, marked, programs, batches, {});
  trainer.initialize();
  trainer.derive();
  int step = 0;
  const auto steps = [&](int many) {
    for (int i = 0; i < many; ++i) {
      trainer.enqueue(++step);
      if (i > 0) trainer.result(step - 1);
    }
    trainer.result(step);
  };
  steps(3);
  const double begin = host_now();
  steps(request.steps);
  const double wall = host_now() - begin;
  double all = 0;
  for (int i = 0; i < request.steps; ++i) {
    marked.on = true;
    steps(1);
    marked.on = false;
    gpu.finish();
    all += marked.collect();
  }
  const StepResult last = trainer.result(step);
  fmt::print("{}: {} sequences of {} at once, {} tokens a step; loss {:.4f}\n", request.config,
             plan.micro_batch, config.batch.sequence, config.batch.tokens, last.loss);
  print(marked, all, wall, request.steps, config.batch.tokens);
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int count, char** arguments) {
  try {
    return sluice::run(count, arguments);
  } catch (const sluice::Error& error) {
    std::cerr << error.text(true);
    return static_cast<int>(error.code());
  }
}
