// For tests of this room: a small model with random weights on the CPU backend, and the same
// mathematics as a double-precision walk over its uncached graphs, ops' reference loops one after
// the other.
#pragma once

#include <cmath>
#include <memory>
#include <vector>

#include "backend/cpu/cpu.h"
#include "core/random.h"
#include "executor/executor.h"
#include "inference/assembly.h"
#include "ops/reference.h"

namespace sluice {

using Logits = std::vector<std::vector<double>>;  // [token][vocab]

class TestModel {
 public:
  TestModel(const ModelConfig& config, const InferenceOptions& options)
      : config_(config), backend_({2, best_isa()}) {
    InferenceOptions with_threads = options;
    with_threads.build.workers.threads = 2;
    const auto programs = std::make_shared<const ProgramSet>(
        assemble_inference(config, standard_parametrization(), with_threads));
    executor_ = std::make_unique<Executor>(backend_, programs, ExecutorOptions{});
    const ModelGraphs& model = *programs->model;
    for (int layer = 0; layer < model.layer_count(); ++layer)
      for (const Parameter& p : model.of(model.kind_of(layer)).parameters) fill(layer, p);
    executor_->enqueue(programs->index_of("derive"), {});
    executor_->drain();
  }

  Executor& executor() { return *executor_; }
  const ModelConfig& config() const { return config_; }

  // Logits of every token of `ids`, in one uncached pass in double precision.
  Logits logits(const std::vector<std::int32_t>& ids) const {
    const auto time = static_cast<std::int64_t>(ids.size());
    const ModelGraphs model = build_forward(config_, {1, time}, standard_parametrization(), 64);
    RefValue carry;
    Logits out;
    for (int layer = 0; layer < model.layer_count(); ++layer) {
      LayerGraph graph = model.of(model.kind_of(layer));
      const Id logits = layer + 1 == model.layer_count() ? loss_to_logits(graph, time) : no_value;
      std::vector<RefValue> frame = frame_of(graph, layer, ids);
      if (graph.carry_in != no_value) frame[static_cast<std::size_t>(graph.carry_in)] = carry;
      for (const Op& op : graph.forward) reference(op, frame);
      if (graph.carry_out != no_value) carry = frame[static_cast<std::size_t>(graph.carry_out)];
      if (logits == no_value) continue;
      const std::vector<double>& all = frame[static_cast<std::size_t>(logits)].numbers;
      const std::int64_t padded = padded_vocab(config_.vocab);
      for (std::int64_t t = 0; t < time; ++t)
        out.emplace_back(all.begin() + t * padded, all.begin() + t * padded + config_.vocab);
    }
    return out;
  }

 private:
  void fill(int layer, const Parameter& p) {
    const Tensor tensor = executor_->tensor(layer, p.name);
    const std::uint64_t stream = stream_of(p.name) + static_cast<std::uint64_t>(layer);
    const bool gain = p.init.kind == Init::Kind::ones;
    for (std::int64_t i = 0; i < p.count(); ++i)
      tensor.data<float>()[i] =
          (gain ? 1.0F : 0.0F) + 0.15F * random_normal(3, stream, static_cast<std::uint64_t>(i));
  }

  static Id loss_to_logits(LayerGraph& graph, std::int64_t time) {
    const HeadLoss loss = std::get<HeadLoss>(graph.forward.back());
    const Shape shape{{Axis::batch, 1}, {Axis::time, time}, graph[loss.w].type.shape[0]};
    const Id logits = graph.add_value("logits", {DType::f32, shape}, ValueKind::activation);
    graph.forward.back() = Linear{loss.x, loss.w, loss.bias, logits, true, loss.scale};
    return logits;
  }

  std::vector<RefValue> frame_of(const LayerGraph& graph, int layer,
                                 const std::vector<std::int32_t>& ids) const {
    std::vector<RefValue> frame;
    for (const Value& value : graph.values) {
      RefValue ref{value.type,
                   std::vector<double>(static_cast<std::size_t>(value.type.shape.count()))};
      if (value.kind == ValueKind::weight) {
        const bool borrowed = value.owner != graph.kind;
        const Tensor tensor = borrowed ? executor_->tensor(0, value.owner_name)
                                       : executor_->tensor(layer, value.name);
        ref.numbers.assign(tensor.data<float>(), tensor.data<float>() + tensor.count());
      }
      if (value.name == "ids") ref.numbers.assign(ids.begin(), ids.end());
      for (std::size_t t = 0; value.name == "positions" && t < ids.size(); ++t)
        ref.numbers[t] = static_cast<double>(t);
      frame.push_back(std::move(ref));
    }
    return frame;
  }

  ModelConfig config_;
  CpuBackend backend_;
  std::unique_ptr<Executor> executor_;
};

inline std::vector<std::int32_t> random_ids(std::int64_t count, std::int64_t vocab,
                                            std::uint64_t seed) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int32_t>(
        random_bits(seed, stream_of("ids"), static_cast<std::uint64_t>(i)) %
        static_cast<std::uint32_t>(vocab)));
  return ids;
}

// ‖a − b‖ / ‖b‖ over the numbers of one token.
template <class A, class B>
double distance(const A& a, const B& b) {
  double off = 0, norm = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    off += (a[i] - b[i]) * (a[i] - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(off / norm);
}

inline ModelConfig small_model(const std::string& family, std::int64_t context) {
  ModelConfig config;
  config.family = family;
  config.layers = 2;
  config.heads = family == "gptj" ? 2 : 5;
  config.width = family == "gptj" ? 48 : 40;
  config.rotary = family == "gptj" ? 8 : 0;
  config.tied = family != "gptj";
  config.context = context;
  config.vocab = 203;
  check(config);
  return config;
}

}  // namespace sluice
