#include "support/reference_model.h"

#include <algorithm>

#include "graph/backward.h"
#include "ops/reference.h"

namespace sluice::testing_support {
namespace {

ModelGraphs training_graphs(const MachineSpec& spec) {
  ModelGraphs model = build_forward(spec.model, spec.shape, spec.scales, spec.head_chunk);
  for (LayerGraph* graph : {&model.embedding, &model.block, &model.head}) derive_backward(*graph);
  add_update(model, spec.optim, spec.scales);
  return model;
}

ModelGraphs logits_graphs(const MachineSpec& spec) {
  ModelGraphs model = build_forward(spec.model, spec.shape, spec.scales, spec.head_chunk);
  loss_to_logits(model);
  return model;
}

std::vector<double> as_double(const auto& values) { return {values.begin(), values.end()}; }

}  // namespace

ReferenceModel::Walk::Walk(ModelGraphs made) : graphs(std::move(made)) {
  for (int layer = 0; layer <= graphs.layer_count(); ++layer) {
    std::vector<RefValue>& frame = frames.emplace_back();
    for (const Value& value : graphs.of(kind_of(layer)).values) {
      const auto count = static_cast<std::size_t>(value.type.shape.count());
      frame.push_back({value.type, std::vector<double>(count)});
      if (value.kind == ValueKind::global && globals[value.name].size() < count)
        globals[value.name].resize(count);
    }
  }
}

LayerKind ReferenceModel::Walk::kind_of(int layer) const {
  return layer == graphs.layer_count() ? LayerKind::step : graphs.kind_of(layer);
}

RefValue& ReferenceModel::Walk::value(int layer, const std::string& name) {
  const Id id = graphs.of(kind_of(layer)).require_value(name);
  return frames[static_cast<std::size_t>(layer)][static_cast<std::size_t>(id)];
}

std::int64_t ReferenceModel::Walk::first_norm(int layer) const {
  std::int64_t first = 0;
  for (int below = 0; below < layer; ++below)
    first += static_cast<std::int64_t>(graphs.of(kind_of(below)).parameters.size());
  return first;
}

// A layer's "norms" is its own part of the table; the step sees all of it.
std::span<double> ReferenceModel::Walk::global(int layer, const Value& value) {
  const bool part = value.name == "norms" && kind_of(layer) != LayerKind::step;
  const std::int64_t first = part ? first_norm(layer) : 0;
  return std::span(globals[value.name])
      .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(value.type.shape.count()));
}

int ReferenceModel::Walk::owner_of(const Value& value, int layer) const {
  if (value.owner == LayerKind::embedding) return 0;
  return value.owner == LayerKind::head ? graphs.layer_count() - 1 : layer;
}

void ReferenceModel::Walk::run(int layer, const std::vector<Op>& ops) {
  const LayerGraph& graph = graphs.of(kind_of(layer));
  std::vector<RefValue>& frame = frames[static_cast<std::size_t>(layer)];
  const auto borrowed = [&](const Value& v) {
    const bool may = v.kind == ValueKind::weight || v.kind == ValueKind::gradient;
    return may && v.owner != graph.kind;
  };
  for (std::size_t i = 0; i < frame.size(); ++i) {
    const Value& v = graph.values[i];
    if (v.kind == ValueKind::global)
      frame[i].numbers = as_double(global(layer, v));
    else if (v.kind == ValueKind::batch)
      frame[i].numbers = batch.at(v.name);
    else if (borrowed(v))
      frame[i].numbers = value(owner_of(v, layer), v.owner_name).numbers;
  }
  for (const Op& op : ops) reference(op, frame);
  for (std::size_t i = 0; i < frame.size(); ++i) {
    const Value& v = graph.values[i];
    if (v.kind == ValueKind::global) std::ranges::copy(frame[i].numbers, global(layer, v).begin());
    if (borrowed(v)) value(owner_of(v, layer), v.owner_name).numbers = frame[i].numbers;
  }
}

void ReferenceModel::Walk::forward() {
  for (int layer = 0; layer < graphs.layer_count(); ++layer) {
    const LayerGraph& graph = graphs.of(kind_of(layer));
    if (layer > 0) {
      const LayerGraph& below = graphs.of(kind_of(layer - 1));
      frames[static_cast<std::size_t>(layer)][static_cast<std::size_t>(graph.carry_in)].numbers =
          frames[static_cast<std::size_t>(layer - 1)][static_cast<std::size_t>(below.carry_out)]
              .numbers;
    }
    run(layer, graph.forward);
  }
}

void ReferenceModel::Walk::backward() {
  for (int layer = graphs.layer_count() - 1; layer >= 0; --layer) {
    const LayerGraph& graph = graphs.of(kind_of(layer));
    if (graph.d_carry_out != no_value) {
      const LayerGraph& above = graphs.of(kind_of(layer + 1));
      frames[static_cast<std::size_t>(layer)][static_cast<std::size_t>(graph.d_carry_out)].numbers =
          frames[static_cast<std::size_t>(layer + 1)][static_cast<std::size_t>(above.d_carry_in)]
              .numbers;
    }
    run(layer, graph.input_grad);
    run(layer, graph.weight_grad);
  }
}

ReferenceModel::ReferenceModel(const MachineSpec& spec)
    : vocab_(spec.model.vocab), training_(training_graphs(spec)), logits_(logits_graphs(spec)) {
  tensors_ = model_tensors(training_.graphs, spec.model);
}

void ReferenceModel::set_weights(const Tensors& weights) {
  for (const ModelTensor& one : tensors_)
    std::ranges::copy(weights.at(one.name), training_.value(one.layer, one.value).numbers.begin());
}

void ReferenceModel::give(Walk& walk, const Batch& batch, double lr, double number) {
  walk.batch["ids"] = as_double(batch.ids);
  walk.batch["targets"] = as_double(batch.targets);
  walk.batch["positions"] = as_double(batch.positions);
  walk.batch["starts"] = as_double(batch.starts);
  walk.batch["weights"] = as_double(batch.weights);
  walk.batch["control"] = {lr, number};
}

StepNumbers ReferenceModel::step(const Batch& batch, double lr, std::int64_t number) {
  give(training_, batch, lr, static_cast<double>(number));
  training_.forward();
  training_.backward();
  const int layers = training_.graphs.layer_count();
  for (int layer = 0; layer < layers; ++layer)
    training_.run(layer, training_.graphs.of(training_.kind_of(layer)).norm);
  training_.run(layers, training_.graphs.step.forward);
  for (int layer = 0; layer < layers; ++layer)
    training_.run(layer, training_.graphs.of(training_.kind_of(layer)).update);
  const double* row = training_.globals["results"].data() + number % 2 * Results::slots;
  weight_sum_ = row[Results::weight];
  return {row[Results::loss], row[Results::grad_norm], weight_sum_, row[Results::finite] != 0};
}

Tensors ReferenceModel::read(const std::string& prefix, double factor) const {
  Tensors out;
  for (const ModelTensor& one : tensors_) {
    const std::vector<double>& numbers = training_.value(one.layer, prefix + one.value).numbers;
    std::vector<double>& to = out[one.name];
    to.assign(numbers.begin(), numbers.begin() + one.bytes / 4);
    for (double& number : to) number *= factor;
  }
  return out;
}

Tensors ReferenceModel::weights() const { return read("", 1); }

Tensors ReferenceModel::gradients() const { return read("d.", 1 / weight_sum_); }

std::vector<double> ReferenceModel::logits(const Batch& batch) {
  for (const ModelTensor& one : tensors_)
    logits_.value(one.layer, one.value).numbers = training_.value(one.layer, one.value).numbers;
  give(logits_, batch, 0, 0);
  logits_.forward();
  const std::vector<double>& all = logits_.globals["logits"];
  const std::int64_t padded = padded_vocab(vocab_);
  std::vector<double> out;
  for (std::size_t row = 0; row < batch.ids.size(); ++row) {
    const auto at = all.begin() + static_cast<std::int64_t>(row) * padded;
    out.insert(out.end(), at, at + vocab_);
  }
  return out;
}

}  // namespace sluice::testing_support
